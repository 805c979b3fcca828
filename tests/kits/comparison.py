"""Whether two results are the same raster."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio


def file_differences(found: Path, wanted: Path) -> list[str]:
    """What differs in pixels, validity, layout and metadata; empty if nothing does."""
    with rasterio.open(found) as a, rasterio.open(wanted) as b:
        facts = {
            "pixels": np.array_equal(a.read(), b.read()),
            "validity": np.array_equal(a.read_masks(), b.read_masks()),
            "profile": a.profile == b.profile,
            "tags": a.tags() == b.tags(),
            "tags of bands": all(a.tags(band) == b.tags(band) for band in a.indexes),
        }
    return [what for what, same in facts.items() if not same]
