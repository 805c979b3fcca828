"""GDAL's VRT documents: of a whole result, and pieces of them (data types, colours, tags, control points, colour tables)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np

from geosegsr.raster.metadata import Metadata
from geosegsr.raster.window import Window

GDAL_TYPES = {
    "uint8": "Byte", "int8": "Int8", "uint16": "UInt16", "int16": "Int16", "uint32": "UInt32", "int32": "Int32",
    "uint64": "UInt64", "int64": "Int64", "float32": "Float32", "float64": "Float64",
}  # fmt: skip
"""NumPy's name of a data type -> GDAL's."""
_COLOURS = {"other_ir": "OtherIR", "Y": "YCbCr_Y", "Cb": "YCbCr_Cb", "Cr": "YCbCr_Cr"}


@dataclass(frozen=True)
class VRTSource:
    """A file that fills a part of a VRT."""

    path: str
    """Absolute."""
    window: Window
    """The pixels of the VRT that it fills."""
    tile: tuple[int, int]
    """Rows and columns of its tiles."""
    overview: int | None = None
    """Which of its overviews is used; None for its pixels."""


def colour_name(colorinterp: str) -> str:
    """GDAL's name of a colour interpretation, from rasterio's; GDAL ignores case."""
    return _COLOURS.get(colorinterp, colorinterp.capitalize())


def add_gcps(root: ET.Element, metadata: Metadata) -> None:
    """Add the ground control points of a raster."""
    wkt = "" if metadata.gcps_crs is None else metadata.gcps_crs.wkt
    gcps = ET.SubElement(root, "GCPList", Projection=wkt)
    for gcp in metadata.gcps:
        ET.SubElement(
            gcps, "GCP", Id=str(gcp.id or ""), Info=str(gcp.info or ""),
            Pixel=repr(float(gcp.col)), Line=repr(float(gcp.row)),
            X=repr(float(gcp.x)), Y=repr(float(gcp.y)), Z=repr(float(gcp.z or 0)),
        )  # fmt: skip


def add_tags(parent: ET.Element, tags: Mapping[str, str], domain: str | None = None) -> None:
    """Add tags of a domain; none for no tags."""
    if not tags:
        return
    element = ET.SubElement(parent, "Metadata", {} if domain is None else {"domain": domain})
    for key, value in tags.items():
        ET.SubElement(element, "MDI", key=key).text = value


def add_colour_table(band: ET.Element, entries: Sequence[tuple[int, ...]]) -> None:
    """Add red, green, blue and alpha of each pixel value; nothing for no entries."""
    if not entries:
        return
    table = ET.SubElement(band, "ColorTable")
    for entry in entries:
        ET.SubElement(table, "Entry", {f"c{n}": str(part) for n, part in enumerate(entry, 1)})


def result_vrt(
    metadata: Metadata,
    dtype: np.dtype[Any],
    sources: Sequence[VRTSource],
    *,
    has_mask: bool,
    overviews: Sequence[str] = (),
) -> bytes:
    """A VRT that carries all metadata of a result.

    Args:
        metadata: Everything it is to say about itself.
        dtype: Of every band.
        sources: Files that cover it; none for an empty raster.
        has_mask: Whether it has a mask, made of the sources' masks.
        overviews: Rasters with the same bands, and mask, that are its overviews.
    """
    root = ET.Element("VRTDataset", rasterXSize=str(metadata.width), rasterYSize=str(metadata.height))
    if metadata.crs is not None:
        ET.SubElement(root, "SRS").text = metadata.crs.wkt
    if metadata.transform is not None:
        ET.SubElement(root, "GeoTransform").text = ", ".join(repr(v) for v in metadata.transform.to_gdal())
    if metadata.gcps:
        add_gcps(root, metadata)
    add_tags(root, metadata.tags)
    if metadata.rpcs:
        add_tags(root, metadata.rpcs, domain="RPC")
    gdal_type = GDAL_TYPES[dtype.name]
    for number, band in enumerate(metadata.bands, 1):
        element = ET.SubElement(root, "VRTRasterBand", dataType=gdal_type, band=str(number))
        if band.description:
            ET.SubElement(element, "Description").text = band.description
        add_tags(element, band.tags)
        if metadata.nodata is not None:
            ET.SubElement(element, "NoDataValue").text = _number(metadata.nodata)
        if band.unit:
            ET.SubElement(element, "UnitType").text = band.unit
        ET.SubElement(element, "Offset").text = _number(band.offset)
        ET.SubElement(element, "Scale").text = _number(band.scale)
        ET.SubElement(element, "ColorInterp").text = colour_name(band.colorinterp)
        add_colour_table(element, band.colour_table)
        _add_sources(element, sources, str(number), gdal_type)
        _add_overviews(element, overviews, str(number))
    if has_mask:
        element = ET.SubElement(ET.SubElement(root, "MaskBand"), "VRTRasterBand", dataType="Byte")
        _add_sources(element, sources, "mask,1", "Byte")
        _add_overviews(element, overviews, "mask,1")
    xml: bytes = ET.tostring(root)
    return xml


def _number(value: float) -> str:
    return "nan" if value != value else repr(value)


def _add_sources(parent: ET.Element, sources: Sequence[VRTSource], band: str, gdal_type: str) -> None:
    for item in sources:
        window, (tile_h, tile_w) = item.window, item.tile
        source = ET.SubElement(parent, "SimpleSource")
        _add_file(source, item.path, band)
        if item.overview is not None:
            options = ET.SubElement(source, "OpenOptions")
            ET.SubElement(options, "OOI", key="OVERVIEW_LEVEL").text = str(item.overview)
        ET.SubElement(
            source, "SourceProperties", RasterXSize=str(window.width), RasterYSize=str(window.height),
            DataType=gdal_type, BlockXSize=str(tile_w), BlockYSize=str(tile_h),
        )  # fmt: skip
        size: dict[str, str] = {"xSize": str(window.width), "ySize": str(window.height)}
        ET.SubElement(source, "SrcRect", {"xOff": "0", "yOff": "0", **size})
        ET.SubElement(source, "DstRect", {"xOff": str(window.col), "yOff": str(window.row), **size})


def _add_overviews(parent: ET.Element, overviews: Sequence[str], band: str) -> None:
    for path in overviews:
        _add_file(ET.SubElement(parent, "Overview"), path, band)


def _add_file(parent: ET.Element, path: str, band: str) -> None:
    """Paths are absolute: GDAL copies no relative ones."""
    ET.SubElement(parent, "SourceFilename", relativeToVRT="0").text = path
    ET.SubElement(parent, "SourceBand").text = band
