"""One COG out of block files that hold its compressed tiles: GDAL writes its head and its small overviews."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.io import MemoryFile

from geosegsr.context import Share
from geosegsr.errors import SceneError, VerificationError
from geosegsr.raster.cog_block import BlockFile, TiledFormat
from geosegsr.raster.cog_gdal import for_metadata, pixel_bytes, writing
from geosegsr.raster.cog_levels import overview_shapes
from geosegsr.raster.cog_tiles import Source, Span, assembled, levels_of
from geosegsr.raster.metadata import Metadata
from geosegsr.raster.vrt import VRTSource, result_vrt
from geosegsr.raster.window import Window

_HEAD = 1 << 14  # bytes at a COG's begin that hold its directories, unless it is large
_PIECE = 1 << 23  # bytes copied at a time
_CACHE_BYTES = 64 << 20
_MOST_OPEN = 128
"""Block files that GDAL holds open for small overviews, which it reads twice: a file that was closed is decoded again."""


@dataclass(frozen=True)
class Result:
    """What is written."""

    metadata: Metadata
    dtype: np.dtype[Any]
    options: Mapping[str, str]
    """All creation options."""
    has_mask: bool


def join_blocks(part: Path, result: Result, blocks: Sequence[BlockFile], form: TiledFormat) -> int:
    """Write a COG by copying the tiles of its blocks.

    Args:
        part: Where to write.
        result: Its metadata and options.
        blocks: Files by `tiled_block_bytes` that cover the result.
        form: Their format.

    Returns:
        CRC-32 of the file.

    Raises:
        SceneError: It could not be written, for want of space for example.
        VerificationError: A block's file does not hold the bytes it should.
    """
    small = part.with_name(f"{part.stem}.overviews.tif")
    with writing(part, pixel_bytes(result.metadata, result.dtype)):
        try:
            head, readers, spans = _laid_out(small, result, blocks, form)
        except OverflowError as error:
            raise SceneError(
                f"Cannot write '{part}': it takes more than 4 GB, and BIGTIFF=NO or IF_NEEDED allows no more. The "
                "finished blocks are kept. Repeat the same command with --co BIGTIFF=YES."
            ) from error
        except ValueError as error:
            raise VerificationError(
                f"Cannot make '{part}' of its blocks: {error}. The finished blocks are kept. Give the same command again, "
                "and report it if it fails again."
            ) from error
        written, share = 0, Share(len(head) + sum(span.stop - span.start for span in spans))
        with part.open("wb") as file:
            for piece in _ahead(_pieces(head, spans, readers)):
                file.write(piece)
                written = zlib.crc32(piece, written)
                share.add(len(piece))
        small.unlink(missing_ok=True)
    for reader, block in zip(readers, blocks, strict=False):
        reader.check(block)
    return written


def _laid_out(
    small: Path, result: Result, blocks: Sequence[BlockFile], form: TiledFormat
) -> tuple[bytes, list[_Reader], list[Span]]:
    """Head of the result, where its tiles are, and which of their bytes follow it; small overviews are written first."""
    tile, inside = int(result.options["BLOCKSIZE"]), form.levels
    metadata = result.metadata
    with ThreadPoolExecutor(1) as beside:
        head = beside.submit(empty_cog, result)
        readers = [_Reader(block.path) for block in blocks]
        sources = [
            Source(reader.levels[: inside + 1], 0, block.window.row // tile, block.window.col // tile)
            for reader, block in zip(readers, blocks, strict=True)
        ]
        if len(overview_shapes(metadata.height, metadata.width, result.options)) > inside:
            _write_small_overviews(small, result, blocks, form)
            readers.append(_Reader(small))
            sources.append(Source(readers[-1].levels[0 if form.extra else 1 :], inside + 1))
        patched, spans = assembled(head.result(), sources)
    return patched, readers, spans


def _pieces(head: bytes, spans: Sequence[Span], readers: Sequence[_Reader]) -> Iterator[bytes]:
    """The bytes of the result, in order."""
    yield head
    for span in spans:
        for start in range(span.start, span.stop, _PIECE):
            yield readers[span.source].read(start, min(start + _PIECE, span.stop))


def _ahead(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same, each read by another thread while the one before it is used."""
    with ThreadPoolExecutor(1) as beside:
        coming = beside.submit(next, pieces, None)
        while (piece := coming.result()) is not None:
            coming = beside.submit(next, pieces, None)
            yield piece


