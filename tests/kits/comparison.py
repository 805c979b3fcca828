"""Whether two results are the same raster."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio

from geosegsr.raster.tiff import TILE_OFFSETS, TILE_SIZES, directories


def file_differences(found: Path, wanted: Path) -> list[str]:
    """What differs in pixels, validity, layout and metadata; empty if nothing does."""
    with rasterio.open(found) as a, rasterio.open(wanted) as b:
        facts = {
            "pixels": a.read().tobytes() == b.read().tobytes(),
            "validity": np.array_equal(a.read_masks(), b.read_masks()),
            "profile": str(a.profile) == str(b.profile),
            "tags": a.tags() == b.tags(),
            "tags of bands": all(a.tags(band) == b.tags(band) for band in a.indexes),
        }
    return [what for what, same in facts.items() if not same]


def cog_differences(found: Path, wanted: Path) -> list[str]:
    """As `file_differences`, at every level, and of every TIFF tag but the places and sizes of tiles."""
    differences = file_differences(found, wanted)
    with rasterio.open(wanted) as source:
        levels = len(source.overviews(1))
    for level in range(levels):
        with (
            rasterio.open(found, overview_level=level) as a,
            rasterio.open(wanted, overview_level=level) as b,
        ):
            if not (
                a.read().tobytes() == b.read().tobytes() and np.array_equal(a.read_masks(), b.read_masks())
            ):
                differences.append(f"overview {level}")
    ours, theirs = (directories(path.read_bytes()) for path in (found, wanted))
    if len(ours) != len(theirs):
        return [*differences, f"directories: {len(ours)} and {len(theirs)}"]
    for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        tags = {*a.fields, *b.fields} - {TILE_OFFSETS, TILE_SIZES}
        differences += [f"directory {number}: tag {tag}" for tag in tags if a.raw(tag) != b.raw(tag)]
    return differences
