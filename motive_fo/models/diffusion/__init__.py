"""Video diffusion models in diffusers' folders (or the Hugging Face cache), each a small file over one base."""
