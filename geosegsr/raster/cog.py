"""Block files to one verified Cloud-Optimized GeoTIFF."""

from __future__ import annotations

import os
import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn
from xml.etree import ElementTree as ET

import numpy as np
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile
from rasterio.windows import Window as RasterioWindow

from geosegsr.errors import ConfigError, SceneError, VerificationError
from geosegsr.raster.cog_options import (
    LOSSY,
    check_nodata_survives,
    differs_from_default,
    keeps_bits,
    shown_options,
)
from geosegsr.raster.gdal import CACHE_BYTES, GDALError, forget_handles, gdal_reason
from geosegsr.raster.metadata import Metadata
from geosegsr.raster.scene import AlphaPolicy, Scene
from geosegsr.raster.stderr import captured_errors
from geosegsr.raster.vrt import GDAL_TYPES, add_colour_table, add_gcps, add_tags, colour_name
from geosegsr.raster.window import Window

# For a VRT over many files: few open files and a small block cache bound the memory at any size.
_COPY_ENV = {"GDAL_MAX_DATASET_POOL_SIZE": 16, "GDAL_CACHEMAX": CACHE_BYTES}
SMALL_BYTES = 64_000_000
"""Block files and temporary overviews of smaller results are not compressed: it would take a third of the time of a small
COG."""
# The last kinds of COG that GDAL wrote successfully.
_tried: deque[Any] = deque(maxlen=8)
_BLOCK_MARK = "geosegsr block"  # in the TIFF tag for the software
_HEAD = 1 << 16  # bytes at a block file's begin that hold its tags
# The VRT georeferences the block files; rasterio warns about files without any georeferencing.
_SOMEWHERE = Affine.translation(1, 1)


@dataclass(frozen=True)
class BlockFile:
    """A finished piece of the output on disk."""

    path: Path
    """The file."""
    window: Window
    """The output pixels it holds."""
    checksum: int
    """Of its pixels, by `pixel_checksum`."""
    valid: tuple[int, ...]
    """Number of valid pixels of each image band."""


def pixel_checksum(values: NDArray[Any], alpha: NDArray[Any] | None) -> int:
    """CRC-32 of image bands and, where there is one, alpha; the same on every byte order."""
    crc = zlib.crc32(_little_endian(values))
    return crc if alpha is None else zlib.crc32(_little_endian(alpha), crc)


def _little_endian(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).data


def block_bytes(values: NDArray[Any], mask: NDArray[np.bool_] | None, *, packed: bool) -> bytes:
    """A GeoTIFF of one block, as bytes.

    It is made in memory, so that writing it is one plain write whose failure cannot be missed.

    Args:
        values: Shape (bands, height, width).
        mask: Shape (height, width), True where pixels hold data; None for no mask.
        packed: Whether to compress with ZSTD.
    """
    bands, height, width = values.shape
    side = {} if min(height, width) < 512 else {"tiled": True, "blockxsize": 512, "blockysize": 512}
    packing = {"compress": "zstd", "zstd_level": 1} if packed else {}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), MemoryFile() as memory:
        with memory.open(
            driver="GTiff", count=bands, height=height, width=width, dtype=values.dtype,
            photometric="minisblack", transform=_SOMEWHERE, **side, **packing,
        ) as target:  # fmt: skip
            target.update_tags(TIFFTAG_SOFTWARE=_BLOCK_MARK)
            target.write(values)
            if mask is not None:
                target.write_mask(mask)
        return bytes(memory.getbuffer())


