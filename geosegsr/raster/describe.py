"""What a scene is, and what upscale would assume of it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from geosegsr.errors import ConfigError, GeoSegSRWarning
from geosegsr.raster.fitness import has_white_zero
from geosegsr.raster.gdal import reading
from geosegsr.raster.intake import Intake, take_in
from geosegsr.raster.products import parts_of_source
from geosegsr.raster.radiometry import resolve_radiometry
from geosegsr.raster.scene import AlphaPolicy, Scene


def describe(
    path: str | Path,
    *,
    nodata: float | Literal["auto"] | None = None,
    alpha: AlphaPolicy = "auto",
    band_kinds: Mapping[int, str] | None = None,
) -> dict[str, Any]:
    """Facts of a raster, as JSON can hold them; of a product those of the part that `upscale` takes, and all its parts.

    Args:
        path: As for `upscale`.
        nodata: Overrides the file's own nodata value; "auto" as for `upscale`.
        alpha: As for `upscale`.
        band_kinds: As for `upscale`.

    Returns:
        A file that holds several rasters and no bands of its own, such as netCDF, has "path" and "parts" only.

    Raises:
        SceneError: It cannot be opened, or upscale would refuse it.
    """
    parts = parts_of_source(str(path))
    if parts and parts[0].subdataset and not _has_bands(path):
        return {"path": str(path), "parts": [part.to_dict() for part in parts]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GeoSegSRWarning)  # the parts are listed here
        own = None if isinstance(nodata, str) else nodata
        scene = Scene.open(path, nodata=own, alpha=alpha).with_band_kinds(band_kinds)
    scene, intake = take_in(scene, scene.with_nodata, find_nodata=nodata == "auto")
    collar = intake.collar
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
        "white_is_zero": _has_white_zero(scene),
        "shown": metadata.shown,
        "undeclared_nodata": None
        if collar is None
        else {"value": collar.value, "share": round(collar.share, 4)},
        "intake": list(intake.decisions),
        "value_range": _range(scene),
        "tags": metadata.tags,
        "parts": [part.to_dict() for part in parts],
        "bands": _bands(scene, intake),
    }


def _bands(scene: Scene, intake: Intake) -> list[dict[str, Any]]:
    kinds = dict(zip(scene.image_bands, intake.kinds, strict=True))
    return [
        {
            "index": band.index,
            "colour": band.colorinterp,
            "description": band.description,
            "unit": band.unit,
            "scale": band.scale,
            "offset": band.offset,
            "role": "mask" if band.index == scene.alpha_band else kinds[band.index],
        }
        for band in scene.metadata.bands
    ]


def _has_white_zero(scene: Scene) -> bool:
    with reading(scene.opened or scene.path, name=scene.path) as source:
        return has_white_zero(source)


def _has_bands(path: str | Path) -> bool:
    with reading(path) as source:
        return bool(source.count)


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
