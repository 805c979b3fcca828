"""GDAL's COG driver: its options tried, and block files copied through it."""

from __future__ import annotations

import glob
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import rasterio.shutil
from affine import Affine
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from geosegsr.context import on_step
from geosegsr.errors import ConfigError, SceneError
from geosegsr.raster.cog_block import SMALL_BYTES, BlockFile, plain_tile
from geosegsr.raster.cog_options import check_nodata_survives, differs_from_default, shown_options
from geosegsr.raster.gdal import CACHE_BYTES, GDALError, forget_handles, gdal_reason
from geosegsr.raster.metadata import Metadata
from geosegsr.raster.scene import AlphaPolicy, Scene
from geosegsr.raster.stderr import captured_errors
from geosegsr.raster.vrt import VRTSource, result_vrt

# For a VRT over many files: few open files and a small block cache bound the memory at any size.
COPY_ENV = {"GDAL_MAX_DATASET_POOL_SIZE": 16, "GDAL_CACHEMAX": CACHE_BYTES}
_LOOK_S = 0.5
# The last kinds of COG that GDAL wrote successfully.
_tried: deque[Any] = deque(maxlen=8)


def try_creation_options(
    options: Mapping[str, str],
    metadata: Metadata,
    dtype: np.dtype[Any],
    *,
    has_mask: bool,
    alpha: AlphaPolicy,
) -> None:
    """Write a tiny COG in memory, so that options that GDAL rejects are found before the work and not after it.

    Scenes that differ only in place and in values of tags are tried once: the finished file is compared in any case.

    Raises:
        ConfigError: GDAL cannot write such a COG, or not with this metadata.
    """
    check_nodata_survives(options, metadata, dtype)
    small = replace(metadata, height=160, width=160)
    kind = (
        dict(options),
        replace(small, transform=_shape_of(small.transform), tags=_kinds_of(small.tags)),
        dtype,
        has_mask,
        alpha,
    )
    if kind in _tried:
        return
    # Blocks so small that there is an overview. In GDAL's own threads errors would only go to the terminal.
    alone = {**for_metadata(options, metadata), "BLOCKSIZE": "128", "NUM_THREADS": "1"}
    # Without the sidecar that GDAL would write beside the trial: a result has none.
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True, GDAL_PAM_ENABLED=False),
        MemoryFile(ext=".tif") as trial,
    ):
        try:
            source = MemoryFile(result_vrt(small, dtype, [], has_mask=has_mask), ext=".vrt")
            with source:
                rasterio.shutil.copy(source.name, trial.name, driver="COG", **alone)
            written = Scene.open(trial.name, alpha=alpha)
            written.read(written.window)
        except (RasterioError, GDALError, SceneError, SystemError) as error:
            reason = gdal_reason(error).removeprefix(f"{Path(trial.name).name}: ")
            raise _unsuitable(options, metadata, dtype, reason) from error
        finally:
            forget_handles()
    if differences := small.differences(written.metadata):
        raise _unsuitable(
            options, metadata, dtype, f"it would change (from, to) {'; '.join(differences[:3])}", changed=True
        )
    _tried.append(kind)


def _shape_of(transform: Affine | None) -> Affine | None:
    """Size and orientation of its pixels, without the place."""
    return None if transform is None else Affine.translation(-transform.c, -transform.f) @ transform


def _kinds_of(tags: Mapping[str, str]) -> dict[str, str]:
    """What decides whether GDAL keeps tags: their names, and values that are not one line of text."""
    return {
        key: "" if value.isprintable() and value == value.strip() else value for key, value in tags.items()
    }


def _unsuitable(
    options: Mapping[str, str],
    metadata: Metadata,
    dtype: np.dtype[Any],
    reason: str,
    *,
    changed: bool = False,
) -> ConfigError:
    remedy = "Pass other --co KEY=VALUE"
    if changed and "crs: " in reason:
        remedy = "Reproject the source first, such as by gdalwarp -t_srs EPSG:4326"
    elif changed and not differs_from_default(options):  # no option can help
        remedy = "Remove what would change from a copy of the source, with gdal_edit or gdal_translate, and pass the copy"
    return ConfigError(
        f"Cannot write a COG of {len(metadata.bands)} {dtype} bands with {shown_options(options)}: {reason}. {remedy}."
    )


def for_metadata(options: Mapping[str, str], metadata: Metadata) -> dict[str, str]:
    """With statistics, GDAL rewrites ground control points, rounded to four decimals."""
    return {**options, "STATISTICS": "NO"} if metadata.gcps else dict(options)


@contextmanager
def writing(part: Path, size: int) -> Iterator[None]:
    """Have GDAL write inside the block, with little memory; what fails becomes one SceneError.

    Args:
        part: What is written; flushed to the disk at the end.
        size: Bytes of the result's pixels.

    Raises:
        SceneError: The file could not be written, for want of space for example.
    """
    quick = {"COG_TMP_COMPRESSION": "NONE"} if size < SMALL_BYTES else {}
    reported: list[str] = []
    try:
        with (
            captured_errors(reported),
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True, CPL_TMPDIR=str(part.parent), **COPY_ENV, **quick),
        ):
            yield
        if reported:
            raise OSError(reported[0])
        with part.open("rb+") as file:
            os.fsync(file.fileno())
    except SceneError:
        raise
    except (RasterioError, GDALError, OSError, SystemError) as error:
        # rasterio raises SystemError for a failure that GDAL did not return. GDAL would give the error to whoever uses an
        # open file next; opening one discards it.
        forget_handles()
        reason = reported[0] if reported else getattr(error, "strerror", None) or gdal_reason(error)
        raise SceneError(
            f"Cannot write '{part}': {reason}. The finished blocks are kept. "
            "Free some space or fix the cause, and repeat the same command."
        ) from error


def copy_through_vrt(
    part: Path,
    metadata: Metadata,
    dtype: np.dtype[Any],
    blocks: Sequence[BlockFile],
    options: Mapping[str, str],
    *,
    has_mask: bool,
) -> None:
    """Have GDAL make a COG of block files, through a VRT beside them; see `geosegsr.raster.cog.write_cog`."""
    vrt = blocks[0].path.parent / "result.vrt"
    sources = [VRTSource(str(b.path.absolute()), b.window, plain_tile(b.window)) for b in blocks]
    with writing(part, pixel_bytes(metadata, dtype)):
        vrt.write_bytes(result_vrt(metadata, dtype, sources, has_mask=has_mask))
        with _watched(part):
            rasterio.shutil.copy(str(vrt), str(part), driver="COG", **for_metadata(options, metadata))


@contextmanager
def _watched(part: Path) -> Iterator[None]:
    """Tell how many bytes a file and what GDAL writes beside it have, while GDAL, which tells nothing, writes them."""
    tell, ended = on_step.get(), Event()

    def watch() -> None:
        most = 0  # temporary files vanish again
        while not ended.wait(_LOOK_S):
            with suppress(OSError):
                files = part.parent.glob(f"{glob.escape(part.stem)}*")
                size = sum(file.stat().st_size for file in files)
                if size > most:
                    most = size
                    tell(None, most)

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def pixel_bytes(metadata: Metadata, dtype: np.dtype[Any]) -> int:
    """Size of a result's pixels, uncompressed."""
    return metadata.height * metadata.width * len(metadata.bands) * dtype.itemsize
