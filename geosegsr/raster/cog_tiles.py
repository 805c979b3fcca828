"""One COG from the compressed tiles of others: which bytes of which file follow each other. No files, no GDAL.

    result    head                       tiles: the smallest overview first, each level row by row
              [directories, no tiles]    [1/4 ][1/2            ][full                              ]
    sources   block 0 [head][1/4][1/2][full], block 1 [head][1/4][1/2][full], ...

The head is GDAL's own, of an empty raster with all metadata; only the positions and sizes of tiles are put in. A tile is
copied with what GDAL's COG driver writes around it: its size in four bytes before, and its last four bytes again after it.

Source:
    GDAL, Cloud Optimized GeoTIFF, https://gdal.org/en/stable/drivers/raster/cog.html, "File format details".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from geosegsr.raster.tiff import (
    HEIGHT,
    IS_MASK,
    SUBFILE_TYPE,
    TILE_HEIGHT,
    TILE_OFFSETS,
    TILE_SIZES,
    TILE_WIDTH,
    WIDTH,
    Directory,
    directories,
)

_LEADER = _TRAILER = 4
# What GDAL's COG driver says near the begin of a file about the bytes around its tiles.
_SAID = b"BLOCK_LEADER=SIZE_AS_UINT4", b"BLOCK_TRAILER=LAST_4_BYTES_REPEATED", b"BLOCK_ORDER=ROW_MAJOR"
_SAID_WITHIN = 512
# How a tile is decoded: bits, compression, colour space, bit order, samples, planes, predictor, tile sides, extra
# samples, sample format, JPEG tables, chroma subsampling, LERC's parameters.
_DECODING = 258, 259, 262, 266, 277, 284, 317, 322, 323, 338, 339, 347, 530, 50674


@dataclass(frozen=True)
class Span:
    """Bytes of a source."""

    source: int
    """Its number."""
    start: int
    stop: int
    """The first byte that is not part of it."""


@dataclass(frozen=True)
class Level:
    """The pixels or one overview of a COG: a directory of the image, and one of its mask."""

    planes: tuple[Directory, ...]
    """The image, and its mask if there is one: in the order in which their tiles follow each other."""

    @property
    def tiles(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        image = self.planes[0]
        rows = -(-image.number(HEIGHT) // image.number(TILE_HEIGHT))
        return rows, -(-image.number(WIDTH) // image.number(TILE_WIDTH))

    @cached_property
    def spans(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Start and size of what each tile takes in the file, each of shape (rows, columns, planes); size 0: not there.

        Raises:
            ValueError: There is another number of tiles.
        """
        shape = self.tiles
        sizes = np.stack([plane.numbers(TILE_SIZES).reshape(shape) for plane in self.planes], axis=-1)
        offsets = np.stack([plane.numbers(TILE_OFFSETS).reshape(shape) for plane in self.planes], axis=-1)
        there = sizes > 0
        return np.where(there, offsets - _LEADER, 0), np.where(there, sizes + _LEADER + _TRAILER, 0)

    def decodes_as(self, other: Level) -> bool:
        """Whether tiles of one may stand in the other."""
        return len(self.planes) == len(other.planes) and all(
            ours.raw(tag) == theirs.raw(tag)
            for ours, theirs in zip(self.planes, other.planes, strict=True)
            for tag in _DECODING
        )


def levels_of(head: bytes) -> list[Level]:
    """The levels of a COG that GDAL wrote, from the largest.

    Args:
        head: The file, or as much of its beginning as holds the directories.

    Raises:
        ValueError: It is no such COG.
    """
    if not all(said in head[:_SAID_WITHIN] for said in _SAID):
        raise ValueError("this is no COG of GDAL's with sizes around its tiles")
    found = directories(head)
    masks = [directory for directory in found if directory.number(SUBFILE_TYPE) & IS_MASK]
    images = [directory for directory in found if not directory.number(SUBFILE_TYPE) & IS_MASK]
    if masks and len(masks) != len(images):
        raise ValueError("some levels have a mask, and some have none")
    levels = zip(images, masks, strict=True) if masks else zip(images, strict=True)
    return [Level(planes) for planes in levels]


@dataclass(frozen=True)
class Source:
    """A COG some of whose tiles become tiles of the result."""

    levels: Sequence[Level]
    """Those that are used, from the largest."""
    first: int
    """Which level of the result the first of them belongs to."""
    tile_row: int = 0
    """Where its first tile lies in that level of the result; halved from level to level."""
    tile_col: int = 0


def assembled(head: bytes, sources: Sequence[Source]) -> tuple[bytes, list[Span]]:
    """Lay out a COG.

    Args:
        head: A COG without tiles, as GDAL writes one of an empty raster with SPARSE_OK=YES.
        sources: Together they hold each tile of each level once.

    Returns:
        The head with all positions and sizes; and what follows it, in order.

    Raises:
        ValueError: Sources are missing, overlap or are encoded otherwise.
        OverflowError: The head is no BigTIFF, and cannot hold such positions.
    """
    levels = levels_of(head)
    patched, position = bytearray(head), len(head)
    spans: list[Span] = []
    for number in range(len(levels) - 1, -1, -1):
        level = levels[number]
        owners, starts, sizes = _gathered(level, number, sources)
        ends = position + np.cumsum(sizes.ravel()).reshape(sizes.shape)
        begins = ends - sizes
        for plane, directory in enumerate(level.planes):
            there = sizes[..., plane] > 0
            offsets = np.where(there, begins[..., plane] + _LEADER, 0)
            lengths = np.where(there, sizes[..., plane] - _LEADER - _TRAILER, 0)
            directory.replace(patched, TILE_OFFSETS, offsets.ravel())
            directory.replace(patched, TILE_SIZES, lengths.ravel())
        position = int(ends.flat[-1])
        spans += _joined(owners.ravel(), starts.ravel(), sizes.ravel())
    return bytes(patched), spans


def _gathered(
    level: Level, number: int, sources: Sequence[Source]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Source, start and size of each tile of a level, each of shape (rows, columns, planes)."""
    shape = (*level.tiles, len(level.planes))
    owners, starts, sizes = np.full(shape, -1), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for index, source in enumerate(sources):
        inside = number - source.first
        if not 0 <= inside < len(source.levels):
            continue
        part = source.levels[inside]
        if not part.decodes_as(level):
            raise ValueError(f"source {index} is encoded otherwise at level {number}")
        rows, cols = part.tiles
        top, left = source.tile_row >> inside, source.tile_col >> inside
        place = slice(top, top + rows), slice(left, left + cols)
        if owners[place].shape[:2] != (rows, cols) or (owners[place] >= 0).any():
            raise ValueError(f"source {index} overlaps another or lies outside at level {number}")
        owners[place] = index
        starts[place], sizes[place] = part.spans
    if (owners < 0).any():
        raise ValueError(f"tiles are missing at level {number}")
    return owners, starts, sizes


def _joined(owners: NDArray[np.int64], starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> Iterator[Span]:
    """Spans in order, with those joined that follow each other in their source."""
    there = sizes > 0
    owners, starts, stops = owners[there], starts[there], (starts + sizes)[there]
    if not owners.size:
        return
    breaks = np.flatnonzero((owners[1:] != owners[:-1]) | (starts[1:] != stops[:-1])) + 1
    firsts, lasts = np.concatenate([[0], breaks]), np.concatenate([breaks, [owners.size]]) - 1
    for first, last in zip(firsts, lasts, strict=True):
        yield Span(int(owners[first]), int(starts[first]), int(stops[last]))
