"""Attributed video diffusion models behind one protocol."""
