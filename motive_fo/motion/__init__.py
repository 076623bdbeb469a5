"""From displacement to what the loss and the user need: a mask on the latent grid, and a description in pixels."""
