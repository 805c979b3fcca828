"""Landsat collection-2 scenes: which files are which bands, and how DN become physical values."""

from __future__ import annotations

import re
from collections.abc import Iterator

from geosegsr.raster.archive import Archive
from geosegsr.raster.product import ProductBand

_FILE = re.compile(
    r"(?:^|/)(?P<scene>L[COTEM]0[1-9]_L\w{3}_\d{6}_\d{8}_\d{8}_02_\w\w)_(?P<band>\w+?)\.TIFF?$", re.IGNORECASE
)
_OLI = {"1": "coastal", "2": "blue", "3": "green", "4": "red", "5": "nir", "6": "swir", "7": "swir", "8": "pan",
        "9": "undefined"}  # fmt: skip
_TM = {"1": "blue", "2": "green", "3": "red", "4": "nir", "5": "swir", "7": "swir", "8": "pan"}
_GROUPS = {
    "SR": ("LEVEL2_SURFACE_REFLECTANCE_PARAMETERS", "REFLECTANCE_{}_BAND_{}"),
    "ST": ("LEVEL2_SURFACE_TEMPERATURE_PARAMETERS", "TEMPERATURE_{}_BAND_ST_B{}"),
    "": ("LEVEL1_RADIOMETRIC_RESCALING", "REFLECTANCE_{}_BAND_{}"),
}
_TAGS = (
    "LANDSAT_PRODUCT_ID", "SPACECRAFT_ID", "SENSOR_ID", "PROCESSING_LEVEL", "DATE_ACQUIRED", "SCENE_CENTER_TIME",
    "CLOUD_COVER", "SUN_ELEVATION", "SUN_AZIMUTH", "WRS_PATH", "WRS_ROW",
)  # fmt: skip


def scene_of(archive: Archive) -> str | None:
    """The identifier of the one Landsat scene inside; None if there is none, or several."""
    found = {match["scene"] for name in archive.names if (match := _FILE.search(name))}
    return found.pop() if len(found) == 1 else None


def bands_and_tags(archive: Archive, scene: str) -> tuple[list[ProductBand], dict[str, str]]:
    """The bands of a scene and its tags, with scales and offsets from its MTL file.

    Reflectance (at the top of the atmosphere not corrected for the sun's elevation) and temperature in kelvins are
    scale * DN + offset. DN 0 of an image holds no data.

    Raises:
        SceneError: The MTL file cannot be read.
    """
    listed = [name for name in archive.names if name.upper().endswith("_MTL.TXT")]
    values = _parse(archive.text(listed[0]).decode(errors="replace")) if listed else {}
    bands = sorted(_bands(archive, values), key=lambda band: _order(band.name))
    every = {key: text for group in reversed(values.values()) for key, text in group.items()}
    return bands, {tag: every[tag] for tag in _TAGS if tag in every}


def _bands(archive: Archive, values: dict[str, dict[str, str]]) -> Iterator[ProductBand]:
    for file in archive.names:
        match = _FILE.search(file)
        if match is None:
            continue
        name, path = match["band"].upper(), archive.gdal(file)
        found = re.fullmatch(r"(?:(SR|ST)_)?B(\d+)(?:_VCID_\d)?", name)
        if found is None:
            if re.fullmatch(r"(?:SR_|ST_)?QA\w*|SR_CLOUD_QA|SR_QA_AEROSOL|QA_\w+", name):
                yield ProductBand(name, path, kind="class")
            elif name in ("SAA", "SZA", "VAA", "VZA"):
                yield ProductBand(name, path, kind="angle", scale=0.01, offset=0.0)
            else:
                yield ProductBand(name, path, kind="other")
            continue
        level, number = found[1] or "", found[2]
        colours = _OLI if match["scene"][3:4] in "89" else _TM
        group, key = _GROUPS[level]
        scale, offset = (_number(values, group, key.format(what, number)) for what in ("MULT", "ADD"))
        is_image = number in colours and level != "ST"
        colour = colours.get(number, "undefined")
        yield ProductBand(name, path, 1, "image" if is_image else "other", colour, scale, offset, 0.0)


def _order(name: str) -> tuple[int, str]:
    digits = re.search(r"B(\d+)", name)
    return (int(digits[1]) if digits else 99), name


def _parse(text: str) -> dict[str, dict[str, str]]:
    """The groups of an MTL file; a key may stand in several groups with different values."""
    groups: dict[str, dict[str, str]] = {}
    inside = ""
    for line in text.splitlines():
        key, equals, value = (part.strip() for part in line.partition("="))
        if key == "GROUP":
            inside = value
        elif equals and key != "END_GROUP":
            groups.setdefault(inside, {})[key] = value.strip('"')
    return groups


def _number(values: dict[str, dict[str, str]], group: str, key: str) -> float | None:
    try:
        return float(values[group][key])
    except (KeyError, ValueError):
        return None
