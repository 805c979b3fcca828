"""What a source is: one raster, or a product of several, and which part of it is meant. Decided here alone.

A user names a product, such as a Sentinel-2 folder, or "PRODUCT:PART" for one of its parts:

    X.SAFE            the part that `Product.default` chooses: the 10 m bands
    X.SAFE:20m        all bands of 20 m pixels
    X.SAFE:SCL        one band
    X.zip:B08,B04     some bands of one pixel size, in this order

Products are: a Sentinel-2 .SAFE folder, its zip, or its MTD xml; a Landsat collection-2 folder, its tar, or its MTL
file; a STAC item in a .json file; and a folder of single-band files of one scene. Subdatasets (netCDF, HDF, Zarr) keep
GDAL's own names.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from geosegsr.errors import SceneError
from geosegsr.files import exists, is_file, is_folder, is_remote
from geosegsr.raster import band_files, landsat, sentinel2, stac_assets
from geosegsr.raster.archive import Archive, prefix_of
from geosegsr.raster.gdal import reading
from geosegsr.raster.product import Grid, Part, Product, ProductBand, parts_of
from geosegsr.raster.texts import band_names

_ZARR = (".zgroup", ".zarray", "zarr.json")
"""Files at the top of a Zarr store, which GDAL opens by the folder's name."""
_MOST_SUBDATASETS = 256
_MTD = re.compile(r"MTD_MSIL(?:1C|2A)\.xml|S2._\w+_MTD_(?:SAF)?L(?:1C|2A)_.*\.xml")
_MTL = re.compile(r"L[COTEM]0[1-9]_.*_MTL\.(?:txt|json|xml)", re.IGNORECASE)


def open_product(path: str | Path) -> Product | None:
    """The parts of a product; None if the path is no product but, for all that is known, a raster.

    Only names and headers are read. Each part has its bands, in the order of the raster that `Part.path` is to GDAL:
    their names, the path and position of each, kind, colour, and scale, offset and nodata where the product states them
    (Sentinel-2's offset of processing baseline 04.00 included). `Scene.open(part.source)` opens a part.

    Args:
        path: As a user names it, without a part: see the top of this module.

    Raises:
        SceneError: It is a product and damaged, or lacks all its images.
    """
    path = str(path)
    if is_remote(path) or not exists(path):
        return None
    status = Path(path).stat()
    return _opened(path, str(Path(path).absolute()), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=16)  # a run asks for the parts of one product several times, and each has a dozen headers
def _opened(path: str, place: str, changed: int, size: int) -> Product | None:
    if not is_folder(path):
        return _of_file(path)
    archive = _archive_of_folder(path)
    product = None if archive is None else _of_archive(path, archive)
    if product is not None:
        return product
    here = Archive.of(path, deep=False)
    bands = [] if here is None else band_files.bands_of_folder(here)
    return Product(path, "single bands", parts_of(path, bands)) if bands else None


def is_product(path: str) -> bool:
    """Whether a local path is a product, or a Zarr store, by its name and what lies inside; a folder of plain files is none."""
    if is_remote(path) or not exists(path):
        return _split(path) is not None
    if not is_folder(path):
        return _product_file(path)
    if any(is_file(Path(path) / name) for name in _ZARR):
        return True
    archive = _archive_of_folder(path)
    return archive is not None and _is_known(archive)


def locate(path: str) -> Located | None:
    """The part that a source names, or that is taken where it names a product only; None for any other source.

    Raises:
        SceneError: As `open_product`; or the product has no such part.
    """
    if (found := _split(path)) is not None:
        container, part = found
        product = open_product(container)
        return None if product is None else Located(product, product.part(part), container, chosen=False)
    product = open_product(path)
    return None if product is None else Located(product, product.default, path, chosen=True)


@dataclass(frozen=True)
class Located:
    """A part of a product, as a source for `Scene.open`."""

    product: Product
    part: Part
    container: str
    """The folder or file on disk."""
    chosen: bool
    """Whether the part was chosen here, because the source names none."""


def container_of(path: str) -> str:
    """The file or folder on disk of a source "PRODUCT:PART"; any other path as it is."""
    found = _split(path)
    return path if found is None else found[0]


def parts_of_source(path: str) -> tuple[Part, ...]:
    """All that a source holds besides one raster: the parts of a product, or subdatasets; empty for a plain raster.

    Raises:
        SceneError: As `open_product` and `subdatasets`.
    """
    if _split(path) is not None:
        return ()
    product = open_product(path)
    return subdatasets(path) if product is None else product.parts


