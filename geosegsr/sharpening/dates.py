"""Bands of several dates: the detail of one day is no detail of another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from geosegsr.notices import warn
from geosegsr.raster.acquired import Acquired, several_dates
from geosegsr.raster.products import container_of
from geosegsr.raster.scene import Scene
from geosegsr.sharpening.scene import SharpenedScene
from geosegsr.sharpening.stack import rasters_of

_TIME_OF_FILE = "TIFFTAG_DATETIME"
"""A tag that often says when the file was written: no reason to warn."""


def warn_of_dates(scene: Scene) -> None:
    """Say so if what a sharpened scene is made of was acquired on several dates, with the names of each.

    Rasters that do not say when they were acquired are passed over.
    """
    found = several_dates(item for raster in rasters_of(scene) for item in _dated(raster))
    if found is not None:
        advice = (
            "Pass a --guide of the same date, or leave --guide out"
            if isinstance(scene, SharpenedScene)
            else "Put the bands of one date into a folder of their own, and pass that"
        )
        warn(
            f"'{scene.path}' is sharpened with images of several dates: {found}. A band gets the detail of its guide's date, even "
            f"where the ground has changed. {advice}"
        )


def _dated(raster: Scene) -> Iterator[tuple[str, Acquired]]:
    """The files of a raster that have a time in their names; else the raster itself, if it says when it was acquired."""
    container = container_of(raster.path)
    files = {
        PurePath(file).name: Acquired.of_name(PurePath(file).name)
        for file in raster.files
        if file != container
    }
    of_files = [(name, acquired) for name, acquired in files.items() if acquired is not None]
    if of_files:
        yield from of_files
        return
    tags = {name: text for name, text in raster.metadata.tags.items() if name != _TIME_OF_FILE}
    acquired = Acquired.of_tags(tags) or Acquired.of_name(raster.path)
    if acquired is not None:
        yield PurePath(raster.path).name, acquired
