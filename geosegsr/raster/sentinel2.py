"""Sentinel-2 products (SAFE): which files are which bands, and how DN become reflectance."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree as ET

from geosegsr.errors import SceneError
from geosegsr.raster.archive import Archive
from geosegsr.raster.product import ProductBand

_DESCRIPTION = re.compile(r"(?:^|/)(?:MTD_MSIL(?:1C|2A)|S2._\w+_MTD_(?:SAF)?L(?:1C|2A)_.*)\.xml$")
_IMAGE = re.compile(
    r"(?:^|/)GRANULE/(?P<granule>[^/]+)/IMG_DATA/(?:R\d\dm/)?[^/]*?_?"
    r"(?P<band>B(?:0[1-9]|1[0-2]|8A)|SCL|AOT|WVP|TCI)(?:_(?P<size>10|20|60)m)?\.jp2$"
)
BANDS = {
    "B04": (10, "red"), "B03": (10, "green"), "B02": (10, "blue"), "B08": (10, "nir"),
    "B05": (20, "rededge"), "B06": (20, "rededge"), "B07": (20, "rededge"), "B8A": (20, "nir"),
    "B11": (20, "swir"), "B12": (20, "swir"),
    "B01": (60, "coastal"), "B09": (60, "nir"), "B10": (60, "other_ir"),
}  # fmt: skip
"""Reflectance bands in the order of a part: native pixel size in metres, and colour interpretation."""
_BAND_IDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
_QUANTIFICATION = {"AOT": "AOT_QUANTIFICATION_VALUE", "WVP": "WVP_QUANTIFICATION_VALUE"}
_TAGS = (
    "PRODUCT_START_TIME", "PRODUCT_STOP_TIME", "PRODUCT_URI", "PROCESSING_LEVEL", "PRODUCT_TYPE", "PROCESSING_BASELINE",
    "GENERATION_TIME", "SPACECRAFT_NAME", "SENSING_ORBIT_NUMBER", "Cloud_Coverage_Assessment",
)  # fmt: skip


def description_of(archive: Archive) -> str | None:
    """The file inside that describes a Sentinel-2 product; None if there is none."""
    found = [name for name in archive.names if _DESCRIPTION.search(name)]
    return min(found, key=lambda name: name.count("/")) if found else None


def bands_and_tags(archive: Archive, description: str) -> tuple[list[ProductBand], dict[str, str]]:
    """The bands of a product, each at its native pixel size, and the product's tags.

    Reflectance = (DN + offset) / quantification value, as the product's description states them; the offset is -1000
    from processing baseline 04.00 on. DN 0 holds no data.

    Raises:
        SceneError: The description is damaged, or no band is there.
    """
    try:
        root = ET.fromstring(archive.text(description))
    except ET.ParseError as error:
        raise SceneError(
            f"Cannot read '{description}' of '{archive.path}': it is no XML ({error}). Download the product again."
        ) from error
    values = _Values(root)
    folder = description.rpartition("/")[0]
    inside = [name for name in archive.names if name.startswith(folder)]
    bands = list(_bands(archive, inside, values))
    if not bands:
        raise SceneError(
            f"Cannot use '{archive.path}': it describes a Sentinel-2 product, but holds none of its images "
            "(GRANULE/*/IMG_DATA/*.jp2). Download it again."
        )
    return bands, {tag.upper(): text for tag in _TAGS if (text := values.text(tag))}


class _Values:
    """What the XML of a product says; its tags have namespaces that change with every baseline."""

    def __init__(self, root: ET.Element) -> None:
        self._found: dict[str, list[ET.Element]] = {}
        for element in root.iter():
            if isinstance(element.tag, str):
                self._found.setdefault(element.tag.rpartition("}")[2], []).append(element)

    def text(self, tag: str) -> str:
        return next(((element.text or "").strip() for element in self._found.get(tag, ())), "")

    def number(self, *tags: str) -> float | None:
        for tag in tags:
            try:
                return float(self.text(tag))
            except ValueError:
                continue
        return None

    def offsets(self) -> dict[str, float]:
        """What is added to the DN of each band."""
        found = {}
        for element in [*self._found.get("RADIO_ADD_OFFSET", ()), *self._found.get("BOA_ADD_OFFSET", ())]:
            try:
                found[_BAND_IDS[int(element.get("band_id", ""))]] = float(element.text or "")
            except (ValueError, IndexError):
                continue
        return found


def _bands(archive: Archive, names: list[str], values: _Values) -> Iterator[ProductBand]:
    """The finest file of each band that is not finer than the sensor."""
    granules: dict[str, dict[str, dict[int, str]]] = {}
    for name in names:
        if found := _IMAGE.search(name):
            size = int(found["size"] or BANDS.get(found["band"], (10, ""))[0])
            if size >= BANDS.get(found["band"], (0, ""))[0]:
                sizes = granules.setdefault(found["granule"], {}).setdefault(found["band"], {})
                sizes[size] = name
    quantification = values.number("BOA_QUANTIFICATION_VALUE", "QUANTIFICATION_VALUE")
    offsets = values.offsets()
    for granule, bands in sorted(granules.items()):
        tile = f"{_tile(granule)}_" if len(granules) > 1 else ""
        for band in (*BANDS, "TCI", "SCL", "AOT", "WVP"):
            if band not in bands:
                continue
            size, name = min(bands[band].items())
            path = archive.gdal(name)
            if band in BANDS:
                scale = None if not quantification else 1 / quantification
                offset = None if scale is None else offsets.get(band, 0.0) * scale
                yield ProductBand(
                    tile + band, path, 1, "image", BANDS[band][1], scale, offset, 0.0, f"{tile}{size}m"
                )
            elif band == "SCL":
                yield ProductBand(tile + band, path, kind="class", nodata=0.0)
            elif band == "TCI":
                for number, colour in enumerate(("red", "green", "blue"), 1):
                    yield ProductBand(f"{tile}TCI_{colour}", path, number, colour=colour, group=f"{tile}TCI")
            else:
                divisor = values.number(_QUANTIFICATION[band])
                yield ProductBand(tile + band, path, kind="other", scale=1 / divisor if divisor else None)


def _tile(granule: str) -> str:
    found = re.search(r"_(T\d\d[A-Z]{3})(?:_|$)", granule)
    return found[1] if found else granule
