"""Pages for people: one HTML file each, nothing loaded from elsewhere, everything that is shown escaped."""
