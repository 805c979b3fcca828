"""Directories of TIFF files, read and changed as bytes: those of a writer of our own, and GDAL's."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from geosegsr.raster.tiff import IS_MASK, SUBFILE_TYPE, TILE_OFFSETS, TILE_SIZES, WIDTH, directories

WHOLE = {3: "H", 4: "I", 16: "Q"}
"""Field types that hold whole numbers, and their letters for struct."""


def tiff(images: list[dict[int, tuple[int, list[int]]]], order: str, *, big: bool, gap: int) -> bytes:
    """A TIFF of these directories, each of tag -> (field type, values), with something between them."""
    magic = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}H", 43 if big else 42)
    count, offset, step = ("Q", "Q", 20) if big else ("H", "I", 12)
    data = bytearray(magic + (struct.pack(f"{order}HHQ", 8, 0, 0) if big else struct.pack(f"{order}I", 0)))
    link = len(data) - struct.calcsize(offset)
    for image in images:
        data += bytes(gap)
        struct.pack_into(f"{order}{offset}", data, link, len(data))
        first = len(data) + struct.calcsize(f"={count}")
        link = first + step * len(image)
        data += struct.pack(f"{order}{count}", len(image)) + bytes(
            step * len(image) + struct.calcsize(offset)
        )
        for entry, (tag, (kind, values)) in enumerate(sorted(image.items())):
            raw = struct.pack(f"{order}{len(values)}{WHOLE[kind]}", *values)
            struct.pack_into(f"{order}HH{offset}", data, first + step * entry, tag, kind, len(values))
            inside = first + step * entry + (12 if big else 8)
            if len(raw) <= struct.calcsize(offset):
                data[inside : inside + len(raw)] = raw
            else:
                struct.pack_into(f"{order}{offset}", data, inside, len(data))
                data += raw
    return bytes(data)


@st.composite
def images(draw: st.DrawFn) -> list[dict[int, tuple[int, list[int]]]]:
    """Some directories with some tags each."""

    def values(kind: int) -> st.SearchStrategy[list[int]]:
        most = 2 ** (8 * struct.calcsize(f"={WHOLE[kind]}")) - 1
        return st.lists(st.integers(0, min(most, 2**63 - 1)), min_size=1, max_size=9)

    fields = st.sampled_from(sorted(WHOLE)).flatmap(lambda kind: st.tuples(st.just(kind), values(kind)))
    tags = st.dictionaries(st.integers(254, 400), fields, min_size=1, max_size=6)
    return draw(st.lists(tags, min_size=1, max_size=4))


layouts = st.tuples(st.sampled_from("<>"), st.booleans(), st.integers(0, 7))


@given(images(), layouts)
def test_all_that_was_written_is_read(
    written: list[dict[int, tuple[int, list[int]]]], layout: tuple[str, bool, int]
) -> None:
    order, big, gap = layout
    found = directories(tiff(written, order, big=big, gap=gap))
    assert [{tag: directory.numbers(tag).tolist() for tag in directory.fields} for directory in found] == [
        {tag: values for tag, (_, values) in image.items()} for image in written
    ]


@given(images(), layouts, st.data())
def test_numbers_are_replaced_and_nothing_else(
    written: list[dict[int, tuple[int, list[int]]]], layout: tuple[str, bool, int], data: st.DataObject
) -> None:
    order, big, gap = layout
    head = tiff(written, order, big=big, gap=gap)
    number = data.draw(st.integers(0, len(written) - 1))
    tag = data.draw(st.sampled_from(sorted(written[number])))
    kind, values = written[number][tag]
    written[number][tag] = kind, [value // 2 + 1 for value in values]
    changed = bytearray(head)
    directories(head)[number].replace(changed, tag, np.array(written[number][tag][1], np.int64))
    assert bytes(changed) == tiff(written, order, big=big, gap=gap)


@given(st.binary(max_size=200), st.integers(0, 60))
def test_other_bytes_are_refused_and_never_crash(noise: bytes, at: int) -> None:
    head = bytearray(tiff([{256: (3, [7]), 324: (4, [1, 2, 3])}], "<", big=False, gap=0))
    head[at : at + len(noise)] = noise
    try:
        for directory in directories(bytes(head)):
            for tag in directory.fields:
                directory.numbers(tag)
    except ValueError:
        pass


def test_what_does_not_fit_is_refused() -> None:
    head = tiff([{324: (3, [1, 2])}], "<", big=False, gap=0)
    (directory,) = directories(head)
    for numbers, reason in (([1, 2, 3], "2 values instead of 3"), ([1, 65536], "numbers to 65535 only")):
        with pytest.raises((ValueError, OverflowError), match=reason):
            directory.replace(bytearray(head), 324, np.array(numbers, np.int64))


@pytest.mark.parametrize("big", ["YES", "NO"])
def test_gdals_own_files(big: str, tmp_path: Path) -> None:
    """Masks and overviews included, whose directories lie between the others."""
    path = tmp_path / "a.tif"
    values = np.random.default_rng(0).integers(0, 255, (3, 200, 300)).astype(np.uint8)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="COG", count=3, height=200, width=300, dtype="uint8", blocksize=128, bigtiff=big,
            transform=rasterio.Affine.translation(1, 1),
        ) as target,
    ):  # fmt: skip
        target.write(values)
        target.write_mask(values[0] > 100)
    found = directories(path.read_bytes())
    images = [directory for directory in found if not directory.number(SUBFILE_TYPE) & IS_MASK]
    assert [directory.number(WIDTH) for directory in images] == [300, 150, 75]
    assert len(found) == 2 * len(images)
    with rasterio.open(path) as source:
        for number, (offset, size) in enumerate(
            zip(images[0].numbers(TILE_OFFSETS), images[0].numbers(TILE_SIZES), strict=True)
        ):
            place = f"{number % 3}_{number // 3}"
            assert source.get_tag_item(f"BLOCK_OFFSET_{place}", "TIFF", bidx=1) == str(offset)
            assert source.get_tag_item(f"BLOCK_SIZE_{place}", "TIFF", bidx=1) == str(size)
