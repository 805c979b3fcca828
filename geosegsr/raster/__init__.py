"""Rasters: pixels, bands, metadata and georeferencing, read by windows and written as COGs. No networks."""
