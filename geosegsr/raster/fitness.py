"""Which rasters cannot be upscaled, and why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from geosegsr.errors import BandError, SceneError, UnsuitableError
from geosegsr.notices import warn
from geosegsr.raster.texts import band_names

_MOST_BANDS = 4096  # imaging spectrometers have hundreds; a header of a few bytes can claim 65,535
_MOST_BLOCK_BYTES = (
    256_000_000  # of the file's own blocks: each thread unpacks one as a whole, however little is read
)


def refuse_unfit(source: Any, path: str) -> None:
    """Refuse a raster that holds no measured bands, or too much to be read by windows.

    Raises:
        UnsuitableError: The raster cannot be upscaled.
        SceneError: It holds other rasters only.
    """
    if source.count == 0:
        found = source.subdatasets
        listed = ", ".join(f"'{name}'" for name in found[:5])
        raise SceneError(
            f"Cannot upscale '{path}': it has no raster bands of its own but {len(found)} subdatasets. "
            f"Pass one of them instead of the file: {listed}."
        )
    if source.count > _MOST_BANDS:
        raise UnsuitableError(
            f"Cannot upscale '{path}': it has {source.count:,} bands, more than {_MOST_BANDS:,}. "
            "Extract some of them first: gdal_translate -b 1 -b 2 IN OUT."
        )
    if any(
        np.dtype(dtype).kind == "c" for dtype in source.dtypes if not dtype.startswith("complex_int")
    ) or any(dtype.startswith("complex_int") for dtype in source.dtypes):
        raise UnsuitableError(
            f"Cannot upscale '{path}': its pixels are complex ({source.dtypes[0]}). "
            "Convert it to real numbers first, such as amplitudes."
        )
    _refuse_large_blocks(source, path)


def warn_of_white_zero(source: Any, path: str) -> None:
    """Say that grey turns round: GDAL gives it a colour table from white to black, and a COG stores 0 as black."""
    if has_white_zero(source):
        warn(
            f"'{path}' shows 0 as white (MINISWHITE), and the result shows it as black: the values stay the same"
        )


def has_white_zero(source: Any) -> bool:
    """Whether a grey raster shows 0 as white; source is an open dataset."""
    tagged: bool = source.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES"
    return tagged and source.colorinterp[0].name != "palette"


def refuse_masks_of_bands(source: Any, bands: tuple[int, ...], path: str) -> None:
    """Refuse bands that have different masks: a COG holds one mask for all.

    Raises:
        UnsuitableError: The bands have masks of their own.
    """
    if all(source.mask_flag_enums[band - 1] for band in bands):
        return
    raise UnsuitableError(
        f"Cannot upscale '{path}': each of its bands has its own mask, and a COG holds one mask for all bands. "
        "Use the first band's mask for all: gdal_translate -mask mask,1 IN OUT."
    )


def _refuse_large_blocks(source: Any, path: str) -> None:
    """Refuse strips or tiles that are too large: each is decoded as a whole, and a small file can claim any size."""
    together = source.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE") == "PIXEL"
    pixel = (
        sum(np.dtype(dtype).itemsize for dtype in source.dtypes)
        if together
        else np.dtype(source.dtypes[0]).itemsize
    )
    rows, cols = source.block_shapes[0]
    if rows * cols * pixel > _MOST_BLOCK_BYTES:
        raise UnsuitableError(
            f"Cannot upscale '{path}': its blocks of {cols} x {rows} pixels hold {rows * cols * pixel / 1e6:,.0f} MB each, "
            f"more than {_MOST_BLOCK_BYTES / 1e6:.0f} MB, and GDAL reads each as a whole. "
            "Store it in tiles first: gdal_translate -co TILED=YES IN OUT."
        )


def selected_bands(source: Any, bands: Sequence[int | str] | None, path: str) -> list[int]:
    """The 1-based bands to read, all by default; named ones by their descriptions.

    Args:
        source: rasterio's dataset.
        bands: Numbers or names.
        path: What messages call the file: a part of a product has no name of its own.

    Raises:
        BandError: There are no such bands, one is named twice, or they have different dtypes.
    """
    selected = [_number(source, band, path) for band in (source.indexes if bands is None else bands)]
    wrong = [band for band in selected if band not in source.indexes]
    if wrong or not selected:
        raise BandError(
            f"Cannot read band {', '.join(map(str, wrong)) or '(none)'} of '{path}': it has bands 1 to "
            f"{source.count}. Pass --bands with numbers from that range."
        )
    if len(set(selected)) < len(selected):
        raise BandError(
            f"Cannot use bands {selected} of '{path}': each band may be named once. Pass --bands without repetition."
        )
    dtypes = source.dtypes
    kinds = sorted({dtypes[band - 1] for band in selected})
    if len(kinds) > 1:
        raise BandError(
            f"Cannot upscale '{path}': its bands have different dtypes ({', '.join(kinds)}). "
            "Pass --bands with bands of one dtype."
        )
    return selected


def _number(source: Any, band: int | str, path: str) -> int:
    """The 1-based number of a band that may be named."""
    if not isinstance(band, str):
        return band
    names = band_names(source, path)
    found = [number for number, name in enumerate(names, 1) if name == band]
    if len(found) != 1:
        known = ", ".join(name for name in names if name)
        has = f"the names of its bands are {known}" if known else "its bands have no names"
        raise BandError(
            f"Cannot find a band '{band}' in '{path}': {has}. "
            f"Pass --bands with {'these, or with ' if known else ''}numbers from 1 to {source.count}."
        )
    return found[0]


def nodata_of(source: Any, bands: tuple[int, ...], override: float | None, path: str) -> float | None:
    """The one nodata value of the image bands, or None."""
    dtype = np.dtype(source.dtypes[bands[0] - 1])
    if override is not None:
        if not fits(override, dtype):
            raise BandError(
                f"Cannot use nodata {override:g} for '{path}': no {dtype} pixel can have that value. "
                f"Pass --nodata with a whole number from {np.iinfo(dtype).min} to {np.iinfo(dtype).max}."
            )
        return _as_read(float(override), dtype)
    declared = source.nodatavals
    found = {declared[band - 1] for band in bands}
    if len({str(value) for value in found}) > 1:
        raise SceneError(
            f"Cannot upscale '{path}': its bands have different nodata values "
            f"({', '.join(sorted(map(str, found)))}), and a GeoTIFF holds one. "
            "Pass --nodata V, or --bands with bands of one nodata value."
        )
    nodata: float | None = found.pop()
    if nodata is not None and not fits(nodata, dtype):
        warn(f"'{path}' declares nodata {nodata:g}, which no {dtype} pixel can have: nodata is ignored")
        return None
    return None if nodata is None else _as_read(nodata, dtype)


def _as_read(nodata: float, dtype: np.dtype[Any]) -> float:
    """What GDAL reads where a TIFF of that dtype holds a value: the largest float32 for one that only rounds to it."""
    largest = float(np.finfo(np.float32).max)
    if dtype == np.float32 and math.isclose(abs(nodata), largest, rel_tol=1e-6):
        return math.copysign(largest, nodata)
    return nodata


def fits(value: float, dtype: np.dtype[Any]) -> bool:
    """Whether a pixel of that dtype can have the value."""
    if dtype.kind == "f":
        return True
    info = np.iinfo(dtype)
    return bool(np.isfinite(value)) and value == int(value) and info.min <= value <= info.max
