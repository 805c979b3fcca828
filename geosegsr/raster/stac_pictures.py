"""The pictures of a STAC item: a thumbnail and an overview beside the result."""

from __future__ import annotations

from pathlib import Path

import pystac

from geosegsr.raster.preview import LONGEST, check_preview_path, write_preview
from geosegsr.raster.scene import Scene

_SIZES = {"thumbnail": 256, "overview": LONGEST}
"""Asset and role -> pixels along the longer side; a thumbnail has less than 600, as STAC's best practices ask."""


def picture_paths(result: Path) -> dict[str, Path]:
    """Where the pictures of a result lie, by their asset."""
    return {name: result.with_name(f"{result.stem}.{name}.png") for name in _SIZES}


def check_pictures(result: Path) -> None:
    """Refuse pictures that would replace other files.

    Raises:
        JobError: A file that is no preview has the name of one.
    """
    for path in picture_paths(result).values():
        if path.exists():
            check_preview_path(path)


def add_pictures(item: pystac.Item, image: Path, result: Path) -> None:
    """Write the pictures and add them to an item.

    Args:
        item: The item of the result.
        image: The COG to show.
        result: The result that the pictures are named after.
    """
    scene = Scene.open(image)
    for name, path in picture_paths(result).items():
        write_preview(scene, path, _SIZES[name])
        item.add_asset(
            name,
            pystac.Asset(
                href=f"./{path.name}",
                media_type=pystac.MediaType.PNG,
                roles=[name],
                title=f"Picture of the result: {name}",
            ),
        )
