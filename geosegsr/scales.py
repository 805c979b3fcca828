"""The factors that models exist for."""

SCALES = (2, 3, 4, 8)
"""Output pixels per input pixel, along each side."""