class _Reader:
    """A source on disk, read once from begin to end; its checksum is that of all that was read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        size = _HEAD
        while True:
            with path.open("rb") as file:
                head = file.read(size)
            try:
                levels = levels_of(head)
                starts = [level.spans[0][level.spans[1] > 0] for level in levels]
                break
            except ValueError:
                if len(head) < size:
                    raise
                size *= 8
        head = head[: min(int(found.min()) for found in starts if found.size)]
        self.levels = levels_of(head)  # holds no more than it needs: there may be many thousand blocks
        self._hash, self._position = hashlib.sha256(head), len(head)

    def read(self, start: int, stop: int) -> bytes:
        with self._path.open("rb") as file:
            file.seek(self._position)
            self._hash.update(file.read(start - self._position))  # overviews whose tiles are not copied
            data = file.read(stop - start)
        self._hash.update(data)
        self._position = stop
        return data

    def check(self, block: BlockFile) -> None:
        if self._hash.hexdigest() != block.sha256:
            raise VerificationError(
                f"Cannot use the block '{self._path}': its pixels are not those computed. The other finished blocks are "
                "kept. Give the same command again, and report it if it fails again."
            )


def empty_cog(result: Result) -> bytes:
    """A COG by GDAL of an empty raster with all metadata of a result: its directories, and no tiles."""
    metadata = result.metadata
    shapes = overview_shapes(metadata.height, metadata.width, result.options)
    # GDAL would compute overviews of nothing, for minutes where the result is large.
    overviews = "NONE" if result.options["OVERVIEWS"].upper() == "NONE" else "AUTO"
    options = {**result.options, "OVERVIEWS": overviews, "SPARSE_OK": "YES", "NUM_THREADS": "1"}
    bare = replace(metadata, transform=None, crs=None, gcps=(), rpcs={}, tags={})
    # GDAL's settings belong to a thread, and this may be another than the caller's.
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), ExitStack() as stack:

        def memory(height: int, width: int) -> str:
            small = result_vrt(
                replace(bare, height=height, width=width), result.dtype, [], has_mask=result.has_mask
            )
            return str(stack.enter_context(MemoryFile(small, ext=".vrt")).name)

        paths = [memory(*shape) for shape in shapes]
        whole = result_vrt(metadata, result.dtype, [], has_mask=result.has_mask, overviews=paths)
        source = stack.enter_context(MemoryFile(whole, ext=".vrt"))
        target = stack.enter_context(MemoryFile(ext=".tif"))
        rasterio.shutil.copy(source.name, target.name, driver="COG", **for_metadata(options, metadata))
        return bytes(target.getbuffer())


def _write_small_overviews(
    path: Path, result: Result, blocks: Sequence[BlockFile], form: TiledFormat
) -> None:
    """A COG by GDAL of those overviews of the result that are smaller than the ones that are copied.

    Its pixels are the first of them where the blocks hold it, else the overview before the first. GDAL computes those that the
    blocks do not hold.
    """
    metadata, folder = result.metadata, blocks[0].path.parent
    shapes = overview_shapes(metadata.height, metadata.width, result.options)
    shrunk = replace(
        metadata, transform=Affine.translation(1, 1), crs=None, gcps=(), gcps_crs=None, rpcs={}, tags={}
    )

    def overview(level: int, overviews: Sequence[str]) -> bytes:
        height, width = shapes[level - 1]
        return result_vrt(
            replace(shrunk, height=height, width=width), result.dtype,
            _at_level(blocks, level, int(result.options["BLOCKSIZE"])),
            has_mask=result.has_mask, overviews=overviews,
        )  # fmt: skip

    options = {**result.options, "STATISTICS": "NO"}
    first = form.levels + 1 if form.extra else form.levels
    # Pixels of overviews with odd sides depend on how GDAL compresses its temporary files: that must stay as for the whole.
    env = {"GDAL_MAX_DATASET_POOL_SIZE": _MOST_OPEN, "GDAL_CACHEMAX": _CACHE_BYTES}
    with rasterio.Env(**env), ExitStack() as stack:
        smaller = []
        if form.extra and form.levels + form.extra == len(shapes):
            options["OVERVIEWS"] = "AUTO"
            for level in range(first + 1, len(shapes) + 1):
                smaller.append(str(stack.enter_context(MemoryFile(overview(level, ()), ext=".vrt")).name))
        vrt = folder / "result.vrt"
        vrt.write_bytes(overview(first, smaller))
        rasterio.shutil.copy(str(vrt), str(path), driver="COG", **for_metadata(options, shrunk))


def _at_level(blocks: Sequence[BlockFile], level: int, tile: int) -> list[VRTSource]:
    """An overview of a result, as sources of a VRT."""
    sources = []
    for block in blocks:
        row, col, row_stop, col_stop = (
            edge >> level
            for edge in (block.window.row, block.window.col, block.window.row_stop, block.window.col_stop)
        )
        window = Window(row, col, row_stop - row, col_stop - col)
        sources.append(VRTSource(str(block.path.absolute()), window, (tile, tile), level - 1))
    return sources
