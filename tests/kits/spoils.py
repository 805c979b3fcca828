"""Painted ground, the input that a sensor makes of it, and results: the truth itself, and spoiled ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from scipy import ndimage

from geosegsr.models.interpolation import Interpolator
from geosegsr.sensor.degradation import imresize_down

SCALE = 4
SIDE = 192  # input pixels


def ground(seed: int = 0, side: int = SIDE) -> np.ndarray:
    """Fields, roofs and texture, shape (3, 4 * side, 4 * side), in DN."""
    rng = np.random.default_rng(seed)
    size = side * SCALE
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None])
    frequency[0, 0] = 1
    noise = np.fft.fft2(rng.normal(size=(size, size)))
    texture = np.fft.ifft2(noise / frequency**1.4).real
    plane = 100 + 22 * texture / texture.std()
    for _ in range(size // 8):
        row, col = rng.integers(0, size - 40, 2)
        height, width = rng.integers(10, 40, 2)
        plane[row : row + height, col : col + width] += rng.normal(0, 30)
    lake = slice(size // 8, size // 3)
    plane[lake, lake] = 60
    plane = ndimage.gaussian_filter(plane, 0.8)
    return np.clip(np.stack([plane, 0.9 * plane + 12, 0.7 * plane + 20]), 5, 250).astype(np.float32)


def write(path: Path, values: np.ndarray, pixel: float, nodata: float | None = None, **tags: str) -> Path:
    """Whole numbers as a uint8 GeoTIFF."""
    bands, height, width = values.shape
    profile = {
        "driver": "GTiff", "count": bands, "height": height, "width": width, "dtype": "uint8", "nodata": nodata,
        "crs": "EPSG:32633", "transform": Affine(pixel, 0, 500000, 0, -pixel, 5200000),
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as out:
        out.write(np.clip(np.rint(values), 0, 255).astype(np.uint8))
        out.update_tags(**tags)
    return path


def tags(sensor: str = "") -> dict[str, str]:
    """As `upscale` writes them."""
    options = {"tile": [96, 96], "overlap": 16, "bands": [1, 2, 3], "window": [0, 0, SIDE, SIDE]}
    found = {
        "GEOSEGSR_SCALE": str(SCALE),
        "GEOSEGSR_OPTIONS": json.dumps(options),
        "GEOSEGSR_MODEL": "painted",
    }
    return found | ({"GEOSEGSR_SENSOR": sensor} if sensor else {})


def seams(hr: np.ndarray) -> np.ndarray:
    """Tiles of 80 input pixels whose levels differ."""
    side = 80 * SCALE
    level = np.random.default_rng(3).normal(0, 4, (20, 20))
    index = np.arange(hr.shape[1]) // side
    return hr + level[np.ix_(index, index)]


def colour(hr: np.ndarray) -> np.ndarray:
    """One band is brighter."""
    return hr + np.array([5, 0, 0])[:, None, None]


def strokes(hr: np.ndarray) -> np.ndarray:
    """Noise drawn out along lines, as networks do that take it for ground."""
    rng = np.random.default_rng(5)
    noise = rng.normal(size=hr.shape[1:])
    down, across = (ndimage.gaussian_filter(noise, sigma) for sigma in ((6, 0.7), (0.7, 6)))
    which = ndimage.gaussian_filter(rng.normal(size=noise.shape), 24) > 0
    return hr + 5 * np.where(which, down / down.std(), across / across.std())


def wrong_model(hr: np.ndarray) -> np.ndarray:
    """A network that learned another sensor: every edge rings, and textures are its own."""
    blurred = ndimage.gaussian_filter(hr, (0, 5, 5))
    return (
        hr
        + 1.2 * (hr - blurred)
        + ndimage.gaussian_filter(np.random.default_rng(7).normal(0, 60, hr.shape), (0, 2, 2))
    )


SPOILS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "seams": seams, "colour": colour, "noise": strokes, "model": wrong_model,
}  # fmt: skip
"""By the topic of the finding that must name it."""


def sound_pair(folder: Path, *, nodata: bool = False) -> tuple[Path, Path]:
    """An input, and the truth as its result."""
    hr = ground()
    lr = imresize_down(hr, SCALE)
    if nodata:
        lr[:, :40, :90] = 0
        hr[:, : 40 * SCALE, : 90 * SCALE] = 0
    known = 0.0 if nodata else None
    return (
        write(folder / "scene.tif", lr, 2.0, known),
        write(folder / "sound.tif", hr, 0.5, known, **tags()),
    )


def spoiled(source: Path, folder: Path, topic: str) -> Path:
    """The sound result beside `source`, with one spoil."""
    with rasterio.open(source.with_name("sound.tif")) as sound:
        hr = sound.read().astype(np.float32)
    return write(folder / f"{topic}.tif", SPOILS[topic](hr), 0.5, **tags())


def bicubic(lr: np.ndarray) -> np.ndarray:
    """By bicubic interpolation."""
    return Interpolator("bicubic", SCALE)(lr[None].astype(np.float32))[0]
