"""Pieces of GDAL's VRT documents: names of data types and colours, tags, control points and colour tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from geosegsr.raster.metadata import Metadata

GDAL_TYPES = {
    "uint8": "Byte", "int8": "Int8", "uint16": "UInt16", "int16": "Int16", "uint32": "UInt32", "int32": "Int32",
    "uint64": "UInt64", "int64": "Int64", "float32": "Float32", "float64": "Float64",
}  # fmt: skip
"""NumPy's name of a data type -> GDAL's."""
_COLOURS = {"other_ir": "OtherIR", "Y": "YCbCr_Y", "Cb": "YCbCr_Cb", "Cr": "YCbCr_Cr"}


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
