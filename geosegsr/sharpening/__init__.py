"""Coarse bands of a scene brought to the grid of its sharper bands: blur, features, fit, and the scene that results."""
