"""Click logs: published formats, sessions and periods, the dataset on disk, lanes and blocks, a simulated shop (no JAX here)."""
