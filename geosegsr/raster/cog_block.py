"""Block files: the finished pieces of a result on disk."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile
from rasterio.windows import Window as RasterioWindow

from geosegsr.errors import SceneError, VerificationError
from geosegsr.raster.cog_levels import TILE_OPTIONS, cells_of, levels_inside, one_more, overview_shapes
from geosegsr.raster.cog_options import keeps_bits
from geosegsr.raster.cog_tiles import levels_of
from geosegsr.raster.gdal import GDALError, gdal_reason
from geosegsr.raster.metadata import BandMetadata, Metadata
from geosegsr.raster.nodata import is_invalid, nodata_marker
from geosegsr.raster.window import Window

SMALL_BYTES = 64_000_000
"""Block files and temporary overviews of smaller results are not compressed: it would take a third of the time of a small
COG."""
_BLOCK_MARK = "geosegsr block"  # in the TIFF tag for the software
MARK_WITHIN = 1 << 16
"""Bytes at a block file's begin that hold its tags."""
# Block files have no place of their own; rasterio warns about files without any georeferencing.
_SOMEWHERE = Affine.translation(1, 1)


@dataclass(frozen=True)
class BlockFile:
    """A finished piece of the output on disk."""

    path: Path
    """The file."""
    window: Window
    """The output pixels it holds."""
    checksum: int | None
    """Of its pixels, by `pixel_checksum`; None where its tiles were verified when they were made."""
    valid: tuple[int, ...]
    """Number of valid pixels of each image band."""
    sha256: str = ""
    """Of all of the file; needed where its tiles are copied."""


@dataclass(frozen=True)
class TiledFormat:
    """How the blocks of a result are written where their tiles become those of its COG."""

    levels: int
    """Overviews in each block whose tiles are copied."""
    extra: int
    """Smaller ones that follow them, whose pixels are used."""
    options: Mapping[str, str]
    """Creation options of the tiles."""
    bands: tuple[BandMetadata, ...]
    """All bands of the result; their colours decide how tiles are encoded."""
    nodata: float | None
    cells: tuple[Window, ...] = ()
    """Parts of the result that are files of such tiles, made of plain blocks; none where the blocks themselves are."""

    @classmethod
    def of(
        cls,
        metadata: Metadata,
        dtype: np.dtype[Any],
        options: Mapping[str, str],
        blocks: Sequence[Window],
        *,
        has_mask: bool,
    ) -> TiledFormat | None:
        """The format for a result that is cut into these output windows; this alone decides how its COG is made.

        Returns:
            None where blocks are plain GeoTIFFs, of which GDAL makes the COG.
        """
        nodata = metadata.nodata
        if nodata is not None and nodata == nodata and float(nodata_marker(nodata, dtype)) != nodata:
            return None  # such as 0.1, which no float32 is
        shape = metadata.height, metadata.width
        tiles = {key: value for key, value in options.items() if key in TILE_OPTIONS}
        wanted = len(overview_shapes(*shape, options))
        for windows, cells in ((blocks, ()), (cut := cells_of(shape, options), tuple(cut))):
            levels = levels_inside(shape, windows, dtype, options, has_mask=has_mask)
            if levels is not None:
                extra = wanted - levels if has_mask else one_more(shape, windows, levels, options)
                return cls(levels, extra, tiles, metadata.bands, metadata.nodata, cells)
        return None

    @property
    def key(self) -> dict[str, Any]:
        """What decides the bytes of the blocks, beside the pixels, as JSON."""
        cell = {"cell": max(self.cells[0].height, self.cells[0].width)} if self.cells else {}
        return {"overviews": self.levels, "extra": self.extra, **cell, **self.options}


def pixel_checksum(values: NDArray[Any], alpha: NDArray[Any] | None) -> int:
    """CRC-32 of image bands and, where there is one, alpha; the same on every byte order."""
    crc = zlib.crc32(_little_endian(values))
    return crc if alpha is None else zlib.crc32(_little_endian(alpha), crc)


