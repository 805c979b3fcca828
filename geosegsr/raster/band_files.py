"""A folder whose files are the single bands of one scene, told by their names."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from geosegsr.raster.archive import Archive
from geosegsr.raster.bands import colour_of
from geosegsr.raster.gdal import reading
from geosegsr.raster.kinds import kind_of_name
from geosegsr.raster.product import Grid, ProductBand, grid_of

_RASTERS = {".tif", ".tiff", ".jp2", ".img"}
_BAND = re.compile(
    r"b\d{1,2}a?|red|green|blue|nir\d*|swir\d*|rededge\d*|red\d?edge\d*|pan|coastal|thermal|cirrus|"
    r"scl|fmask|qa\w*|aot|wvp|clm|saa|sza|vaa|vza|sr|st|pixel|radsat",
    re.IGNORECASE,
)
_SIZE = re.compile(r"\d+m", re.IGNORECASE)


def bands_of_folder(archive: Archive) -> list[ProductBand]:
    """The bands of one scene; empty unless all rasters of the folder are bands of the same ground.

    Their names may differ only in the band ("B04", "SR_B4", "red", "SCL") and in the pixel size ("10m"), and each file
    has one band.

    Raises:
        SceneError: A file cannot be opened.
    """
    files = [name for name in archive.names if PurePosixPath(name).suffix.lower() in _RASTERS]
    named = [(*_split(PurePosixPath(name).stem), archive.gdal(name)) for name in files]
    if len(named) < 2 or len({rest for _, rest, _ in named}) > 1 or not all(band for band, _, _ in named):
        return []
    grids = {path: grid_of(path) for _, _, path in named}
    if not _is_one_place(list(grids.values())) or not all(map(_has_one_band, grids)):
        return []
    finest: dict[str, str] = {}
    for band, _, path in sorted(named, key=lambda item: grids[item[2]].pixel_size):
        finest.setdefault(band, path)
    return [
        ProductBand(band, path, kind=kind_of_name(band) or "image", colour=colour_of(band) or "undefined")
        for band, path in sorted(finest.items())
    ]


def _split(stem: str) -> tuple[str, tuple[str, ...]]:
    """The band of a file's name, and the rest of the name without the pixel size."""
    words = re.split(r"[_\-. ]+", stem)
    band = [word for word in words if _BAND.fullmatch(word)]
    rest = tuple(word for word in words if not _BAND.fullmatch(word) and not _SIZE.fullmatch(word))
    return "_".join(band), rest


def _has_one_band(path: str) -> bool:
    with reading(path) as source:
        return bool(source.count == 1)


def _is_one_place(grids: list[Grid]) -> bool:
    """Whether all show the same ground, up to half of the coarsest pixel."""
    first = grids[0]
    tolerance = max(max(grid.pixel_size) for grid in grids) / 2
    corners = [(grid.transform @ (0, 0), grid.transform @ (grid.width, grid.height)) for grid in grids]
    return all(grid.crs == first.crs for grid in grids) and all(
        abs(a - b) <= tolerance
        for pair in corners
        for point, other in zip(pair, corners[0], strict=True)
        for a, b in zip(point, other, strict=True)
    )
