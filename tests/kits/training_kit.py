"""Small images and a tiny network, for tests of training. Nothing under test has a hand in the images."""

from __future__ import annotations

import itertools

import numpy as np
import rasterio
from rasterio.transform import Affine
from scipy import ndimage

from geosegsr.training.config import resolve_config

PIXEL = 2.0

# A network of a few thousand numbers: it learns nothing worth while, but everything around it is real.
TINY = {
    "width": 8,
    "depths": [1],
    "modulation_width": 16,
    "tower_width": 16,
    "tower_layers": 1,
    "tower_heads": 2,
    "tower_patch": 8,
    "tower_grid": 2,
    "tower_output": 16,
    "prompt_heads": 2,
}


def ground(count, height, width, seed=0):
    """Shapes and grain, float64 in 0 to 1, shape (count, height, width)."""
    rng = np.random.default_rng(seed)
    coarse = ndimage.gaussian_filter(rng.standard_normal((count, height, width)), (0, 6, 6), mode="wrap") * 14
    fine = ndimage.gaussian_filter(rng.standard_normal((count, height, width)), (0, 1, 1), mode="wrap")
    field = coarse + fine
    low, high = field.min(), field.max()
    return (field - low) / (high - low)


def write(path, array, *, east=500_000.0, north=5_000_000.0, pixel=PIXEL, crs="EPSG:32633", **profile):
    """A GeoTIFF of (bands, h, w); its upper left corner at (east, north)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = array.shape
    place = {} if crs is None else {"crs": crs, "transform": Affine(pixel, 0, east, 0, -pixel, north)}
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=count,
        dtype=array.dtype,
        **place,
        **profile,
    ) as out:
        out.write(array)
    return path


def as_dtype(field, dtype):
    """0 to 1 in the range that is usual for a dtype."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return (field * 0.6 + 0.05).astype(dtype)
    top = {1: 200, 2: 6000}[dtype.itemsize]
    return np.rint(field * top + 20).astype(dtype)


def folder_of(root, number=4, count=3, size=(64, 72), dtype="uint8", apart=1000.0):
    """Images of different places, side by side."""
    for i in range(number):
        write(
            root / f"place_{i}.tif", as_dtype(ground(count, *size, seed=i), dtype), east=500_000 + apart * i
        )
    return root


def tiny_config(hr, **changes):
    """A run of a few steps on one thread, in float32."""
    settings = {
        "data.hr": [str(hr)] if not isinstance(hr, list) else hr,
        "data.patch": 8,
        "data.val_share": 0.25,
        "model.scale": 2,
        "model.changes": TINY,
        "optimiser.batch": 2,
        "schedule.steps": 6,
        "validation.every": 3,
        "validation.tile": 32,
        "validation.bundled": False,
        "checkpoint_every": 2,
        "device": "cpu",
        "precision": "fp32",
        "threads": 1,
    }
    return resolve_config("compact", None, {**settings, **changes})


def ticking(tick):
    """A clock that moves on by `tick` seconds each time it is read, however busy the machine is."""
    return itertools.count(0.0, tick).__next__
