"""Bad inputs by the hundred and faults at random moments: what the product makes of them."""
