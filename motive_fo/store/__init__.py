"""Where computed numbers live: one Zarr v3 group per run, resumable clip by clip."""
