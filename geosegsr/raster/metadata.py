"""The metadata of a raster, and the same on a finer grid. No I/O."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from affine import Affine
from rasterio import __gdal_version__
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from geosegsr.raster.window import Window

_OLD_COLOURS = {
    "undefined", "gray", "palette", "red", "green", "blue", "alpha", "hue", "saturation", "lightness", "cyan", "magenta",
    "yellow", "black", "Y", "Cb", "Cr",
}  # fmt: skip
_GDAL = tuple(int(part) for part in __gdal_version__.split(".")[:2])
TIFF_COLOURS = {colour.name for colour in ColorInterp} if _GDAL >= (3, 10) else _OLD_COLOURS
"""Colour interpretations that this GDAL writes into a TIFF and reads back."""
_TURNED = {
    "2": "mirrored", "3": "upside down", "4": "mirrored and upside down", "5": "turned and mirrored",
    "6": "turned to the right", "7": "turned and mirrored", "8": "turned to the left",
}  # fmt: skip
"""How EXIF's orientations are shown."""
_NETCDF_GRID = {"GeoTransform", *(f"geospatial_{axis}_resolution" for axis in ("lat", "lon", "x", "y"))}
_NETCDF_PIXELS = {"resolution", "spatial_resolution", "actual_range"}
"""Attributes whose names mean something else outside netCDF."""


@dataclass(frozen=True)
class BandMetadata:
    """One band of a raster."""

    index: int
    """1-based position in the source file."""
    colorinterp: str
    """GDAL's name of the colour interpretation, such as "red" or "undefined"."""
    description: str | None = None
    """The band's name."""
    unit: str | None = None
    """Unit of scale * DN + offset."""
    scale: float = 1.0
    """Physical value per DN."""
    offset: float = 0.0
    """Physical value of DN 0."""
    tags: dict[str, str] = field(default_factory=dict)
    """Band tags; items of other domains as "domain.key"; no statistics."""
    colour_table: tuple[tuple[int, ...], ...] = ()
    """Red, green, blue and alpha (0 to 255) of each pixel value, for a palette; empty without one."""


