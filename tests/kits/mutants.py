"""Files gone wrong: real ones with damage done to what their headers say, the same for the same seed.

Every mutant has a number; its bytes depend on the files to damage, the seed and that number.
"""

from __future__ import annotations

import json
import random
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Mutation = Callable[[random.Random, bytearray], None]

INTERESTING = (
    0, 1, 2, 3, 7, 15, 16, 17, 63, 64, 255, 256, 4096, 32767, 32768, 34712, 50000, 65535, 65536, 2**24, 2**31 - 1, 2**31,
    2**31 + 1, 2**32 - 16, 2**32 - 1,
)  # fmt: skip
TEXTS = (
    b"abc", b"1e400", b"-1e400", b"nan", b"-nan", b"inf", b"1e-320", b"", b"\xff\xfe\x80", b"0x10", b"1,5", b" 7 ",
    b"18446744073709551616", b"-9223372036854775809", b"\x00\x00\x00", b"7" * 400,
)  # fmt: skip
METADATA = (
    b'<GDALMetadata><Item name="A">\xff\xfe</Item></GDALMetadata>',
    b"<GDALMetadata>" * 500,
    b'<!DOCTYPE a [<!ENTITY x "lol"><!ENTITY y "&x;&x;&x;">]><GDALMetadata><Item name="A">&y;</Item></GDALMetadata>',
    b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><GDALMetadata><Item name="A">&x;</Item></GDALMetadata>',
    b'<GDALMetadata><Item name="SCALE" sample="0" role="scale">nan</Item></GDALMetadata>',
    b'<GDALMetadata><Item name="SCALE" sample="0" role="scale">0</Item></GDALMetadata>',
    b'<GDALMetadata><Item name="OFFSET" sample="0" role="offset">inf</Item></GDALMetadata>',
    b'<GDALMetadata><Item name="SCALE" sample="99999999" role="scale">2</Item></GDALMetadata>',
    b'<GDALMetadata><Item name="" sample="0">x</Item><Item>y</Item></GDALMetadata>',
    b'<GDALMetadata><Item name="a=b:c" domain="D=1">one&#10;two</Item></GDALMetadata>',
    b'<GDALMetadata><Item name="NODATA_VALUES">1 2 3 4 5 6 7 8</Item></GDALMetadata>',
    b'<GDALMetadata><Item name="MIN_X" domain="RPC">x</Item><Item name="LINE_OFF" domain="RPC">abc</Item></GDALMetadata>',
    b'<GDALMetadata><Item name="X_DATASET" domain="GEOLOCATION">/etc/passwd</Item></GDALMetadata>',
    b'<GDALMetadata><Item name="A">' + b"long " * 200_000 + b"</Item></GDALMetadata>",
    b'<GDALMetadata><Item name="d" sample="0" role="description">\xe9\x00\x01</Item></GDALMetadata>',
    b'<GDALMetadata><Item name="c" sample="0" role="colorinterp">Alpha</Item></GDALMetadata>',
)  # fmt: skip

WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES = 273, 277, 278, 279
PLANAR, PREDICTOR, TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_BYTES = 284, 317, 322, 323, 324, 325
SUBFILE, EXTRA_SAMPLES, SAMPLE_FORMAT, JPEG_TABLES = 254, 338, 339, 347
PIXEL_SCALE, TIEPOINTS, MATRIX, GEO_KEYS, GEO_DOUBLES, GEO_ASCII = 33550, 33922, 34264, 34735, 34736, 34737
GDAL_METADATA, GDAL_NODATA, RPC = 42112, 42113, 50844
SIZES = {
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
"""Bytes of a value, by the TIFF's number for its type."""


@dataclass(frozen=True)
class Entry:
    """One entry of a TIFF's directory: where it stands, and where its values do."""

    at: int
    tag: int
    kind: int
    count: int
    values: int
    """Position of the first value in the file."""

    @property
    def size(self) -> int:
        """Bytes of all its values."""
        return SIZES.get(self.kind, 1) * self.count


class Tiff:
    """The directories of a TIFF, read without trust: what does not make sense is left out."""

    def __init__(self, data: bytearray) -> None:
        self.data = data
        self.order = ">" if data[:2] == b"MM" else "<"
        self.big = len(data) > 4 and self.number(2, 2) == 43
        self.next_pointers: list[int] = []
        self.entries = list(self._directories())

    def number(self, at: int, size: int) -> int:
        return int.from_bytes(self.data[at : at + size], "big" if self.order == ">" else "little")

    def put(self, at: int, size: int, value: int) -> None:
        if 0 <= at <= len(self.data) - size:
            order = "big" if self.order == ">" else "little"
            self.data[at : at + size] = (value % 256**size).to_bytes(size, order)  # type: ignore[arg-type]

    def _directories(self) -> Iterator[Entry]:
        pointer, wide = (8, 8) if self.big else (4, 4)
        head, step = (8, 20) if self.big else (2, 12)
        seen: set[int] = set()
        while True:
            self.next_pointers.append(pointer)
            at = self.number(pointer, wide)
            if not 0 < at < len(self.data) - head or at in seen:
                return
            seen.add(at)
            count = min(self.number(at, head), 200)
            for position in range(at + head, min(at + head + count * step, len(self.data) - step), step):
                entry = self._entry(position, wide)
                if entry.values + entry.size <= len(self.data):
                    yield entry
            pointer = at + head + count * step

    def _entry(self, at: int, wide: int) -> Entry:
        kind, count = self.number(at + 2, 2), self.number(at + 4, wide)
        inline = at + 4 + wide
        values = inline if SIZES.get(kind, 1) * count <= wide else self.number(inline, wide)
        return Entry(at, self.number(at, 2), kind, count, values)

    def of(self, *tags: int) -> list[Entry]:
        return [entry for entry in self.entries if entry.tag in tags]


def flip_bytes_anywhere(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice((1, 1, 4, 32))):
        data[rng.randrange(len(data))] = rng.randrange(256)


def flip_bytes_of_a_directory(rng: random.Random, data: bytearray) -> None:
    entries = Tiff(data).entries
    for _ in range(rng.choice((1, 2, 5))):
        entry = rng.choice(entries)
        data[entry.at + rng.randrange(12)] = rng.randrange(256)


def change_a_value(rng: random.Random, data: bytearray) -> None:
    """Of any tag, any of its values."""
    tiff = Tiff(data)
    entry = rng.choice([entry for entry in tiff.entries if entry.count])
    size = SIZES.get(entry.kind, 1)
    at = entry.values + size * rng.randrange(entry.count)
    tiff.put(at, size, rng.choice((*INTERESTING, rng.getrandbits(8 * size), tiff.number(at, size) + 1)))


def change_the_kind_or_count(rng: random.Random, data: bytearray) -> None:
    tiff = Tiff(data)
    entry = rng.choice(tiff.entries)
    if rng.random() < 0.5:
        tiff.put(entry.at + 2, 2, rng.randrange(20))
    else:
        tiff.put(
            entry.at + 4, 8 if tiff.big else 4, rng.choice((*INTERESTING, entry.count + 1, entry.count - 1))
        )


def change_the_tag(rng: random.Random, data: bytearray) -> None:
    """One tag's values are read as another's."""
    tiff = Tiff(data)
    tags = [
        *{entry.tag for entry in tiff.entries},
        JPEG_TABLES,
        SUBFILE,
        TILE_WIDTH,
        GDAL_NODATA,
        RPC,
        MATRIX,
        700,
    ]
    tiff.put(rng.choice(tiff.entries).at, 2, rng.choice(tags))


def _set(rng: random.Random, data: bytearray, tags: tuple[int, ...], values: tuple[int, ...]) -> None:
    tiff = Tiff(data)
    for entry in tiff.of(*tags) or tiff.entries[:1]:
        size = SIZES.get(entry.kind, 1)
        if rng.random() < 0.8:
            tiff.put(entry.values, size, rng.choice(values))


def claim_another_size(rng: random.Random, data: bytearray) -> None:
    """Of the raster, or of its tiles or strips."""
    tags = rng.choice(
        ((WIDTH,), (LENGTH,), (WIDTH, LENGTH), (TILE_WIDTH, TILE_LENGTH, ROWS_PER_STRIP), (ROWS_PER_STRIP,))
    )
    tiff = Tiff(data)
    value = rng.choice(INTERESTING)
    for entry in tiff.of(*tags):
        # A short cannot hold a huge size; the type is widened in place, as a writer of such a file would.
        if entry.kind == 3 and value > 65535 and entry.count == 1:
            tiff.put(entry.at + 2, 2, 4)
            tiff.put(entry.values, 4, value)
        else:
            tiff.put(entry.values, SIZES.get(entry.kind, 1), value)


def claim_other_samples(rng: random.Random, data: bytearray) -> None:
    tags = ((BITS,), (SAMPLES,), (SAMPLE_FORMAT,), (EXTRA_SAMPLES,), (BITS, SAMPLES), (PLANAR,))
    _set(rng, data, rng.choice(tags), (0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 31, 32, 64, 128, 1000, 65535))


def claim_another_encoding(rng: random.Random, data: bytearray) -> None:
    tags = rng.choice(((COMPRESSION,), (PREDICTOR,), (PHOTOMETRIC,), (SUBFILE,)))
    codes = (0, 1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34661, 34712, 34887, 34925, 50000, 50001, 50002, 65000)
    _set(rng, data, tags, codes)


def lose_the_pixels(rng: random.Random, data: bytearray) -> None:
    """Offsets and sizes of strips or tiles that point elsewhere."""
    tiff = Tiff(data)
    for entry in tiff.of(*rng.choice(((STRIP_OFFSETS, TILE_OFFSETS), (STRIP_BYTES, TILE_BYTES)))):
        size = SIZES.get(entry.kind, 1)
        for index in range(min(entry.count, 64)):
            if rng.random() < 0.3:
                here = (0, 1, 4, len(data) - 1, len(data), 2**31, 2**32 - 1, rng.randrange(len(data)))
                tiff.put(entry.values + size * index, size, rng.choice(here))


def chain_directories(rng: random.Random, data: bytearray) -> None:
    """Directories in a ring, or outside the file."""
    tiff = Tiff(data)
    wide = 8 if tiff.big else 4
    first = tiff.number(wide, wide)
    here = (first, first, 0, len(data) - 1, len(data), 2**32 - 1, rng.randrange(len(data)))
    tiff.put(rng.choice(tiff.next_pointers), wide, rng.choice(here))


def spoil_the_place(rng: random.Random, data: bytearray) -> None:
    """Transforms, control points and polynomials of odd numbers."""
    tiff = Tiff(data)
    odd = (float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e308, -1e308, 5e-324, -1.0, 1e-30, 1e15)
    for entry in tiff.of(PIXEL_SCALE, TIEPOINTS, MATRIX, GEO_DOUBLES, RPC):
        for index in range(min(entry.count, 1000)):
            if rng.random() < 0.3:
                tiff.data[entry.values + 8 * index : entry.values + 8 * index + 8] = struct.pack(
                    tiff.order + "d", rng.choice(odd)
                )


def spoil_the_crs(rng: random.Random, data: bytearray) -> None:
    tiff = Tiff(data)
    for entry in tiff.of(GEO_KEYS):
        for index in range(entry.count):
            if rng.random() < 0.3:
                codes = (*INTERESTING[:17], 1024, 2048, 3072, 4326, 32767, 32633, rng.randrange(65536))
                tiff.put(entry.values + 2 * index, 2, rng.choice(codes))
    for entry in tiff.of(GEO_ASCII):
        for index in range(entry.count):
            if rng.random() < 0.2:
                data[entry.values + index] = rng.randrange(256)


def _append(tiff: Tiff, entry: Entry, values: bytes, kind: int = 2) -> None:
    """Give an entry other values, at the end of the file."""
    at, wide = len(tiff.data), 8 if tiff.big else 4
    tiff.data += values
    tiff.put(entry.at + 2, 2, kind)
    tiff.put(entry.at + 4, wide, len(values) // SIZES[kind])
    tiff.put(entry.at + 4 + wide, wide, at)
    if len(values) <= wide:
        tiff.data[entry.at + 4 + wide : entry.at + 4 + wide + len(values)] = values


def spoil_the_nodata(rng: random.Random, data: bytearray) -> None:
    tiff = Tiff(data)
    entry = rng.choice(tiff.of(GDAL_NODATA) or tiff.of(305, 306, GEO_ASCII) or tiff.entries)
    tiff.put(entry.at, 2, GDAL_NODATA)
    _append(tiff, entry, rng.choice(TEXTS) + b"\0")


def spoil_the_tags(rng: random.Random, data: bytearray) -> None:
    tiff = Tiff(data)
    entry = rng.choice(tiff.of(GDAL_METADATA) or tiff.of(305, 306, GDAL_NODATA, GEO_ASCII) or tiff.entries)
    tiff.put(entry.at, 2, GDAL_METADATA)
    _append(tiff, entry, rng.choice(METADATA) + b"\0")


def add_control_points(rng: random.Random, data: bytearray) -> None:
    tiff = Tiff(data)
    entries = tiff.of(TIEPOINTS) or tiff.of(PIXEL_SCALE) or tiff.entries
    numbers = [
        rng.choice((rng.uniform(-1e4, 1e4), float("nan"), 1e300)) for _ in range(6 * rng.randrange(1, 40))
    ]
    tiff.put(entries[0].at, 2, TIEPOINTS)
    _append(tiff, entries[0], struct.pack(f"{tiff.order}{len(numbers)}d", *numbers), kind=12)


def add_polynomials(rng: random.Random, data: bytearray) -> None:
    tiff = Tiff(data)
    entry = rng.choice(tiff.of(RPC) or tiff.of(305, 306, GDAL_NODATA, GEO_ASCII) or tiff.entries)
    numbers = [rng.choice((rng.uniform(-1, 1), float("nan"), float("inf"), 0.0)) for _ in range(92)]
    tiff.put(entry.at, 2, RPC)
    _append(tiff, entry, struct.pack(f"{tiff.order}92d", *numbers), kind=12)


def cut(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def zero_a_range(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    stop = min(len(data), at + rng.choice((1, 16, 512, 4096)))
    data[at:stop] = bytes(stop - at)


def repeat_a_range(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    data[at:at] = data[at : at + rng.choice((1, 2, 16, 512))]


SCENE_MUTATIONS: tuple[Mutation, ...] = (
    flip_bytes_anywhere, flip_bytes_of_a_directory, flip_bytes_of_a_directory, change_a_value, change_a_value,
    change_the_kind_or_count, change_the_tag, claim_another_size, claim_another_size, claim_other_samples,
    claim_another_encoding, lose_the_pixels, chain_directories, spoil_the_place, spoil_the_crs, spoil_the_nodata,
    spoil_the_tags, add_control_points, add_polynomials, cut, zero_a_range, repeat_a_range,
)  # fmt: skip


def mutate(data: bytes, mutations: tuple[Mutation, ...], rng: random.Random) -> tuple[bytes, str]:
    """One to three mutations on top of each other; and their names."""
    mutant, names = bytearray(data), []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        mutation = rng.choice(mutations)
        try:
            mutation(rng, mutant)
        except (IndexError, ValueError, struct.error):
            continue  # the one before left nothing for this one to damage
        names.append(mutation.__name__)
    return bytes(mutant), "+".join(names)


# Text: model cards, training configurations, areas of interest.

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
_NUMBERS = (
    b"0", b"-1", b"1e400", b"-1e400", b"NaN", b"Infinity", b"nan", b"inf", b"1e308", b"1e-320", b"99999999999999999999",
    b"2147483648", b"0.5", b"1e6", b"123456789", b"9" * 5000, b"true", b"null", b'"7"', b"[]", b"{}",
)  # fmt: skip


def other_number(rng: random.Random, data: bytearray) -> None:
    found = list(_NUMBER.finditer(data))
    for _ in range(rng.choice((1, 1, 3))):
        match = rng.choice(found)
        data[match.start() : match.end()] = rng.choice(_NUMBERS)
        found = list(_NUMBER.finditer(data))


def drop_or_repeat_a_piece(rng: random.Random, data: bytearray) -> None:
    """A piece between commas or line breaks."""
    pieces = re.split(rb"(?<=[,\n])", bytes(data))
    at = rng.randrange(len(pieces))
    pieces[at : at + 1] = rng.choice(([], [pieces[at]] * 2, [pieces[at]] * 1000))
    data[:] = b"".join(pieces)


def nest_deeply(rng: random.Random, data: bytearray) -> None:
    at = rng.choice([match.start() for match in re.finditer(rb"[\[{(\"]", data)] or [0])
    data[at:at] = rng.choice((b"[", b"{", b'{"a":', b"(")) * rng.choice((5, 100, 50_000))


def odd_characters(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    data[at:at] = rng.choice(
        (b"\x00", b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"\\u0000", b"\\ud800", b"'", b'"', b"\n", b"%s")
    )


def other_word(rng: random.Random, data: bytearray) -> None:
    match = rng.choice(list(re.finditer(rb"[A-Za-z_]{3,}", data)))
    words = (
        b"",
        b"x" * 10_000,
        b"__class__",
        b"../../etc/passwd",
        b"$(touch owned)",
        b"`touch owned`",
        b"null",
        b"true",
    )
    data[match.start() : match.end()] = rng.choice(words)


TEXT_MUTATIONS: tuple[Mutation, ...] = (
    other_number, other_number, other_number, drop_or_repeat_a_piece, nest_deeply, odd_characters, other_word,
    flip_bytes_anywhere, cut,
)  # fmt: skip


_VALUES: tuple[object, ...] = (
    None, True, 0, -1, 0.5, 1e308, -1e308, float("nan"), float("inf"), 2**70, "", "x" * 10_000, "nan", "\udc80", "..", "/",
    "more", "\0", [], {}, [None], {"": None}, ["red", 1], [{}] * 5000, [[[]]], {"href": "data/red.tif"},
)  # fmt: skip


def other_json_value(rng: random.Random, data: bytearray) -> None:
    """Another value, of whatever type, at any depth of a JSON document."""
    document = json.loads(bytes(data))
    places = list(_places_in(document))
    for _ in range(rng.choice((1, 1, 2, 5))):
        holder, key = rng.choice(places)
        holder[key] = rng.choice(_VALUES)
    data[:] = json.dumps(document).encode()


def _places_in(document: Any) -> Iterator[tuple[Any, Any]]:
    """Each dictionary or list with each of its keys."""
    entries = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in list(entries):
        yield document, key
        if isinstance(value, dict | list):
            yield from _places_in(value)


ITEM_MUTATIONS: tuple[Mutation, ...] = (*TEXT_MUTATIONS, *(other_json_value,) * 9)


def in_header(mutations: tuple[Mutation, ...]) -> Mutation:
    """A mutation of a safetensors file's header, whose length is mostly made to fit."""

    def header(rng: random.Random, data: bytearray) -> None:
        length = struct.unpack("<Q", data[:8])[0]
        text = bytearray(data[8 : 8 + length])
        rng.choice(mutations)(rng, text)
        fitting = rng.random() < 0.9
        data[:] = struct.pack("<Q", len(text) if fitting else length) + text + data[8 + length :]

    return header


def in_card(mutations: tuple[Mutation, ...]) -> Mutation:
    """A mutation of the model card inside a safetensors file's header."""

    def card(rng: random.Random, data: bytearray) -> None:
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + length])
        text = bytearray(header["__metadata__"]["geosegsr"].encode())
        rng.choice(mutations)(rng, text)
        header["__metadata__"]["geosegsr"] = text.decode(errors="replace")
        again = json.dumps(header).encode()
        data[:] = struct.pack("<Q", len(again)) + again + data[8 + length :]

    return card


def other_header_length(rng: random.Random, data: bytearray) -> None:
    data[:8] = struct.pack(
        "<Q", rng.choice((0, 1, 2, 2**24, 2**31, 2**63, 2**64 - 1, rng.randrange(len(data))))
    )


CHECKPOINT_MUTATIONS: tuple[Mutation, ...] = (
    in_header(TEXT_MUTATIONS), in_card(TEXT_MUTATIONS), in_card(TEXT_MUTATIONS), in_card((other_number,)),
    other_header_length, flip_bytes_anywhere, cut, repeat_a_range,
)  # fmt: skip


# Files made to do harm, by hand.


def tiny_tiff(*entries: tuple[int, int, int, int], data: bytes = b"") -> bytes:
    """A little-endian TIFF of one directory; entries are (tag, type, count, value), data follows at byte 8 + directory."""
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", *entry) for entry in sorted(entries)
    )
    return b"II*\0\x08\0\0\0" + directory + bytes(4) + data


def _image(
    width: int, height: int, rows: int, offset: int, size: int, compression: int = 1
) -> list[tuple[int, int, int, int]]:
    return [
        (WIDTH, 4, 1, width), (LENGTH, 4, 1, height), (BITS, 3, 1, 8), (COMPRESSION, 3, 1, compression),
        (PHOTOMETRIC, 3, 1, 1), (STRIP_OFFSETS, 4, 1, offset), (SAMPLES, 3, 1, 1), (ROWS_PER_STRIP, 4, 1, rows),
        (STRIP_BYTES, 4, 1, size),
    ]  # fmt: skip


def deflate_bomb(side: int) -> bytes:
    """One strip of zeros that unpacks to side x side bytes."""
    packer = zlib.compressobj(9)
    row = bytes(side)
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    head = len(tiny_tiff(*_image(side, side, side, 0, 0, 8)))
    return tiny_tiff(*_image(side, side, side, head, len(packed), 8), data=packed)


def vrt_over(path: str) -> bytes:
    """A VRT, whatever its file is called."""
    return (
        '<VRTDataset rasterXSize="64" rasterYSize="64"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{path}</SourceFilename><SourceBand>1</SourceBand>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    ).encode()


def python_vrt(marker: Path) -> bytes:
    """A VRT whose pixel function is Python that leaves a file."""
    code = (
        f"import numpy as np\ndef f(a, out, *args, **kw):\n    open({str(marker)!r}, 'w')\n    out[:] = 1\n"
    )
    return (
        '<VRTDataset rasterXSize="64" rasterYSize="64"><VRTRasterBand dataType="Byte" band="1" '
        'subClass="VRTDerivedRasterBand"><PixelFunctionType>f</PixelFunctionType>'
        f"<PixelFunctionLanguage>Python</PixelFunctionLanguage><PixelFunctionCode><![CDATA[{code}]]>"
        "</PixelFunctionCode></VRTRasterBand></VRTDataset>"
    ).encode()


TRAPS: dict[str, Callable[[], bytes]] = {
    "2^31 x 2^31 pixels in 126 bytes, one strip": lambda: tiny_tiff(*_image(2**31 - 1, 2**31 - 1, 2**31 - 1, 8, 1)),
    "2^31 x 2^31 pixels in 126 bytes, strips of a row": lambda: tiny_tiff(*_image(2**31 - 1, 2**31 - 1, 1, 8, 1)),
    "2^31 x 1 pixels": lambda: tiny_tiff(*_image(2**31 - 1, 1, 1, 0, 0)),
    "1 x 2^31 pixels": lambda: tiny_tiff(*_image(1, 2**31 - 1, 1, 0, 0)),
    "300000 x 300000 empty pixels": lambda: tiny_tiff(*_image(300_000, 300_000, 1, 0, 0)),
    "40000 x 40000 empty pixels, one strip": lambda: tiny_tiff(*_image(40_000, 40_000, 40_000, 0, 0)),
    "deflate that unpacks to a gigabyte": lambda: deflate_bomb(32_000),
    "65535 bands": lambda: tiny_tiff(*[e for e in _image(8, 8, 8, 8, 64) if e[0] != SAMPLES], (SAMPLES, 3, 1, 65535)),
    "tiles of 2^31": lambda: tiny_tiff(
        *_image(512, 512, 1, 0, 0)[:5], (TILE_WIDTH, 4, 1, 2**31 - 16), (TILE_LENGTH, 4, 1, 2**31 - 16),
        (TILE_OFFSETS, 4, 1, 8), (TILE_BYTES, 4, 1, 100),
    ),
    "tiles of 65520": lambda: tiny_tiff(
        *_image(512, 512, 1, 0, 0)[:4], (COMPRESSION, 3, 1, 8), (TILE_WIDTH, 4, 1, 65520), (TILE_LENGTH, 4, 1, 65520),
        (TILE_OFFSETS, 4, 1, 8), (TILE_BYTES, 4, 1, 100),
    ),
    "tiles of 16 on 100000 x 100000": lambda: tiny_tiff(
        *_image(100_000, 100_000, 1, 0, 0)[:5], (TILE_WIDTH, 4, 1, 16), (TILE_LENGTH, 4, 1, 16),
        (TILE_OFFSETS, 4, 1, 0), (TILE_BYTES, 4, 1, 0),
    ),
    "only a header": lambda: b"II*\0\x08\0\0\0",
    "a VRT of /etc/passwd": lambda: vrt_over("/etc/passwd"),
    "a VRT of a URL": lambda: vrt_over("/vsicurl/http://127.0.0.1:9/a.tif"),
    "a web service": lambda: b"<GDAL_WMS><Service name='TMS'><ServerUrl>http://127.0.0.1:9/${z}</ServerUrl></Service></GDAL_WMS>",
}  # fmt: skip
