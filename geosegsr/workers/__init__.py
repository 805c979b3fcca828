"""Threads, processes of this machine, or a Dask cluster that compute the blocks."""