@dataclass(frozen=True)
class Metadata:
    """Georeferencing, tags and bands of a raster."""

    height: int
    """Rows."""
    width: int
    """Columns."""
    crs: CRS | None
    """Coordinate reference system of the transform."""
    transform: Affine | None
    """(col, row) of pixel corners to coordinates; None if the file has none."""
    bands: tuple[BandMetadata, ...]
    """In output order."""
    nodata: float | None = None
    """Value of pixels without data, the same in all bands."""
    gcps: tuple[GroundControlPoint, ...] = ()
    """Ground control points; with them there is no transform."""
    gcps_crs: CRS | None = None
    """Coordinate reference system of the ground control points."""
    rpcs: dict[str, str] = field(default_factory=dict)
    """Rational polynomial coefficients as GDAL's RPC domain spells them."""
    tags: dict[str, str] = field(default_factory=dict)
    """Dataset tags; items of other domains as "domain.key"."""

    def fault(self) -> str:
        """What is wrong with the metadata, and how to fix it; empty if nothing is."""
        if self.transform is not None:
            numbers = tuple(self.transform)[:6]
            if not all(map(math.isfinite, numbers)) or self.transform.is_degenerate:
                return (
                    f"its geotransform {tuple(f'{number:g}' for number in numbers)} places no pixel on the ground. "
                    "Fix it with gdal_edit -a_ullr, or remove it with gdal_edit -unsetgt"
                ).replace("'", "")
        if not all(
            math.isfinite(n or 0) for gcp in self.gcps for n in (gcp.row, gcp.col, gcp.x, gcp.y, gcp.z)
        ):
            return (
                "a ground control point is not finite. Remove all with gdal_edit -unsetgcp, or fix the file"
            )
        for band in self.bands:
            if not (math.isfinite(band.scale) and math.isfinite(band.offset) and band.scale):
                return (
                    f"band {band.index} has scale {band.scale:g} and offset {band.offset:g}, which map no DN to a "
                    "physical value. Fix them with gdal_edit -scale 1 -offset 0"
                )
        if self.rpcs and not _rpcs_hold(self.rpcs):
            return "its rational polynomial coefficients are incomplete or not finite. Remove them with gdal_edit -unsetrpc"
        return ""

    @property
    def shown(self) -> str:
        """How photo software turns the pixels, such as "turned to the right"; "" if not, or if a georeference places them."""
        placed = self.crs or self.gcps_crs or self.rpcs or self.transform is not None
        return "" if placed else _TURNED.get(self.tags.get("EXIF_Orientation", ""), "")

    def in_tiff(self) -> tuple[Metadata, str]:
        """What a TIFF can hold of it, and what is left out, in words; "" for nothing."""
        gcps = tuple(_numbered_gcp(number, gcp) for number, gcp in enumerate(self.gcps, 1))
        bands = tuple(
            band if band.colorinterp in TIFF_COLOURS else replace(band, colorinterp="undefined")
            for band in self.bands
        )
        lost = [
            f"the colour interpretation '{band.colorinterp}' of band {band.index}"
            for band in self.bands
            if band.colorinterp not in TIFF_COLOURS
        ]
        if [_gcp_key(gcp) for gcp in gcps] != [_gcp_key(gcp) for gcp in self.gcps]:
            lost.append("names and notes of ground control points")
        return replace(self, gcps=gcps, bands=bands), ", ".join(lost)

    def scaled(self, scale: int, window: Window | None = None) -> Metadata:
        """The same ground, or the part of it within a window, on a grid `scale` times as fine.

        Args:
            scale: New pixels per old pixel, along each side.
            window: Part of the raster, in its own pixels; all of it by default.
        """
        window = window or Window(0, 0, self.height, self.width)
        transform = self.transform
        if transform is not None:
            transform = transform @ Affine.translation(window.col, window.row) @ Affine.scale(1 / scale)
        tags = dict(self.tags)
        if self.gcps and "AREA_OR_POINT" in tags:
            tags["AREA_OR_POINT"] = "Area"  # GDAL reads back GCPs of a "Point" raster shifted by a pixel
        return replace(
            self,
            height=window.height * scale,
            width=window.width * scale,
            transform=transform,
            gcps=tuple(scaled_gcp(gcp, scale, window) for gcp in self.gcps),
            rpcs=_scaled_rpcs(self.rpcs, scale, window),
            tags=tags,
        )

    def differences(self, other: Metadata) -> list[str]:
        """What differs, as "item: ours, theirs"; extra tags of `other` do not count."""
        found = [
            f"{name}: {_shown(getattr(self, name))}, {_shown(getattr(other, name))}"
            for name in ("height", "width", "crs", "transform", "gcps_crs")
            if getattr(self, name) != getattr(other, name)
        ]
        if not _same_number(self.nodata, other.nodata):
            found.append(f"nodata: {self.nodata}, {other.nodata}")
        if [_gcp_key(g) for g in self.gcps] != [_gcp_key(g) for g in other.gcps]:
            found.append("gcps")
        found += [
            f"rpcs[{key}]: {_shown(value)}, {_shown(other.rpcs.get(key))}"
            for key, value in self.rpcs.items()
            if not _same_numbers(value, other.rpcs.get(key, ""))
        ]
        found += _missing("tags", self.tags, other.tags)
        if len(self.bands) != len(other.bands):
            return [*found, f"bands: {len(self.bands)}, {len(other.bands)}"]
        for number, (ours, theirs) in enumerate(zip(self.bands, other.bands, strict=True), 1):
            found += [
                f"band {number} {name}: {_shown(getattr(ours, name))}, {_shown(getattr(theirs, name))}"
                for name in ("colorinterp", "description", "unit", "scale", "offset")
                if _same_meaning(getattr(ours, name)) != _same_meaning(getattr(theirs, name))
            ]
            if not _same_colours(ours.colour_table, theirs.colour_table):
                found.append(f"band {number} colour table")
            found += _missing(f"band {number} tags", ours.tags, theirs.tags)
        return found


def _same_colours(ours: tuple[tuple[int, ...], ...], theirs: tuple[tuple[int, ...], ...]) -> bool:
    """Whether two colour tables agree as far as the first goes; a TIFF pads its own, and keeps no alpha."""
    return len(theirs) >= len(ours) and all(a[:3] == b[:3] for a, b in zip(ours, theirs, strict=False))


