"""What of a guide is used: its images, without its collar. Decided here for files and arrays."""

from __future__ import annotations

from pathlib import Path

from geosegsr.errors import BandError
from geosegsr.notices import warn
from geosegsr.raster.contract import Raster
from geosegsr.raster.intake import look_at
from geosegsr.raster.scene import Scene


def open_guide(path: str | Path, *, find_nodata: bool) -> Scene:
    """The bands of a guide that are images.

    Args:
        path: Of the guide.
        find_nodata: Whether the value of an undeclared collar is taken for nodata.

    Raises:
        BandError: None of its bands is an image.
        SceneError: It cannot be read.
    """
    guide = Scene.open(path)
    images, nodata = what_guides(
        guide,
        find_nodata=find_nodata,
        advice="pass --nodata auto, or declare it: gdal_translate -a_nodata {value:g} IN OUT",
    )
    if len(images) == guide.count:
        return guide if nodata is None else guide.with_nodata(nodata)
    return Scene.open(path, [guide.image_bands[at] for at in images], nodata)


def what_guides(guide: Raster, *, find_nodata: bool, advice: str) -> tuple[list[int], float | None]:
    """Positions of the bands that are images, as classes say nothing about the detail of others; and nodata, if it was found.

    Args:
        guide: The guide.
        find_nodata: Whether the value of an undeclared collar is taken for nodata.
        advice: What to do about a collar; `{value}` is its value.

    Raises:
        BandError: None of its bands is an image.
    """
    intake = look_at(guide)
    if (collar := intake.collar) is not None and not find_nodata:
        warn(
            f"the guide '{guide.path}' declares no nodata, but {collar.describe()}: they guide as data. "
            f"If they hold none, {advice.format(value=collar.value)}"
        )
    images = [at for at, kind in enumerate(intake.kinds) if kind == "image"]
    if not images:
        raise BandError(
            f"Cannot sharpen by '{guide.path}': none of its bands is an image. Pass another --guide."
        )
    others = [name for name, kind in zip(intake.names, intake.kinds, strict=True) if kind != "image"]
    if others:
        warn(f"{', '.join(others)} of the guide '{guide.path}' cannot guide and is left out: it is no image")
    return images, collar.value if collar is not None and find_nodata else None
