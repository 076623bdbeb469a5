"""The embedded model: a small text-to-video diffusion model, trained on rendered scenes, weights included."""