def _shown(value: Any) -> str:
    """For a message: in one line, with long text cut."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "..."


def _same_meaning(value: Any) -> Any:
    # A TIFF's first band cannot say that its colour is undefined: it reads back as grey.
    return None if value in ("", "undefined", "gray") else value


def _numbered_gcp(number: int, gcp: GroundControlPoint) -> GroundControlPoint:
    """As a TIFF holds it: by its number, without a note."""
    if (gcp.id or "") in ("", str(number)) and not gcp.info:
        return gcp
    return GroundControlPoint(gcp.row, gcp.col, gcp.x, gcp.y, gcp.z, str(number), "")


def is_outdated(key: str) -> bool:
    """Whether a tag no longer holds on another grid: statistics, and what netCDF says of the pixels' size and place."""
    if key.startswith("STATISTICS_") or "HISTOGRAM" in key.upper():
        return True
    variable, _, own = key.rpartition("#")  # GDAL names netCDF's attributes VARIABLE#ATTRIBUTE
    return own in _NETCDF_GRID or (bool(variable) and own in _NETCDF_PIXELS)


def scaled_gcp(gcp: GroundControlPoint, scale: int, window: Window) -> GroundControlPoint:
    """The same ground on the finer grid of a window; only row and col change."""
    return GroundControlPoint(
        row=(gcp.row - window.row) * scale,
        col=(gcp.col - window.col) * scale,
        x=gcp.x,
        y=gcp.y,
        z=gcp.z,
        id=gcp.id,
        info=gcp.info,
    )


def _rpcs_hold(rpcs: dict[str, str]) -> bool:
    """Whether all coefficients that place a pixel exist and are finite."""
    axes = ("LINE", "SAMP", "LAT", "LONG", "HEIGHT")
    needed = {
        **{f"{axis}_{part}": 1 for axis in axes for part in ("OFF", "SCALE")},
        **{f"{axis}_{part}_COEFF": 20 for axis in axes[:2] for part in ("NUM", "DEN")},
    }
    try:
        numbers = {key: [float(n) for n in rpcs[key].split()] for key in needed}
    except (KeyError, ValueError):
        return False
    return all(
        len(numbers[key]) >= count and all(map(math.isfinite, numbers[key])) for key, count in needed.items()
    )


def _scaled_rpcs(rpcs: dict[str, str], scale: int, window: Window) -> dict[str, str]:
    """RPC offsets count from the centre of the first pixel, hence the half pixels."""
    scaled = dict(rpcs)
    for axis, first in (("LINE", window.row), ("SAMP", window.col)):
        if f"{axis}_OFF" in scaled:
            offset = float(scaled[f"{axis}_OFF"].split()[0]) - first
            scaled[f"{axis}_OFF"] = repr((offset + 0.5) * scale - 0.5)
            scaled[f"{axis}_SCALE"] = repr(float(scaled[f"{axis}_SCALE"].split()[0]) * scale)
    return scaled


def _gcp_key(gcp: GroundControlPoint) -> tuple[Any, ...]:
    # An id or info that the source left out may come back empty; positions must not change at all.
    return gcp.row, gcp.col, gcp.x, gcp.y, gcp.z or 0.0, gcp.id or "", gcp.info or ""


def _same_numbers(ours: str, theirs: str) -> bool:
    """Whether two lists of numbers are equal to the 15 digits that GDAL writes; other text must be identical."""
    try:
        a, b = [float(n) for n in ours.split()], [float(n) for n in theirs.split()]
    except ValueError:
        return ours == theirs
    return len(a) == len(b) and all(math.isclose(x, y, rel_tol=1e-14) for x, y in zip(a, b, strict=True))


def _same_number(a: float | None, b: float | None) -> bool:
    return a == b or (a is not None and b is not None and a != a and b != b)


def _missing(what: str, ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    return [
        f"{what}[{_shown(key)}]: {_shown(value)}, {_shown(theirs.get(key))}"
        for key, value in ours.items()
        if theirs.get(key) != value
    ]
