"""Creation options of GDAL's COG driver: defaults, and checks of what a user passes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from geosegsr.errors import ConfigError, did_you_mean
from geosegsr.raster.metadata import Metadata

DEFAULT_OPTIONS = {
    "COMPRESS": "DEFLATE",
    "LEVEL": "1",  # level 6 takes 1.2 times as long and saves nothing on imagery
    "PREDICTOR": "YES",
    "BLOCKSIZE": "512",
    "OVERVIEWS": "IGNORE_EXISTING",
    "OVERVIEW_RESAMPLING": "AVERAGE",
    "BIGTIFF": "IF_SAFER",
    "NUM_THREADS": "ALL_CPUS",
    "STATISTICS": "AUTO",  # those of the source, which come from the blocks
}
# GDAL's COG driver logs no more than a warning about an unknown option.
_KNOWN_OPTIONS = {
    *DEFAULT_OPTIONS,
    "ADD_ALPHA", "ALIGNED_LEVELS", "EXTENT", "GEOTIFF_VERSION", "INTERLEAVE", "JXL_ALPHA_DISTANCE", "JXL_DISTANCE",
    "JXL_EFFORT", "JXL_LOSSLESS", "MAX_Z_ERROR", "MAX_Z_ERROR_OVERVIEW", "NBITS", "OVERVIEW_COMPRESS",
    "OVERVIEW_COUNT", "OVERVIEW_PREDICTOR", "OVERVIEW_QUALITY", "PROFILE", "QUALITY", "RES", "RESAMPLING",
    "SPARSE_OK", "TARGET_SRS", "TILING_SCHEME", "WARP_RESAMPLING", "ZOOM_LEVEL", "ZOOM_LEVEL_STRATEGY",
}  # fmt: skip
_COMPRESSIONS = "NONE LZW JPEG DEFLATE LZMA ZSTD WEBP LERC LERC_DEFLATE LERC_ZSTD JXL"
_PREDICTORS = "YES NO STANDARD FLOATING_POINT 2 3"
_RESAMPLINGS = "NEAREST AVERAGE BILINEAR CUBIC CUBICSPLINE LANCZOS MODE RMS"
# It also replaces an unknown value by its default, and some values end the process.
_CHOICES = {
    "COMPRESS": _COMPRESSIONS,
    "OVERVIEW_COMPRESS": f"AUTO {_COMPRESSIONS}",
    "PREDICTOR": _PREDICTORS,
    "OVERVIEW_PREDICTOR": _PREDICTORS,
    "OVERVIEWS": "AUTO IGNORE_EXISTING NONE",
    "RESAMPLING": _RESAMPLINGS,
    "OVERVIEW_RESAMPLING": _RESAMPLINGS,
    "BIGTIFF": "YES NO IF_NEEDED IF_SAFER",
    "STATISTICS": "AUTO YES NO",
    "INTERLEAVE": "PIXEL BAND TILE",
    "GEOTIFF_VERSION": "AUTO 1.0 1.1",
    "SPARSE_OK": "YES NO TRUE FALSE ON OFF",
    "JXL_LOSSLESS": "YES NO TRUE FALSE ON OFF",
}
_WHOLE_NUMBERS = {
    "LEVEL": (1, 22),
    "QUALITY": (1, 100),
    "OVERVIEW_QUALITY": (1, 100),
    "BLOCKSIZE": (128, 4096),
    "OVERVIEW_COUNT": (1, 30),
    "NBITS": (1, 63),
    "JXL_EFFORT": (1, 9),
}
_REGRIDDING_OPTIONS = {"TARGET_SRS", "TILING_SCHEME", "EXTENT", "RES", "ADD_ALPHA"}
LOSSY = {"JPEG", "WEBP", "LERC", "LERC_DEFLATE", "LERC_ZSTD", "JXL"}
"""Compressions that are or can be lossy."""


def creation_options(user: Mapping[str, str]) -> dict[str, str]:
    """The default options, overridden by the user's.

    Raises:
        ConfigError: GDAL's COG driver has no such option, or it would move the pixels to another grid.
    """
    options = dict(DEFAULT_OPTIONS)
    for key, value in user.items():
        name = key.upper()
        if name not in _KNOWN_OPTIONS:
            raise ConfigError(
                f"Cannot use creation option '{key}': GDAL's COG driver has no such option."
                f"{did_you_mean(name, _KNOWN_OPTIONS)}"
            )
        if name in _REGRIDDING_OPTIONS:
            raise ConfigError(
                f"Cannot use creation option '{key}': it would resample the result to another grid. "
                "Leave it out, and reproject the result with gdalwarp."
            )
        _check_value(name, str(value))
        options[name] = str(value)
    if "COMPRESS" in {key.upper() for key in user} and "LEVEL" not in {key.upper() for key in user}:
        del options["LEVEL"]
    return options


def _check_value(name: str, value: str) -> None:
    """Refuse a value that GDAL would silently replace by its default."""
    choices = _CHOICES.get(name, "").split()
    low, high = _WHOLE_NUMBERS.get(name, (0, 0))
    needed = ""
    if choices and value.upper() not in choices:
        needed = f"one of {', '.join(choices)}"
    elif high and not (value.isdecimal() and low <= int(value) <= high):
        needed = f"a whole number from {low} to {high}"
    elif name.startswith("MAX_Z_ERROR") and not _is_distance(value):
        needed = "a number from 0"
    elif name == "BLOCKSIZE" and int(value) % 16:
        needed = "a multiple of 16"
    elif name == "NUM_THREADS" and value.upper() != "ALL_CPUS" and not (value.isdecimal() and int(value)):
        needed = "ALL_CPUS or a number of threads"
    if needed:
        raise ConfigError(f"Cannot use creation option {name}={value}: {name} must be {needed}.")


def _is_distance(value: str) -> bool:
    try:
        return 0 <= float(value) < float("inf")
    except ValueError:
        return False


def _is_lossy(options: Mapping[str, str], dtype: np.dtype[Any]) -> bool:
    """Whether the compression changes pixels; too few NBITS for integers are not considered.

    LERC and JXL are lossless by default, and WEBP with QUALITY=100.
    """
    compression = options["COMPRESS"].upper()
    if compression.startswith("LERC"):
        changed = float(options.get("MAX_Z_ERROR", 0)) > 0
    elif compression == "JXL":
        changed = options.get("JXL_LOSSLESS", "YES").upper() in {"NO", "FALSE", "OFF"}
    elif compression == "WEBP":
        changed = int(options.get("QUALITY", 75)) < 100
    else:
        changed = compression == "JPEG"
    return changed or ("NBITS" in options and dtype.kind == "f")


def keeps_bits(options: Mapping[str, str], dtype: np.dtype[Any]) -> bool:
    """Whether pixels keep their bits: LERC has one NaN and one zero where floats have several."""
    one_nan = options["COMPRESS"].upper().startswith("LERC") and dtype.kind == "f"
    return not one_nan and not _is_lossy(options, dtype) and "NBITS" not in options


def overviews_are_lossless(options: Mapping[str, str]) -> bool:
    """Whether an overview holds what was computed; its compression and quality are options of their own."""
    compression = options.get("OVERVIEW_COMPRESS", "AUTO").upper()
    if compression == "AUTO":
        compression = options["COMPRESS"].upper()
    if compression.startswith("LERC"):
        return not any(float(options.get(name, 0)) for name in ("MAX_Z_ERROR", "MAX_Z_ERROR_OVERVIEW"))
    return compression not in LOSSY


def check_nodata_survives(options: Mapping[str, str], metadata: Metadata, dtype: np.dtype[Any]) -> None:
    """Refuse lossy compression with nodata, which it would change; NaN is safe, since LERC stores it separately."""
    if metadata.nodata is None or np.isnan(metadata.nodata) or not _is_lossy(options, dtype):
        return
    raise ConfigError(
        f"Cannot write a COG with nodata {metadata.nodata:g} and {shown_options(options)}: lossy compression would change "
        "the value that marks pixels without data. Pass --co COMPRESS=DEFLATE or ZSTD, or LERC without MAX_Z_ERROR."
    )


def differs_from_default(options: Mapping[str, str]) -> bool:
    """Whether a user chose an option."""
    return any(DEFAULT_OPTIONS.get(key) != value for key, value in options.items())


def shown_options(options: Mapping[str, str]) -> str:
    """The options that are not the defaults."""
    shown = " ".join(f"{key}={value}" for key, value in options.items() if DEFAULT_OPTIONS.get(key) != value)
    return shown or "the default options"
