"""What a raster is: its pixels, bands, metadata and place, read by windows and written as COGs. No networks."""
