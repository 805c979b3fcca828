"""The rasters of a STAC item as bands of a product."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from geosegsr.raster.bands import colour_of
from geosegsr.raster.kinds import kind_of_name
from geosegsr.raster.product import ProductBand

_MOST_BYTES = 32_000_000
_SCHEMES = {"http": "/vsicurl/http://", "https": "/vsicurl/https://", "s3": "/vsis3/", "gs": "/vsigs/"}
_MEDIA = ("image/tiff", "image/jp2", "image/vnd.stac.geotiff")
_SUFFIXES = {".tif", ".tiff", ".jp2"}
_NOT_DATA = {"thumbnail", "overview", "metadata"}
_COMMON = {"rededge", "coastal", "pan", "red", "green", "blue", "nir"}


def read_item(path: str) -> dict[str, Any] | None:
    """The STAC item in a file; None if it holds none."""
    try:
        with Path(path).open("rb") as file:
            found = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    is_item = isinstance(found, dict) and found.get("type") == "Feature" and "stac_version" in found
    return found if is_item and isinstance(found.get("assets"), dict) else None


def bands_and_tags(item: dict[str, Any], path: str) -> tuple[list[ProductBand], dict[str, str]]:
    """The bands of an item's rasters, with scale, offset and nodata where it states them, and the time as a tag.

    A picture for display ("visual") comes last and is a part of its own.
    """
    bands: list[ProductBand] = []
    pictures: list[ProductBand] = []
    for key, asset in item["assets"].items():
        if not isinstance(asset, dict) or not _is_raster(asset):
            continue
        visual = "visual" in _roles(asset) or key.lower() in ("visual", "tci")
        (pictures if visual else bands).extend(_bands(key, asset, Path(path), own=key if visual else None))
    properties = item.get("properties")
    moment = properties.get("datetime") if isinstance(properties, dict) else None
    return bands + pictures, {"ACQUISITION_DATETIME": moment} if isinstance(moment, str) else {}


def _bands(key: str, asset: dict[str, Any], item: Path, own: str | None) -> Iterator[ProductBand]:
    """The bands of one asset; by the asset's key where it has one band."""
    described = _described(asset)
    path = _location(str(asset["href"]), item)
    for number, about in enumerate(described, 1):
        name = key if len(described) == 1 else str(about.get("name") or f"{key}_{number}")
        common = str(about.get("eo:common_name") or about.get("common_name") or "")
        colour = common if common in _COMMON else colour_of(name)
        yield ProductBand(
            name, path, number, kind_of_name(key) or "image", colour or "undefined",
            _number(about, "raster:scale", "scale"), _number(about, "raster:offset", "offset"),
            _number(about, "nodata"), own,
        )  # fmt: skip


def _described(asset: dict[str, Any]) -> list[dict[str, Any]]:
    """What an item says of each band of an asset, in all of the specification's versions; one band if it is silent."""
    lists = [asset.get(name) for name in ("bands", "eo:bands", "raster:bands")]
    lists = [found for found in lists if isinstance(found, list) and all(isinstance(b, dict) for b in found)]
    count = max((len(found) for found in lists if found), default=1)
    common: dict[str, Any] = {
        key: asset[key] for key in ("nodata", "raster:scale", "raster:offset") if key in asset
    }
    merged = [dict(common) for _ in range(count)]
    for found in lists:
        for band, about in zip(merged, found or (), strict=False):
            band.update(about)
    return merged


def _is_raster(asset: dict[str, Any]) -> bool:
    href = asset.get("href")
    if not isinstance(href, str) or _NOT_DATA & _roles(asset):
        return False
    suffix = Path(urlsplit(href).path).suffix.lower()
    return suffix in _SUFFIXES or str(asset.get("type", "")).startswith(_MEDIA)


def _roles(asset: dict[str, Any]) -> set[str]:
    roles = asset.get("roles")
    return {str(role) for role in roles} if isinstance(roles, list) else set()


def _location(href: str, item: Path) -> str:
    """An asset as GDAL opens it; relative addresses count from the item's folder."""
    scheme, separator, rest = href.partition("://")
    if separator and scheme in _SCHEMES:
        return _SCHEMES[scheme] + rest
    if separator and scheme == "file":
        return unquote("/" + rest.lstrip("/"))
    return (item.absolute().parent / href).resolve().as_posix()


def _number(about: dict[str, Any], *names: str) -> float | None:
    for name in names:
        value = about.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return float("nan") if about.get("nodata") == "nan" and "nodata" in names else None
