"""The FiftyOne layer: datasets in, fields, saved views and run records out. The only package that imports FiftyOne."""
