"""Pixels in, more pixels out: interpolations and networks, by name or file. No rasters."""
