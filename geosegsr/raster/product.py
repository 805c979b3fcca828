"""What a product holds: parts of one pixel size, made of bands. Each part is one raster to GDAL."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal
from xml.etree import ElementTree as ET

import numpy as np
from affine import Affine
from rasterio.crs import CRS

from geosegsr.errors import BandError, SceneError, did_you_mean
from geosegsr.raster.gdal import reading
from geosegsr.raster.kinds import BandKind
from geosegsr.raster.texts import band_units
from geosegsr.raster.vrt import GDAL_TYPES, add_tags, colour_name

_ENOUGH_BANDS = 3
ProductKind = Literal["Sentinel-2", "Landsat", "STAC item", "single bands", "subdatasets"]


@dataclass(frozen=True)
class ProductBand:
    """One band of a product."""

    name: str
    """As the product calls it: "B04", "SR_B4", "SCL"."""
    path: str
    """The raster that holds it, as GDAL opens it: an absolute path, /vsizip/..., /vsicurl/..., or a subdataset."""
    band: int = 1
    """1-based position in that raster."""
    kind: BandKind | Literal["other"] = "image"
    """"image", "class", "mask" or "angle"; "other" for what goes with no image, such as temperature or water vapour."""
    colour: str = "undefined"
    """GDAL's name of the colour interpretation, such as "red"."""
    scale: float | None = None
    """Physical value per DN; None where the product says nothing."""
    offset: float | None = None
    """Physical value of DN 0; likewise."""
    nodata: float | None = None
    """Value of pixels without data; likewise."""
    group: str | None = None
    """Overrides the name of the part that the band belongs to, for a band whose pixel size is not its own."""


@dataclass(frozen=True)
class Grid:
    """Pixels of a raster on the ground; equal for all bands of a part."""

    height: int
    width: int
    crs: CRS | None
    transform: Affine
    """(col, row) of pixel corners to coordinates."""

    @property
    def pixel_size(self) -> tuple[float, float]:
        """Length of a pixel's sides along a row and along a column, in units of the CRS."""
        t = self.transform
        return float(np.hypot(t.a, t.d)), float(np.hypot(t.b, t.e))

    @property
    def label(self) -> str:
        """The pixel size as the name of a part: "10m" in metres, "0.00025" in other units."""
        unit = "m" if self.crs is None or self.crs.is_projected else ""
        return f"{round(self.pixel_size[0], 6):g}{unit}"


@dataclass(frozen=True)
class Part:
    """Bands of one grid, which GDAL opens as one raster."""

    product: str
    """The product, as the user named it."""
    name: str
    """"10m" for the images of that pixel size; the band's name for a band that is a part by itself, such as "SCL"."""
    bands: tuple[ProductBand, ...]
    """In the order of the raster that GDAL opens."""
    grid: Grid
    tags: dict[str, str] = field(default_factory=dict)
    """Dataset tags of the raster, such as the time of acquisition."""
    subdataset: str = ""
    """GDAL's name of it, where it is a subdataset; empty otherwise."""

    @property
    def source(self) -> str:
        """What a user types, and `Scene.open` takes: "PRODUCT:PART", or the name of a subdataset."""
        return self.subdataset or f"{self.product}:{self.name}"

    @property
    def band_names(self) -> tuple[str, ...]:
        return tuple(band.name for band in self.bands)

    @property
    def pixel_size(self) -> tuple[float, float]:
        """As `Grid.pixel_size`."""
        return self.grid.pixel_size

    @cached_property
    def path(self) -> str:
        """What GDAL opens: a VRT document over the bands, with their names, scales, offsets and nodata."""
        return self.subdataset or _vrt(self)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "source": self.source,
            "bands": list(self.band_names),
            "kind": self.bands[0].kind,
            "width": self.grid.width,
            "height": self.grid.height,
            "pixel_size": list(self.pixel_size),
        }


@dataclass(frozen=True)
class Product:
    """A product and its parts."""

    path: str
    """As the user named it."""
    kind: ProductKind
    parts: tuple[Part, ...]
    """Images from the finest pixel to the coarsest, then what is no image."""

    @property
    def default(self) -> Part:
        """The finest part with three bands or more; else that with the most bands, the finest of these."""
        images = [part for part in self.parts if part.bands[0].kind == "image"] or list(self.parts)
        enough = [part for part in images if len(part.bands) >= _ENOUGH_BANDS]
        most = max(len(part.bands) for part in images)
        return (enough or [part for part in images if len(part.bands) == most])[0]

    def part(self, name: str) -> Part:
        """The part of a name, or a part of its bands: "10m", "SCL", "B08", "B04,B03,B02".

        Raises:
            SceneError: There is no such part, or the bands are of several grids.
        """
        named = {part.name: part for part in self.parts}
        if name in named:
            return named[name]
        holders = {_key(band.name): (part, band) for part in reversed(self.parts) for band in part.bands}
        wanted = [_key(band) for band in name.split(",")]
        unknown = [band for band in name.split(",") if _key(band) not in holders]
        if unknown:
            bands = [band.name for part in self.parts for band in part.bands]
            known = [*named, *(band for band in bands if band not in named)]
            raise SceneError(
                f"Cannot find '{unknown[0]}' in '{self.path}': it holds {', '.join(known)}."
                f"{did_you_mean(unknown[0], known)}"
            )
        grids = {holders[band][0].grid for band in wanted}
        if len(grids) > 1:
            raise SceneError(
                f"Cannot take {name} of '{self.path}' together: they have pixels of different sizes "
                f"({', '.join(sorted(grid.label for grid in grids))}). Pass bands of one size."
            )
        part = holders[wanted[0]][0]
        return replace(part, name=name, bands=tuple(holders[band][1] for band in wanted))

    def notice(self, part: Part) -> str:
        """What was taken, in one sentence, for a source that names no part."""
        others = [other.source for other in self.parts if other is not part]
        more = (
            f". For the others pass their names, such as '{others[0]}'; 'geosegsr info' lists them"
            if others
            else ""
        )
        return (
            f"'{self.path}' is a product ({self.kind}): its part '{part.name}' is used, with bands "
            f"{', '.join(part.band_names)}{more}"
        )