def subdatasets(path: str) -> tuple[Part, ...]:
    """The rasters inside a netCDF, HDF, Zarr or multi-page file, by GDAL's names; those that cannot be opened are left out.

    Raises:
        SceneError: The file itself cannot be opened.
    """
    with reading(path) as source:
        names = list(source.subdatasets)
    found = []
    for name in names[:_MOST_SUBDATASETS]:
        with suppress(SceneError), reading(name) as source:
            grid = Grid(source.height, source.width, source.crs, source.transform)
            titles = [text or f"band {n}" for n, text in enumerate(band_names(source, name), 1)]
            bands = tuple(ProductBand(title, name, n) for n, title in enumerate(titles, 1))
            found.append(Part(path, part_of_subdataset(name), bands, grid, subdataset=name))
    return tuple(found)


def part_of_subdataset(name: str) -> str:
    """The last piece of a subdataset's name that tells it from others: "NETCDF:"x.nc":t2m" -> "t2m"."""
    pieces = [piece for piece in re.split(r"[:/\"]+", _behind_file(name)) if piece]
    return "_".join(pieces) or name


def file_of_subdataset(name: str) -> str | None:
    """The file that a subdataset's name holds; None if the name is that of no subdataset."""
    found = None if exists(name) else _SUBDATASET.fullmatch(name)
    return None if found is None else found["quoted"] or found["plain"]


_SUBDATASET = re.compile(
    r"(?P<driver>[A-Za-z][A-Za-z0-9_]{2,}):(?:\"(?P<quoted>[^\"]+)\"|(?P<plain>(?!//)[^\":]+?))(?P<rest>:.+)?"
)


def _behind_file(name: str) -> str:
    found = _SUBDATASET.fullmatch(name)
    return name if found is None else (found["rest"] or "")


def _split(path: str) -> tuple[str, str] | None:
    """Product and part of "PRODUCT:PART"; None for anything else."""
    if is_remote(path) or exists(path):
        return None
    container, colon, part = path.rpartition(":")
    if not (colon and container and part and "/" not in part and exists(container)):
        return None
    return (container, part) if is_folder(container) or _product_file(container) else None


def _product_file(path: str) -> bool:
    name = Path(path).name
    if _MTD.fullmatch(name) or _MTL.fullmatch(name):
        return True
    if name.lower().endswith(".json"):
        return stac_assets.read_item(path) is not None
    if not prefix_of(name) or not is_file(path):
        return False
    archive = Archive.of(path)
    return archive is not None and _is_known(archive)


def _of_file(path: str) -> Product | None:
    name = Path(path).name
    if _MTD.fullmatch(name):
        archive = Archive.of(str(Path(path).parent))
    elif _MTL.fullmatch(name):
        archive = Archive.of(str(Path(path).parent), deep=False)
    elif name.lower().endswith(".json"):
        item = stac_assets.read_item(path)
        if item is None:
            return None
        bands, tags = stac_assets.bands_and_tags(item, path)
        if not bands:
            raise SceneError(
                f"Cannot use '{path}': none of the assets of this STAC item is a GeoTIFF or a JPEG 2000. "
                "Pass the raster itself."
            )
        return Product(path, "STAC item", parts_of(path, bands, tags))
    elif prefix_of(name) and is_file(path):
        archive = Archive.of(path)
    else:
        return None
    return None if archive is None else _of_archive(path, archive)


def _archive_of_folder(path: str) -> Archive | None:
    """What lies in a folder: to the bottom for a Sentinel-2 product, which is known by what lies at its top."""
    top = Archive.of(path, deep=False)
    if top is None or any(_MTD.fullmatch(name) for name in top.names):
        return Archive.of(path)
    if not top.names:  # a folder around the product
        inner = [child for child in Path(path).iterdir() if child.name.endswith(".SAFE")]
        if len(inner) == 1:
            return Archive.of(path)
    return top


def _is_known(archive: Archive) -> bool:
    return sentinel2.description_of(archive) is not None or landsat.scene_of(archive) is not None


def _of_archive(path: str, archive: Archive) -> Product | None:
    description = sentinel2.description_of(archive)
    if description is not None:
        bands, tags = sentinel2.bands_and_tags(archive, description)
        return Product(path, "Sentinel-2", parts_of(path, bands, tags))
    scene = landsat.scene_of(archive)
    if scene is None:
        return None
    bands, tags = landsat.bands_and_tags(archive, scene)
    return Product(path, "Landsat", parts_of(path, bands, tags))