def piece_checksum(values: NDArray[Any], mask: NDArray[np.bool_] | None) -> int:
    """CRC-32 of all bands and, where there is one, the mask."""
    return pixel_checksum(values, None if mask is None else mask.view(np.uint8))


def _little_endian(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).data


def plain_tile(window: Window) -> tuple[int, int]:
    """Rows and columns of the tiles of a plain GeoTIFF of a block."""
    return (512, 512) if min(window.height, window.width) > 512 else (1, window.width)


def block_bytes(values: NDArray[Any], mask: NDArray[np.bool_] | None, *, packed: bool) -> bytes:
    """A plain GeoTIFF of one block, as bytes.

    It is made in memory, so that writing it is one plain write whose failure cannot be missed.

    Args:
        values: Shape (bands, height, width).
        mask: Shape (height, width), True where pixels hold data; None for no mask.
        packed: Whether to compress with ZSTD.
    """
    bands, height, width = values.shape
    rows, cols = plain_tile(Window(0, 0, height, width))
    side = {} if cols == width else {"tiled": True, "blockxsize": cols, "blockysize": rows}
    packing = (
        {"compress": "zstd", "zstd_level": 1} if packed else {"interleave": "band"}
    )  # whole rows are copied
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


def read_piece(path: Path, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """All bands of a part of a plain block, and its mask where it has one.

    Raises:
        SceneError: The file cannot be read.
    """
    part = RasterioWindow(window.col, window.row, window.width, window.height)
    try:
        with rasterio.Env(), rasterio.open(path) as source:
            masked = MaskFlags.per_dataset in source.mask_flag_enums[0]
            return source.read(window=part), (source.read_masks(1, window=part) > 0) if masked else None
    except (RasterioError, GDALError, SystemError) as error:
        raise SceneError(
            f"Cannot read the finished block '{path}': {gdal_reason(error)}. The other finished blocks are kept. Give the "
            "same command again, and report it if it fails again."
        ) from error


def tiled_block_bytes(values: NDArray[Any], mask: NDArray[np.bool_] | None, form: TiledFormat) -> bytes:
    """A COG of one block whose tiles are those of the result, read back and compared.

    Args:
        values: All bands of the result, alpha included, shape (bands, height, width).
        mask: Shape (height, width), True where pixels hold data; None for no mask.
        form: With the number of overviews.

    Raises:
        VerificationError: It does not hold these pixels.
    """
    try:
        data = _cog_bytes(values, mask, form)
        with rasterio.Env(), MemoryFile(data) as memory, memory.open(OVERVIEW_LEVEL="NONE") as written:
            _check_pixels(written, values, mask, form)
        overviews = len(levels_of(data)) - 1
    except (RasterioError, GDALError, ValueError, SystemError) as error:
        raise _unlike(f"GDAL failed ({gdal_reason(error)})") from error
    if overviews != form.levels + form.extra:
        raise _unlike(f"it has {overviews} overviews instead of {form.levels + form.extra}")
    return data


def _check_pixels(
    written: rasterio.DatasetReader,
    values: NDArray[Any],
    mask: NDArray[np.bool_] | None,
    form: TiledFormat,
) -> None:
    """Compare a file with what it was made of, one row of tiles at a time: they stay in the processor's cache."""
    rows, (_, height, width) = int(form.options["BLOCKSIZE"]), values.shape
    if written.shape != (height, width) or written.count != len(values):
        raise _unlike("its shape is not that of its pixels")
    exact = keeps_bits(form.options, values.dtype)
    for top in range(0, height, rows):
        place = slice(top, min(top + rows, height))
        part = RasterioWindow(0, top, width, place.stop - top)
        found, wanted = written.read(window=part), values[:, place]
        same = _have_same_bits(found, wanted) if exact else _are_as_valid(found, wanted, form)
        if not same:
            raise _unlike("its pixels are not those computed")
        if mask is not None and not np.array_equal(written.read_masks(1, window=part) > 0, mask[place]):
            raise _unlike("its mask is not the one computed")


def _have_same_bits(found: NDArray[Any], values: NDArray[Any]) -> bool:
    def bits(band: NDArray[Any]) -> NDArray[np.uint8]:
        return np.ascontiguousarray(band).view(np.uint8)

    return found.shape == values.shape and all(
        np.array_equal(bits(one), bits(other)) for one, other in zip(found, values, strict=True)
    )


def _are_as_valid(found: NDArray[Any], values: NDArray[Any], form: TiledFormat) -> bool:
    """Whether pixels that lost bits are valid where those were that they were made of."""
    if found.shape != values.shape:
        return False
    alphas = [number for number, band in enumerate(form.bands) if band.colorinterp == ColorInterp.alpha.name]
    return np.array_equal(is_invalid(found, form.nodata), is_invalid(values, form.nodata)) and np.array_equal(
        found[alphas] > 0, values[alphas] > 0
    )


def _unlike(reason: str) -> VerificationError:
    return VerificationError(
        f"Cannot accept a block that was just made: {reason}. It was not written; the finished blocks are kept. "
        "Give the same command again, and report it if it fails again."
    )


def _cog_bytes(values: NDArray[Any], mask: NDArray[np.bool_] | None, form: TiledFormat) -> bytes:
    bands, height, width = values.shape
    levels = form.levels + form.extra
    overviews = {"OVERVIEWS": "IGNORE_EXISTING", "OVERVIEW_COUNT": str(levels)}
    # In GDAL's own threads errors would only go to the terminal.
    options = {**form.options, **(overviews if levels else {"OVERVIEWS": "NONE"}), "NUM_THREADS": "1"}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True, COG_TMP_COMPRESSION="NONE"),
        MemoryFile(ext=".tif") as memory,
        # A dataset of the driver COG would be compressed while it is closed, and all other threads would wait for that.
        rasterio.open(
            "block", "w", driver="MEM", count=bands, height=height, width=width, dtype=values.dtype,
            transform=_SOMEWHERE, nodata=form.nodata,
        ) as source,
    ):  # fmt: skip
        source.colorinterp = [ColorInterp[band.colorinterp] for band in form.bands]
        for number, band in enumerate(form.bands, 1):
            if band.colour_table:
                source.write_colormap(number, dict(enumerate(band.colour_table)))
        source.update_tags(TIFFTAG_SOFTWARE=_BLOCK_MARK)
        source.write(values)
        if mask is not None:
            source.write_mask(mask)
        rasterio.shutil.copy(source, memory.name, driver="COG", **options)
        return bytes(memory.getbuffer())


