"""Measurements that are kept: each script prints a table and writes ``results/NAME.json``, goals included."""
