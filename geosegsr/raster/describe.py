"""What a scene is, and what upscale would assume of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from geosegsr.errors import ConfigError
from geosegsr.raster.radiometry import resolve_radiometry
from geosegsr.raster.scene import AlphaPolicy, Scene


def describe(path: str | Path, *, nodata: float | None = None, alpha: AlphaPolicy = "auto") -> dict[str, Any]:
    """Facts of a raster, as JSON can hold them.

    Raises:
        SceneError: It cannot be opened, or upscale would refuse it.
    """
    scene = Scene.open(path, nodata=nodata, alpha=alpha)
    metadata = scene.metadata
    _, valid = scene.sample()
    return {
        "path": scene.path,
        "driver": scene.driver,
        "width": scene.width,
        "height": scene.height,
        "dtype": scene.dtype.name,
        "block_shape": list(scene.block_shape),
        "overviews": list(scene.overviews),
        "crs": None if metadata.crs is None else metadata.crs.to_string(),
        "transform": None if metadata.transform is None else list(metadata.transform.to_gdal()),
        "resolution": scene.resolution,
        "gcps": len(metadata.gcps),
        "gcps_crs": None if metadata.gcps_crs is None else metadata.gcps_crs.to_string(),
        "rpcs": bool(metadata.rpcs),
        "nodata": _nodata(scene),
        "mask": _mask(scene),
        "valid_share": round(float(valid.mean()), 4),
        "alpha_looks_like_image": scene.alpha_looks_like_image,
        "value_range": _range(scene),
        "tags": metadata.tags,
        "bands": [
            {
                "index": band.index,
                "colour": band.colorinterp,
                "description": band.description,
                "unit": band.unit,
                "scale": band.scale,
                "offset": band.offset,
                "role": "mask" if band.index == scene.alpha_band else "image",
            }
            for band in metadata.bands
        ],
    }


def _nodata(scene: Scene) -> float | str | None:
    """As a number, or in words where JSON has no number for it."""
    value = scene.nodata
    return value if value is None or math.isfinite(value) else str(value)


def _mask(scene: Scene) -> list[str]:
    """Where validity comes from, in words."""
    found = []
    if scene.nodata is not None:
        found.append(f"nodata {scene.nodata:g}")
    if scene.alpha_band is not None:
        found.append(f"alpha band {scene.alpha_band}")
    if scene.has_mask:
        found.append("mask band")
    if scene.dtype.kind == "f":
        found.append("NaN")
    return found


def _range(scene: Scene) -> str:
    try:
        return resolve_radiometry(scene, {"kind": "auto"}).describe()
    except ConfigError as error:
        return f"unknown: {error}"
