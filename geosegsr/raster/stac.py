"""A STAC item beside a result: where it lies, when it was acquired, what it holds and how it was made.

pystac writes it. rio-stac, which makes items of any raster, gives a scene without a time the present, and one without a
CRS the whole Earth.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

import pystac
import rasterio
import shapely
from affine import Affine
from pystac.extensions.file import FileExtension
from pystac.extensions.projection import ProjectionExtension

from geosegsr.errors import JobError, SceneError, redacted
from geosegsr.files import is_same, read_json, sha256_of, whole_file
from geosegsr.raster.acquired import Acquired
from geosegsr.raster.bands import colour_of
from geosegsr.raster.footprint import bounding_box, footprint, ground_sample_distance
from geosegsr.raster.metadata import BandMetadata, Metadata
from geosegsr.raster.products import container_of
from geosegsr.raster.scene import Scene
from geosegsr.raster.stac_collection import item_text, with_collection
from geosegsr.raster.stac_pictures import add_pictures, check_pictures, picture_paths

_EXTENSIONS = "https://stac-extensions.github.io"
_PROCESSING = f"{_EXTENSIONS}/processing/v1.2.0/schema.json"
_RASTER = f"{_EXTENSIONS}/raster/v2.0.0/schema.json"
_EO = f"{_EXTENSIONS}/eo/v2.0.0/schema.json"
_DATA, _UNCERTAINTY = "data", "uncertainty"
"""Names of assets; bands that are files of their own have their own names."""
_SHA256_MULTIHASH = "1220"  # the code of SHA-256 and the length of its digest, before the digest itself

_LONGEST_NAME = 255 - len(".1a2b3c4d.part")  # bytes: file systems take 255, and `whole_file` adds to the name

# If two scenes of a batch end at once and their items have one name, the second must find the first's.
_one_at_a_time = Lock()


def item_path(result: Path) -> Path:
    """Path of the item of a result."""
    return result.with_suffix(".json")


def check_item_path(result: Path, source: str, assets: Mapping[str, Path]) -> None:
    """Refuse an item that has the name of one of the run's files or of another file, or that could not be written.

    Args:
        result: What the item is of.
        source: What the result is made of.
        assets: As for `write_item`.

    Raises:
        JobError: It would replace what is not its own, or its name is too long.
    """
    path = item_path(result)
    refused = f"Cannot write the STAC item '{path}'"
    longest = max(len(os.fsencode(file.name)) for file in (path, *picture_paths(result).values()))
    if longest > _LONGEST_NAME:
        raise JobError(
            f"{refused}: a name of it or its pictures has {longest} bytes, more than {_LONGEST_NAME}. Pass another -o."
        )
    for name, file in assets.items():
        if is_same(path, file):
            what, option = (
                ("uncertainty", "--uncertainty") if name == _UNCERTAINTY else ("image itself", "-o")
            )
            raise JobError(f"{refused}: the {what} has that name. Pass another {option}.")
    if is_same(path, Path(source)):
        raise JobError(f"{refused}: it is the source itself. Pass another -o.")
    if path.exists() and not _is_item_of(assets, path):
        raise JobError(f"{refused}: {_what_lies_at(path)} is there. Move it, or pass another -o.")
    check_pictures(result)


def _is_item_of(assets: Mapping[str, Path], path: Path) -> bool:
    """Whether a file is an item of the path of one of the images, whatever that file holds now."""
    found = _assets(path)
    hrefs = {name: found.get(name, {}).get("href") for name in assets if name != _UNCERTAINTY}
    return _is_item(path) and any(
        isinstance(href, str) and is_same(path.parent / href, assets[name]) for name, href in hrefs.items()
    )


def _what_lies_at(path: Path) -> str:
    return "a STAC item of another file" if _is_item(path) else "a file that is none"


def _is_item(path: Path) -> bool:
    found = read_json(path)
    return found.get("type") == "Feature" and bool(found.get("stac_version"))


def _assets(path: Path) -> dict[str, dict[str, Any]]:
    """The assets of the item in a file; empty if there is none."""
    assets = read_json(path).get("assets")
    if not isinstance(assets, dict):
        return {}
    return {name: asset for name, asset in assets.items() if isinstance(asset, dict)}


def describes(result: Path, assets: Mapping[str, Path]) -> bool:
    """Whether the item beside a result is that of these very files, by their sizes and checksums."""
    found = _assets(item_path(result))
    known = [(found.get(name, {}), file) for name, file in assets.items()]
    if any(asset.get("file:size") != file.stat().st_size for asset, file in known):
        return False
    return all(asset.get("file:checksum") == _multihash(file) for asset, file in known)


def write_item(
    result: Path,
    source: str,
    acquired: Acquired | None = None,
    assets: Mapping[str, Path] | None = None,
) -> Path:
    """Write the item of a finished result beside it, whole or not at all; one that is up to date is left untouched.

    Args:
        result: A COG that `upscale` made, or the name that its bands' COGs are made of.
        source: What it was made of, as it was named.
        acquired: When that was acquired; by default what its tags or its name say.
        assets: The COGs, by their names in the item, an image first: "data" and "uncertainty", or the bands' names; by
            default the result alone.

    Returns:
        The item's path.

    Raises:
        JobError: As `check_item_path`.
        ConfigError: Nothing says when the scene was acquired.
        SceneError: It could not be written.
    """
    assets = {_DATA: result} if assets is None else assets
    item, path = build_item(result, source, acquired, assets), item_path(result)
    check_item_path(result, source, assets)
    add_pictures(item, next(iter(assets.values())), result)
    document = item.to_dict(include_self_link=False)
    try:
        with _one_at_a_time:
            check_item_path(result, source, assets)
            data = item_text(with_collection(document, read_json(path), path.parent))
            if path.exists() and path.read_bytes() == data:
                return path
            with whole_file(path, sync=True, replace=path.exists()) as file:
                file.write(data)
    except OSError as error:
        raise SceneError(
            f"Cannot write the STAC item '{path}': {error.strerror or error}. "
            "Free some space or fix the cause, and repeat the same command."
        ) from error
    return path


def build_item(
    result: Path, source: str, acquired: Acquired | None, assets: Mapping[str, Path]
) -> pystac.Item:
    """The item of a result; arguments as in `write_item`."""
    image = next(iter(assets.values()))
    metadata = Scene.open(image).metadata
    tags = metadata.tags
    acquired = acquired or Acquired.of(tags, source)
    known = acquired.start == acquired.end
    outline = footprint(metadata)
    item = pystac.Item(
        id=result.stem,
        geometry=None if outline is None else json.loads(shapely.to_geojson(outline)),
        bbox=None if outline is None else bounding_box(outline),
        datetime=acquired.start if known else None,
        start_datetime=None if known else acquired.start,
        end_datetime=None if known else acquired.end,
        properties=_properties(metadata, image),
        stac_extensions=[_PROCESSING],
    )
    _add_grid(item, metadata)
    folder = result.absolute().parent
    for name, file in assets.items():
        _add_asset(item, name, file, Scene.open(file), folder)
    if _UNCERTAINTY in item.assets:
        item.assets[_UNCERTAINTY].title = "Standard deviation over the members of the ensemble, in DN"
    item.add_link(_source_link(source, result))
    return item


def _properties(metadata: Metadata, result: Path) -> dict[str, Any]:
    tags = metadata.tags
    scale, model = tags.get("GEOSEGSR_SCALE"), tags.get("GEOSEGSR_MODEL")
    made = datetime.fromtimestamp(result.stat().st_mtime, UTC).replace(microsecond=0)
    properties: dict[str, Any] = {
        "created": made.isoformat().replace("+00:00", "Z"),
        "description": tags.get("GEOSEGSR_NOTE"),
        "gsd": ground_sample_distance(metadata),
        "processing:software": {"geosegsr": tags.get("GEOSEGSR_VERSION", "unknown")},
        "processing:lineage": _lineage(scale, model),
        "geosegsr:model": model,
        "geosegsr:model_hash": tags.get("GEOSEGSR_MODEL_HASH"),
        "geosegsr:scale": None if scale is None else int(scale),
        "geosegsr:value_range": tags.get("GEOSEGSR_VALUE_RANGE"),
    }
    return {key: value for key, value in properties.items() if value is not None}


def _lineage(scale: str | None, model: str | None) -> str:
    if scale == "1":
        return "Coarse bands sharpened to the grid of the sharpest bands"
    return f"Super-resolution, {scale} times as many pixels a side, by the model {model}"


def _add_grid(item: pystac.Item, metadata: Metadata) -> None:
    code = wkt = transform = bbox = None
    if metadata.crs is not None and metadata.transform is not None:
        authority = metadata.crs.to_authority()
        code = None if authority is None else ":".join(authority)
        wkt = metadata.crs.to_wkt(version="WKT2_2019") if code is None else None
    if metadata.transform is not None:
        transform = list(metadata.transform)[:6]
        bbox = _bounds(metadata.transform, metadata.height, metadata.width)
    ProjectionExtension.ext(item, add_if_missing=True).apply(
        code=code, wkt2=wkt, bbox=bbox, shape=[metadata.height, metadata.width], transform=transform
    )


def _bounds(transform: Affine, height: int, width: int) -> list[float]:
    corners = [transform @ corner for corner in ((0, 0), (width, 0), (0, height), (width, height))]
    x, y = zip(*corners, strict=True)
    return [min(x), min(y), max(x), max(y)]


def _add_asset(item: pystac.Item, key: str, path: Path, written: Scene, folder: Path) -> None:
    with rasterio.open(path) as source:
        statistics = [_statistics(source.tags(number)) for number in source.indexes]
    names = [band.description or f"b{number}" for number, band in enumerate(written.metadata.bands, 1)]
    if len(set(names)) < len(names):
        names = [f"b{number}" for number in range(1, len(names) + 1)]
    bands = [
        _band(band, name, found, written)
        for band, name, found in zip(written.metadata.bands, names, statistics, strict=True)
    ]
    asset = pystac.Asset(
        href=_relative(path, folder),
        media_type=pystac.MediaType.COG,
        roles=["data"],
        extra_fields={"bands": bands},
    )
    item.add_asset(key, asset)
    FileExtension.ext(asset, add_if_missing=True).apply(checksum=_multihash(path), size=path.stat().st_size)
    for prefix, extension in (("raster:", _RASTER), ("eo:", _EO)):
        used = any(name.startswith(prefix) for band in bands for name in band)
        if used and extension not in item.stac_extensions:
            item.stac_extensions.append(extension)


def _band(band: BandMetadata, name: str, statistics: dict[str, float], written: Scene) -> dict[str, Any]:
    is_mask = band.index == written.alpha_band
    colour = colour_of(band.description, band.colorinterp)
    found: dict[str, Any] = {
        "name": name,
        "description": "mask" if is_mask else None,
        "data_type": written.dtype.name,
        "nodata": None if is_mask else _number(written.nodata),
        "unit": band.unit or None,
        "statistics": statistics or None,
        "raster:scale": band.scale if (band.scale, band.offset) != (1, 0) else None,
        "raster:offset": band.offset if (band.scale, band.offset) != (1, 0) else None,
        "eo:common_name": colour or None,
    }
    return {key: value for key, value in found.items() if value is not None}


def _statistics(tags: Mapping[str, str]) -> dict[str, float]:
    """GDAL's statistics under STAC's names."""
    names = {"MINIMUM": "minimum", "MAXIMUM": "maximum", "MEAN": "mean", "STDDEV": "stddev"}
    names["VALID_PERCENT"] = "valid_percent"
    return {
        name: float(tags[f"STATISTICS_{key}"]) for key, name in names.items() if f"STATISTICS_{key}" in tags
    }


def _number(value: float | None) -> float | int | str | None:
    """A number for JSON, which has no NaN or infinity: STAC spells them out."""
    if value is None or value != value:
        return None if value is None else "nan"
    if value in (float("inf"), float("-inf")):
        return str(value)
    return int(value) if float(value).is_integer() and abs(value) < 2**53 else value


def _source_link(source: str, result: Path) -> pystac.Link:
    """A link to the source: its own item, if there is one beside it, or else the file or the product."""
    source = container_of(source)
    path, folder = Path(source), result.absolute().parent
    if not path.exists():
        return pystac.Link(pystac.RelType.DERIVED_FROM, _address(source))
    own = path.with_suffix(".json")
    if not is_same(own, path) and not is_same(own, item_path(result)) and read_json(own).get("stac_version"):
        return pystac.Link(
            pystac.RelType.DERIVED_FROM, _relative(own, folder), media_type=pystac.MediaType.GEOJSON
        )
    media_type = pystac.MediaType.GEOTIFF if path.suffix.lower() in (".tif", ".tiff") else None
    return pystac.Link(pystac.RelType.DERIVED_FROM, _relative(path, folder), media_type=media_type)


def _relative(path: Path, folder: Path) -> str:
    relative = Path(os.path.relpath(path.absolute(), folder)).as_posix()
    return relative if relative.startswith("../") else f"./{relative}"


def _address(source: str) -> str:
    """The URL of a remote file that GDAL knows by another name."""
    for prefix, scheme in (
        ("/vsicurl/", ""),
        ("/vsis3/", "s3://"),
        ("/vsigs/", "gs://"),
        ("/vsiaz/", "az://"),
    ):
        if source.startswith(prefix):
            return redacted(scheme + source.removeprefix(prefix))
    return redacted(source)


def _multihash(path: Path) -> str:
    return _SHA256_MULTIHASH + sha256_of(path)
