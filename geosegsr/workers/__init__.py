"""Who computes the blocks: threads, processes of this machine, or a Dask cluster."""
