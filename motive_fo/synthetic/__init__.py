"""Rendered clips with known motion: for tests, demonstrations and for training the embedded model."""
