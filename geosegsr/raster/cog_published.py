"""A COG in an object store, read back through GDAL as its users will, and compared with the file that was sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import rasterio
from rasterio.errors import RasterioError
from rasterio.session import AWSSession
from rasterio.windows import Window

from geosegsr.errors import SceneError, VerificationError
from geosegsr.raster.gdal import CACHE_BYTES, GDALError, forget_handles, gdal_reason, read_tag
from geosegsr.raster.network import advice, forget, network_options

_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_ALONE = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"
}  # no right to list the bucket is needed, and no request


def read_published_tag(name: str, tag: str, needs: Mapping[str, str]) -> str | None:
    """A tag of a COG in a store, as it is there now; None where it has none, or where there is no raster.

    Args:
        name: GDAL's, such as /vsis3/bucket/key.tif.
        tag: The tag.
        needs: GDAL's options to reach the store.
    """
    with _reaching(name, needs):
        forget(name)
        return read_tag(name, tag)


def check_published(name: str, shown: str, local: Path, needs: Mapping[str, str]) -> None:
    """Compare head, smallest overview and tiles in five places of a COG in a store with a local file.

    Args:
        name: GDAL's name of it.
        shown: What messages call it.
        local: The file that was sent.
        needs: GDAL's options to reach the store.

    Raises:
        SceneError: GDAL cannot read it.
        VerificationError: It shows something else.
    """
    try:
        with _reaching(name, needs):
            forget(name)
            for there, here in zip(_seen(name), _seen(str(local)), strict=True):
                if there != here:
                    _refuse(shown)
    except (RasterioError, GDALError) as error:
        reason = gdal_reason(error)
        raise SceneError(
            f"Cannot read '{shown}' back through GDAL: {reason}. It arrived whole, and was not deleted. "
            f"{advice(reason) or 'Check what GDAL needs to reach the store, and read it with gdalinfo.'}"
        ) from None
    finally:
        forget_handles()


def _reaching(name: str, needs: Mapping[str, str]) -> rasterio.Env:
    """GDAL's options for one store; rasterio takes keys of AWS as a session only."""
    keys = {option.lower(): needs[option] for option in _KEYS if option in needs}
    options = {"GDAL_CACHEMAX": CACHE_BYTES, **network_options(name), **_ALONE, **needs}
    options = {option: value for option, value in options.items() if option not in _KEYS}
    return rasterio.Env(session=AWSSession(**keys) if keys else None, **options)


def _seen(name: str) -> Iterator[Any]:
    """What is compared, piece by piece."""
    with rasterio.open(name, driver="GTiff") as source:
        levels = [source.overviews(band) for band in source.indexes]
        # As text, in which NaN is NaN.
        yield str((source.shape, source.crs, tuple(source.transform), source.dtypes, source.nodata))
        yield source.tags(), source.descriptions, source.colorinterp, source.mask_flag_enums, levels
        for window in _places(source):
            yield _bytes(source, window)
        smallest = len(levels[0]) - 1
    if smallest >= 0:
        with rasterio.open(name, driver="GTiff", overview_level=smallest) as overview:
            yield _bytes(overview, None)


def _bytes(source: Any, window: Window | None) -> bytes:
    values: bytes = np.ascontiguousarray(source.read(window=window)).tobytes()
    masks: bytes = np.ascontiguousarray(source.read_masks(window=window)).tobytes()
    return values + masks


def _places(source: Any) -> list[Window]:
    """The tiles in the corners and in the middle."""
    height, width = source.block_shapes[0]
    down, across = (source.height - 1) // height, (source.width - 1) // width
    places = {(0, 0), (0, across), (down, 0), (down, across), (down // 2, across // 2)}
    return [
        Window(
            col * width, row * height,
            min(width, source.width - col * width), min(height, source.height - row * height),
        )
        for row, col in sorted(places)
    ]  # fmt: skip


def _refuse(shown: str) -> NoReturn:
    raise VerificationError(
        f"Cannot accept '{shown}': what GDAL reads of it is not what was sent. It arrived whole by its checksum. "
        "Check whether something between here and the store changes answers, and repeat the command with --overwrite."
    )
