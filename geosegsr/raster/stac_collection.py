"""A STAC collection of the items of a batch."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pystac

from geosegsr.errors import SceneError
from geosegsr.files import read_json, whole_file
from geosegsr.notices import warn
from geosegsr.version import __version__

NAME = "collection.json"
_OURS = "geosegsr:version"


def write_collection(folder: Path, items: Sequence[Path]) -> Path | None:
    """Write a collection of items; one of ours that is there keeps its other items.

    Args:
        folder: Where to write it.
        items: Their files, in this folder or below.

    Returns:
        The collection's file; None where there is nothing to collect, or another file has its name, which is warned of.

    Raises:
        SceneError: It could not be written.
    """
    if not items:
        return None
    folder = folder.absolute()
    path = folder / NAME
    before = read_json(path)
    if path.exists() and _OURS not in before:
        warn(f"no STAC collection is written: '{path}' is another file")
        return None
    known = {_relative(item, folder): read_json(item) for item in (*_listed(before, folder), *items)}
    found = {href: item for href, item in sorted(known.items()) if item.get("type") == "Feature"}
    boxes = [item["bbox"] for item in found.values() if item.get("bbox")]
    if not boxes:
        warn(f"no STAC collection is written to '{folder}': no item has a place")
        return None
    collection = pystac.Collection(
        id=folder.name or "results",
        description=f"Results of super-resolution by geosegsr in the folder {folder.name}",
        extent=pystac.Extent(
            pystac.SpatialExtent([_around(boxes), *boxes] if len(boxes) > 1 else boxes),
            pystac.TemporalExtent([_times(list(found.values()))]),
        ),
        license="other",
        extra_fields={_OURS: __version__},
    )
    for href in found:
        collection.add_link(pystac.Link(pystac.RelType.ITEM, href, media_type=pystac.MediaType.GEOJSON))
    text = json.dumps(
        collection.to_dict(include_self_link=False), indent=2, ensure_ascii=False, allow_nan=False
    )
    try:
        with whole_file(path) as file:
            file.write(text.encode() + b"\n")
        for href, item in found.items():
            _write_link(folder / href, item, path, collection.id)
    except OSError as error:
        raise SceneError(
            f"Cannot write the STAC collection '{path}' and the links to it: {error.strerror or error}. "
            "Fix the cause, and repeat the same command."
        ) from error
    return path


def with_collection(item: dict[str, Any], before: dict[str, Any], folder: Path) -> dict[str, Any]:
    """An item that is written anew, with the collection that it was in before, if that is still there."""
    links = before.get("links")
    found = [
        link.get("href")
        for link in (links if isinstance(links, list) else [])
        if link.get("rel") == "collection"
    ]
    known = found and isinstance(found[0], str) and (folder / found[0]).is_file()
    return _linked(item, str(before["collection"]), found[0]) if known and "collection" in before else item


def item_text(item: dict[str, Any]) -> bytes:
    """An item as its file holds it."""
    return json.dumps(item, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _write_link(path: Path, item: dict[str, Any], collection: Path, name: str) -> None:
    """Link an item to its collection; a file that says so already is left untouched."""
    data = item_text(_linked(item, name, Path(os.path.relpath(collection, path.parent)).as_posix()))
    if path.read_bytes() != data:
        with whole_file(path, sync=True) as file:
            file.write(data)


def _linked(item: dict[str, Any], name: str, href: str) -> dict[str, Any]:
    links = [link for link in item.get("links", []) if link.get("rel") != "collection"]
    link = {"rel": "collection", "href": href, "type": "application/json"}
    return {**item, "links": [*links, link], "collection": name}


def _listed(collection: dict[str, Any], folder: Path) -> list[Path]:
    """The items of a collection that are still there."""
    links = collection.get("links")
    hrefs = (
        [link.get("href") for link in links if link.get("rel") == "item"] if isinstance(links, list) else []
    )
    return [folder / href for href in hrefs if isinstance(href, str) and (folder / href).is_file()]


def _relative(path: Path, folder: Path) -> str:
    return f"./{Path(os.path.relpath(path.absolute(), folder)).as_posix()}"


def _around(boxes: Sequence[Sequence[float]]) -> list[float]:
    """The box that holds all; across the antimeridian it goes around the Earth."""
    west, south, east, north = zip(*((box[0], box[1], box[-2], box[-1]) for box in boxes), strict=True)
    crosses = any(left > right for left, right in zip(west, east, strict=True))
    return [-180.0 if crosses else min(west), min(south), 180.0 if crosses else max(east), max(north)]


def _times(items: Sequence[dict[str, Any]]) -> list[datetime | None]:
    texts = [
        item["properties"].get(name) or item["properties"].get("datetime")
        for name in ("start_datetime", "end_datetime")
        for item in items
    ]
    moments = [datetime.fromisoformat(text).astimezone(UTC) for text in texts if text]
    return [min(moments), max(moments)] if moments else [None, None]