def _key(name: str) -> str:
    """A band's name as people write it, too: "b8" for "B08"."""
    return re.sub(r"(?<=B)0(?=\d$)", "", name.strip().upper())


def parts_of(
    product: str, bands: Iterable[ProductBand], tags: dict[str, str] | None = None
) -> tuple[Part, ...]:
    """Sort bands into parts: images by their pixel size, everything else alone under its own name.

    Raises:
        SceneError: A band cannot be opened.
    """
    images: dict[tuple[str, Grid], list[ProductBand]] = {}
    alone: list[Part] = []
    for band in bands:
        grid = grid_of(band.path)
        if band.kind == "image":
            images.setdefault((band.group or grid.label, grid), []).append(band)
        else:
            alone.append(Part(product, band.name, (band,), grid, tags or {}))
    together = [Part(product, name, tuple(found), grid, tags or {}) for (name, grid), found in images.items()]
    together.sort(key=lambda part: math.prod(part.pixel_size))
    return (*_told_apart(together), *alone)


def _told_apart(parts: Sequence[Part]) -> list[Part]:
    """Parts whose names are different: a number follows one that was there already."""
    names = [part.name for part in parts]
    return [
        replace(part, name=f"{part.name}-{names[:n].count(part.name) + 1}")
        if part.name in names[:n]
        else part
        for n, part in enumerate(parts)
    ]


def grid_of(path: str) -> Grid:
    """The grid of a raster; only its header is read.

    Raises:
        SceneError: It cannot be opened.
    """
    with reading(path) as source:
        return Grid(source.height, source.width, source.crs, source.transform)


def _vrt(part: Part) -> str:
    """A VRT over the bands of a part; paths in it are absolute."""
    grid = part.grid
    root = ET.Element("VRTDataset", rasterXSize=str(grid.width), rasterYSize=str(grid.height))
    if grid.crs is not None:
        ET.SubElement(root, "SRS").text = grid.crs.wkt
    if grid.transform != Affine.identity():
        ET.SubElement(root, "GeoTransform").text = ", ".join(repr(v) for v in grid.transform.to_gdal())
    add_tags(root, part.tags)
    headers = [_header(band) for band in part.bands]
    dtype = np.result_type(*(header["dtype"] for header in headers))
    for number, (band, header) in enumerate(zip(part.bands, headers, strict=True), 1):
        _add_band(root, number, band, header, dtype)
    return ET.tostring(root, encoding="unicode")


def _header(band: ProductBand) -> dict[str, Any]:
    """What the VRT has to know of a band's raster."""
    with reading(band.path) as source:
        at = band.band - 1
        if not 0 <= at < source.count:
            raise BandError(
                f"Cannot read band {band.band} of '{band.path}' as '{band.name}': it has {source.count}. "
                "Correct the item or metadata that names the band."
            )
        return {
            "dtype": source.dtypes[at],
            "size": (source.width, source.height),
            "block": source.block_shapes[at],
            "nbits": source.tags(band.band, ns="IMAGE_STRUCTURE").get("NBITS"),
            "colour": source.colorinterp[at].name,
            "scale": source.scales[at],
            "offset": source.offsets[at],
            "nodata": source.nodatavals[at],
            "unit": band_units(source, band.path)[at],
        }


def _add_band(
    root: ET.Element, number: int, band: ProductBand, header: dict[str, Any], dtype: np.dtype[Any]
) -> None:
    rows, cols = header["block"]
    kind = GDAL_TYPES[dtype.name]
    element = ET.SubElement(
        root, "VRTRasterBand", dataType=kind, band=str(number), blockXSize=str(cols), blockYSize=str(rows)
    )
    if header["nbits"] is not None:
        add_tags(element, {"NBITS": header["nbits"]}, "IMAGE_STRUCTURE")
    ET.SubElement(element, "Description").text = band.name
    nodata = header["nodata"] if band.nodata is None else band.nodata
    if nodata is not None:
        ET.SubElement(element, "NoDataValue").text = f"{nodata!r}"
    if header["unit"]:
        ET.SubElement(element, "UnitType").text = header["unit"]
    for name in ("offset", "scale"):
        stated = getattr(band, name)
        ET.SubElement(element, name.capitalize()).text = repr(header[name] if stated is None else stated)
    colour = header["colour"] if band.colour == "undefined" else band.colour
    if colour not in ("gray", "palette"):
        ET.SubElement(element, "ColorInterp").text = colour_name(colour)
    width, height = map(str, header["size"])
    source = ET.SubElement(element, "SimpleSource")
    ET.SubElement(source, "SourceFilename", relativeToVRT="0").text = band.path
    ET.SubElement(source, "SourceBand").text = str(band.band)
    ET.SubElement(
        source, "SourceProperties", RasterXSize=width, RasterYSize=height,
        DataType=GDAL_TYPES[header["dtype"]], BlockXSize=str(cols), BlockYSize=str(rows),
    )  # fmt: skip
    for rect in ("SrcRect", "DstRect"):
        ET.SubElement(source, rect, xOff="0", yOff="0", xSize=width, ySize=height)
