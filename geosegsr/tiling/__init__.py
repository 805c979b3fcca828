"""A grid of tiles over a scene, and blocks of output from the tiles that touch them. No files."""