def is_block(path: Path) -> bool:
    """Whether a file is one that `block_bytes` made, by a mark in it."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    return head[:2] in (b"II", b"MM") and _BLOCK_MARK.encode() in head


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
    alone = {**_for_metadata(options, metadata), "BLOCKSIZE": "128", "NUM_THREADS": "1"}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), MemoryFile(ext=".tif") as trial:
        try:
            source = MemoryFile(_vrt(small, dtype, [], has_mask), ext=".vrt")
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
    if changed and not differs_from_default(options):  # no option can help
        remedy = "Remove what would change from a copy of the source, with gdal_edit or gdal_translate, and pass the copy"
    return ConfigError(
        f"Cannot write a COG of {len(metadata.bands)} {dtype} bands with {shown_options(options)}: {reason}. {remedy}."
    )


def _for_metadata(options: Mapping[str, str], metadata: Metadata) -> dict[str, str]:
    """With statistics, GDAL rewrites ground control points, rounded to four decimals."""
    return {**options, "STATISTICS": "NO"} if metadata.gcps else dict(options)


def write_cog(
    part: Path,
    metadata: Metadata,
    dtype: np.dtype[Any],
    blocks: Sequence[BlockFile],
    options: Mapping[str, str],
    *,
    has_mask: bool,
) -> None:
    """Copy block files into one COG, through a VRT beside them.

    Args:
        part: Where to write; not yet the target's name.
        metadata: Everything the file is to say about itself.
        dtype: Of every band.
        blocks: Files that cover the output.
        options: From `creation_options`.
        has_mask: Whether the block files carry a mask.

    Raises:
        SceneError: GDAL could not write, for want of space for example.
    """
    vrt = blocks[0].path.parent / "result.vrt"
    size = metadata.height * metadata.width * len(metadata.bands) * dtype.itemsize
    quick = {"COG_TMP_COMPRESSION": "NONE"} if size < SMALL_BYTES else {}
    reported: list[str] = []
    try:
        vrt.write_bytes(_vrt(metadata, dtype, blocks, has_mask))
        with (
            captured_errors(reported),
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True, CPL_TMPDIR=str(part.parent), **_COPY_ENV, **quick),
        ):
            rasterio.shutil.copy(str(vrt), str(part), driver="COG", **_for_metadata(options, metadata))
        if reported:
            raise OSError(reported[0])
        with part.open("rb+") as file:
            os.fsync(file.fileno())
    except (RasterioError, GDALError, OSError, SystemError) as error:
        # rasterio raises SystemError for a failure that GDAL did not return. GDAL would give the error to whoever uses an
        # open file next; opening one discards it.
        forget_handles()
        reason = reported[0] if reported else getattr(error, "strerror", None) or gdal_reason(error)
        raise SceneError(
            f"Cannot write '{part}': {reason}. The finished blocks are kept. "
            "Free some space or fix the cause, and repeat the same command."
        ) from error


def verify_cog(
    path: Path,
    metadata: Metadata,
    dtype: np.dtype[Any],
    blocks: Sequence[BlockFile],
    options: Mapping[str, str],
    *,
    alpha: AlphaPolicy,
    threads: int,
) -> None:
    """Read a finished file back and compare all of it with what was computed.

    Checks the layout (by rio-cogeo), every metadata item, every pixel by checksum (unless the compression is lossy), the
    number of valid pixels of every block and band, and the first overview against means of pixels.

    Raises:
        VerificationError: The file differs; the message says how.
    """
    from rio_cogeo.cogeo import cog_validate  # loads pydantic and more, which no block needs

    # rio-cogeo's strict check expects overviews above 512 pixels; a COG of one block has none, nor one without by request.
    bare = options["OVERVIEWS"].upper() == "NONE" or max(metadata.height, metadata.width) <= int(
        options["BLOCKSIZE"]
    )
    try:
        valid_layout, errors, remarks = cog_validate(str(path), strict=not bare, quiet=True)
        written = Scene.open(path, alpha=alpha)
    except (RasterioError, SceneError) as error:
        _refuse(path, f"it cannot be read again ({gdal_reason(error)})")
    if not valid_layout:
        _refuse(path, f"it is not a valid COG ({'; '.join([*errors, *remarks])})")
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

    with rasterio.Env(**_COPY_ENV):
        if len(blocks) == 1:  # starting a thread would take longer than checking
            check(blocks[0])
        else:
            with ThreadPoolExecutor(threads) as pool:
                for _ in pool.map(check, blocks):
                    pass
    compressions = {options["COMPRESS"].upper(), options.get("OVERVIEW_COMPRESS", "AUTO").upper()}
    lossy_overviews = bool(compressions & LOSSY)  # overviews may be lossy where the pixels are not
    if exact and not lossy_overviews and options["OVERVIEW_RESAMPLING"].upper() == "AVERAGE":
        with rasterio.Env(**_COPY_ENV):
            _check_overview(path, written)
    forget_handles()  # an open handle would keep the disk space of a file that is replaced later


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


def _vrt(metadata: Metadata, dtype: np.dtype[Any], blocks: Sequence[BlockFile], has_mask: bool) -> bytes:
    """A VRT over the block files that carries all metadata. Paths are absolute: GDAL copies no relative ones."""
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
        _add_sources(element, blocks, str(number), gdal_type)
    if has_mask:
        element = ET.SubElement(ET.SubElement(root, "MaskBand"), "VRTRasterBand", dataType="Byte")
        _add_sources(element, blocks, "mask,1", "Byte")
    xml: bytes = ET.tostring(root)
    return xml


def _number(value: float) -> str:
    return "nan" if value != value else repr(value)


def _add_sources(parent: ET.Element, blocks: Sequence[BlockFile], band: str, gdal_type: str) -> None:
    for block in blocks:
        window = block.window
        source = ET.SubElement(parent, "SimpleSource")
        ET.SubElement(source, "SourceFilename", relativeToVRT="0").text = str(block.path.absolute())
        ET.SubElement(source, "SourceBand").text = band
        tile_w, tile_h = (
            ("512", "512") if min(window.height, window.width) >= 512 else (str(window.width), "1")
        )
        ET.SubElement(
            source, "SourceProperties", RasterXSize=str(window.width), RasterYSize=str(window.height),
            DataType=gdal_type, BlockXSize=tile_w, BlockYSize=tile_h,
        )  # fmt: skip
        size: dict[str, str] = {"xSize": str(window.width), "ySize": str(window.height)}
        ET.SubElement(source, "SrcRect", {"xOff": "0", "yOff": "0", **size})
        ET.SubElement(source, "DstRect", {"xOff": str(window.col), "yOff": str(window.row), **size})