def check_valid(
    values: NDArray[Any],
    wanted: NDArray[np.bool_],
    seen: NDArray[np.bool_] | None,
    nodata: float | None,
) -> None:
    """Refuse pixels that would be read as valid or invalid otherwise than computed.

    Args:
        values: Image bands, shape (bands, height, width).
        wanted: Same shape, True for valid pixels.
        seen: Shape (height, width), False where a mask or an alpha band hides pixels; None where there is neither.
        nodata: Of the result.

    Raises:
        VerificationError: A band has another number of valid pixels.
    """
    for band, expected in zip(values, wanted, strict=True):
        valid = ~is_invalid(band, nodata)
        if seen is not None:
            valid &= seen
        found, needed = np.count_nonzero(valid), np.count_nonzero(expected)
        if found != needed:
            raise _unlike(f"its valid pixels are {found} instead of {needed}")


def is_block(path: Path) -> bool:
    """Whether a file is one that this module made, by a mark in it."""
    try:
        with path.open("rb") as file:
            return is_marked(file.read(MARK_WITHIN))
    except OSError:
        return False


def is_marked(head: bytes) -> bool:
    """Whether the first MARK_WITHIN bytes of a file are those of a block of this module."""
    return head[:2] in (b"II", b"MM") and _BLOCK_MARK.encode() in head
