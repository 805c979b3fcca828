"""A finished COG read back and compared with what was computed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from geosegsr.context import Share
from geosegsr.errors import SceneError, VerificationError
from geosegsr.raster.cog_block import BlockFile, pixel_checksum
from geosegsr.raster.cog_gdal import COPY_ENV
from geosegsr.raster.cog_options import LOSSY, keeps_bits
from geosegsr.raster.gdal import forget_handles, gdal_reason
from geosegsr.raster.metadata import Metadata
from geosegsr.raster.scene import AlphaPolicy, Scene


def verify_cog(
    path: Path,
    metadata: Metadata,
    dtype: np.dtype[Any],
    blocks: Sequence[BlockFile],
    options: Mapping[str, str],
    *,
    alpha: AlphaPolicy,
    threads: int,
    copied: int | None = None,
) -> None:
    """Read a finished file back and compare all of it with what was computed.

    Checks the layout (by rio-cogeo), every metadata item, every pixel by checksum (unless the compression is lossy), the
    number of valid pixels of every block and band, and the first overview against means of pixels. Pixels of blocks whose
    tiles were verified when they were made are not read again; `copied` is the CRC-32 that `write_cog` returned for them.

    Raises:
        VerificationError: The file differs; the message says how.
    """
    # rio-cogeo's strict check expects overviews above 512 pixels; a COG of one block has none, nor one without by request.
    bare = options["OVERVIEWS"].upper() == "NONE" or max(metadata.height, metadata.width) <= int(
        options["BLOCKSIZE"]
    )
    unread = [block for block in blocks if block.checksum is not None]
    pixel = len(metadata.bands) * dtype.itemsize
    share = Share(
        (0 if copied is None else _size(path))
        + sum(block.window.height * block.window.width * pixel for block in unread)
    )
    with ThreadPoolExecutor(1) as beside:
        found = None if copied is None else beside.submit(copy_context().run, _checksum, path, share)
        written = _opened(path, alpha, strict=not bare)
        if found is not None and found.result() != copied:
            _refuse(path, "its bytes are not those copied from its blocks")
    if written.dtype != dtype:
        _refuse(path, f"its dtype is {written.dtype} instead of {dtype}")
    if differences := metadata.differences(written.metadata):
        _refuse(path, f"its metadata differs (expected, found): {'; '.join(differences[:5])}")
    exact = keeps_bits(options, dtype)

    def check(block: BlockFile) -> None:
        values, valid = written.read(block.window)
        counts = tuple(int(np.count_nonzero(band)) for band in valid)
        if counts != block.valid:
            _refuse(path, f"valid pixels at {block.window} are {counts} instead of {block.valid}")
        if exact and pixel_checksum(values, written.read_alpha(block.window)) != block.checksum:
            _refuse(path, f"pixels at {block.window} are not those computed")

    with rasterio.Env(**COPY_ENV):
        if len(unread) == 1:  # starting a thread would take longer than checking
            check(unread[0])
        elif unread:
            with ThreadPoolExecutor(threads) as pool:
                for block, _ in zip(unread, pool.map(check, unread), strict=True):
                    share.add(block.window.height * block.window.width * pixel)
    compressions = {options["COMPRESS"].upper(), options.get("OVERVIEW_COMPRESS", "AUTO").upper()}
    lossy_overviews = bool(compressions & LOSSY)  # overviews may be lossy where the pixels are not
    if exact and not lossy_overviews and options["OVERVIEW_RESAMPLING"].upper() == "AVERAGE":
        with rasterio.Env(**COPY_ENV):
            _check_overview(path, written)
    forget_handles()  # an open handle would keep the disk space of a file that is replaced later


def _opened(path: Path, alpha: AlphaPolicy, *, strict: bool) -> Scene:
    """The file as a scene, once its layout is known to be that of a COG."""
    from rio_cogeo.cogeo import cog_validate  # loads pydantic and more, which no block needs

    with _reading(path):
        valid_layout, errors, remarks = cog_validate(str(path), strict=strict, quiet=True)
        written = Scene.open(path, alpha=alpha)
    if not valid_layout:
        _refuse(path, f"it is not a valid COG ({'; '.join([*errors, *remarks])})")
    return written


def _checksum(path: Path, share: Share) -> int:
    crc = 0
    with _reading(path), path.open("rb") as file:
        while chunk := file.read(1 << 20):
            crc = zlib.crc32(chunk, crc)
            share.add(len(chunk))
    return crc


def _size(path: Path) -> int:
    with _reading(path):
        return path.stat().st_size


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Refuse a file that cannot be read."""
    try:
        yield
    except (RasterioError, SceneError, OSError) as error:
        reason = getattr(error, "strerror", None) or gdal_reason(error)
        _refuse(path, f"it cannot be read again ({reason})")


def _check_overview(path: Path, written: Scene) -> None:
    """Compare the first overview with means of the pixels under it, in a few windows of the scene."""
    if not written.overviews:
        return
    tolerance = 1 if written.dtype.kind != "f" else 0
    images = [i for i, band in enumerate(written.metadata.bands, 1) if band.index in written.image_bands]
    with (
        rasterio.open(path, OVERVIEW_LEVEL="NONE") as full,
        rasterio.open(path, overview_level=0) as overview,
    ):
        across, down = full.width / overview.width, full.height / overview.height
        side = min(128, overview.height, overview.width)
        one_tile = max(overview.height, overview.width) <= overview.block_shapes[0][0]
        for share in (0.0,) if one_tile else (0.0, 0.5, 1.0):
            row, col = int(share * (overview.height - side)), int(share * (overview.width - side))
            found = overview.read(images, window=RasterioWindow(col, row, side, side)).astype(np.float64)
            expected = full.read(
                images,
                window=RasterioWindow(col * across, row * down, side * across, side * down),
                out_shape=found.shape,
                resampling=Resampling.average,
            ).astype(np.float64)
            off = np.abs(found - expected)
            if (off > tolerance + 1e-5 * np.abs(expected)).any():
                _refuse(path, f"its overview does not show its pixels (off by {np.nanmax(off):g})")


def _refuse(path: Path, reason: str) -> NoReturn:
    raise VerificationError(
        f"Cannot accept '{path}': {reason}. It was not moved into place; the finished blocks are kept. "
        "Give the same command again, and report it if it fails again."
    )
