"""The directories of a TIFF as bytes: read, and their numbers replaced. Classic TIFF and BigTIFF, both byte orders.

GDAL reads and writes pixels; this is for moving compressed tiles from one file to another, which GDAL does not offer.

Source:
    TIFF 6.0, Adobe, 1992, section 2; The BigTIFF file format, https://libtiff.gitlab.io/libtiff/specification/bigtiff.html.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SUBFILE_TYPE, WIDTH, HEIGHT, PLANES = 254, 256, 257, 284
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_SIZES = 322, 323, 324, 325
"""Tags: NewSubfileType, ImageWidth, ImageLength, PlanarConfiguration, TileWidth, TileLength, TileOffsets, TileByteCounts."""
IS_OVERVIEW, IS_MASK = 1, 4
"""Bits of NewSubfileType."""
# Field types -> bytes of a value; and those that are whole numbers -> NumPy's letter for them.
_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_WHOLE = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}


@dataclass(frozen=True)
class Field:
    """Where a directory keeps the values of a tag."""

    kind: int
    """The TIFF field type, such as 3 for SHORT."""
    count: int
    """Number of values."""
    position: int
    """Of the first value, in bytes from the start of the file."""

    @property
    def stop(self) -> int:
        """The first byte after the values."""
        return self.position + self.count * _SIZES.get(self.kind, 1)


@dataclass(frozen=True)
class Directory:
    """One image of a file: its fields by tag."""

    head: bytes
    """The file, or as much of it as holds all directories and their values."""
    order: str
    """"<" for little-endian numbers, ">" for big-endian ones."""
    fields: Mapping[int, Field]

    def raw(self, tag: int) -> bytes:
        """The bytes of a tag's values; empty without the tag.

        Raises:
            ValueError: They lie beyond the end of `head`.
        """
        field = self.fields.get(tag)
        if field is None:
            return b""
        if field.stop > len(self.head):
            raise ValueError(f"the values of TIFF tag {tag} lie beyond the first {len(self.head)} bytes")
        return self.head[field.position : field.stop]

    def numbers(self, tag: int) -> NDArray[np.int64]:
        """A tag's whole numbers, shape (count,); empty without the tag.

        Raises:
            ValueError: They are no whole numbers, or lie beyond the end of `head`.
        """
        field = self.fields.get(tag)
        if field is None:
            return np.zeros(0, np.int64)
        return np.frombuffer(self.raw(tag), self._dtype(tag)).astype(np.int64)

    def number(self, tag: int, default: int = 0) -> int:
        """The first of a tag's whole numbers."""
        found = self.numbers(tag)
        return int(found[0]) if found.size else default

    def replace(self, head: bytearray, tag: int, numbers: NDArray[np.int64]) -> None:
        """Write other whole numbers over those of a tag.

        Args:
            head: Bytes as in `self.head`, changed in place.
            tag: One of the directory's.
            numbers: As many as there are now.

        Raises:
            ValueError: There are more or fewer.
            OverflowError: The tag's type does not hold such large numbers.
        """
        field, dtype = self.fields[tag], self._dtype(tag)
        if numbers.size != field.count:
            raise ValueError(f"TIFF tag {tag} holds {field.count} values instead of {numbers.size}")
        if numbers.size and (numbers.min() < 0 or int(numbers.max()) > np.iinfo(dtype).max):
            raise OverflowError(f"TIFF tag {tag} holds numbers to {np.iinfo(dtype).max} only")
        head[field.position : field.stop] = numbers.astype(dtype).tobytes()

    def _dtype(self, tag: int) -> np.dtype[Any]:
        kind = self.fields[tag].kind
        if kind not in _WHOLE:
            raise ValueError(f"TIFF tag {tag} holds no whole numbers")
        return np.dtype(self.order + _WHOLE[kind])


def directories(head: bytes) -> list[Directory]:
    """All directories of a file, in its own order.

    Args:
        head: The file, or as much of its beginning as holds the directories.

    Raises:
        ValueError: It is no TIFF, or a directory lies beyond the end of `head`.
    """
    order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
    version = struct.unpack_from(f"{order}H", head, 2)[0] if order and len(head) >= 16 else 0
    if version not in (42, 43):
        raise ValueError("this is no TIFF")
    layout = _Layout(order, big=version == 43)
    found: list[Directory] = []
    seen: set[int] = set()
    try:
        position = layout.offset(head, 8 if layout.big else 4)
        while position:
            if position in seen:
                raise ValueError("the directories of the TIFF form a loop")
            seen.add(position)
            fields, position = layout.directory(head, position)
            found.append(Directory(head, order, fields))
    except struct.error as error:
        raise ValueError(f"a directory of the TIFF lies beyond the first {len(head)} bytes") from error
    return found


@dataclass(frozen=True)
class _Layout:
    """How a file spells its directories."""

    order: str
    big: bool

    def offset(self, head: bytes, position: int) -> int:
        return int(struct.unpack_from(f"{self.order}{'Q' if self.big else 'I'}", head, position)[0])

    def directory(self, head: bytes, position: int) -> tuple[dict[int, Field], int]:
        """The fields of the directory at a position, and the position of the next directory or 0."""
        count = struct.unpack_from(f"{self.order}{'Q' if self.big else 'H'}", head, position)[0]
        first, step = position + (8 if self.big else 2), 20 if self.big else 12
        end = first + count * step
        following = self.offset(head, end)
        fields: dict[int, Field] = {}
        for entry in range(first, end, step):
            tag, kind = struct.unpack_from(f"{self.order}HH", head, entry)
            values = self.offset(head, entry + 4)
            inside = entry + (12 if self.big else 8)
            fits = _SIZES.get(kind, 1) * values <= (8 if self.big else 4)
            fields[tag] = Field(kind, values, inside if fits else self.offset(head, inside))
        return fields, following
