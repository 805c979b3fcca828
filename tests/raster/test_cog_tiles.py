"""A COG made of its blocks' tiles is the one that GDAL makes of the same pixels: every level, every tag."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from comparison import cog_differences
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rio_cogeo.cogeo import cog_validate

from geosegsr.errors import SceneError, VerificationError
from geosegsr.raster import cog_block
from geosegsr.raster.cog import write_cog
from geosegsr.raster.cog_block import BlockFile, TiledFormat, block_bytes, tiled_block_bytes
from geosegsr.raster.cog_levels import levels_inside, overview_shapes
from geosegsr.raster.cog_options import creation_options
from geosegsr.raster.cog_tiles import Source, assembled, levels_of
from geosegsr.raster.metadata import BandMetadata, Metadata
from geosegsr.raster.window import Window

SIDE = 512
"""Of a block: four tiles of the smallest size, so that blocks hold two overviews."""
UTM = CRS.from_epsg(32633)


def windows(height: int, width: int, side: int) -> list[Window]:
    return [
        Window(row, col, min(side, height - row), min(side, width - col))
        for row in range(0, height, side)
        for col in range(0, width, side)
    ]


def metadata(height: int, width: int, colours: tuple[str, ...], **changes: Any) -> Metadata:
    bands = tuple(
        BandMetadata(
            number, colour, f"band {number}", "m", 0.5, 3.0, {"KEY": "value", "STATISTICS_MEAN": "7.5"}
        )
        for number, colour in enumerate(colours, 1)
    )
    tags = {"AREA_OR_POINT": "Area", "NOTE": "a note, longer than what fits into a field of a directory"}
    whole = Metadata(height, width, UTM, Affine(10, 0, 4e5, 0, -10, 5e6), bands, tags=tags)
    return replace(whole, **changes)


def pixels(shape: tuple[int, int, int], dtype: str, seed: int = 0) -> NDArray[Any]:
    """Noise and a third of zeros, in whole tiles as well."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 250, shape)
    values[:, rng.random(shape[1:]) < 0.3] = 0
    values[:, :130, :270] = 0
    return values.astype(dtype)


class Made:
    """The same pixels as blocks of both kinds, and as COGs."""

    def __init__(
        self,
        folder: Path,
        values: NDArray[Any],
        mask: NDArray[np.bool_] | None,
        facts: Metadata,
        **options: str,
    ) -> None:
        self.options = creation_options({"BLOCKSIZE": "128", **options})
        self.args = facts, values.dtype
        self.has_mask = mask is not None
        side = SIDE if self.options["BLOCKSIZE"] != "144" else 576
        self.windows = windows(facts.height, facts.width, side)
        self.form = TiledFormat.of(*self.args, self.options, self.windows, has_mask=self.has_mask)
        assert self.form is not None
        self.folder, self.tiled, self.plain = folder, [], []
        for number, window in enumerate(self.windows):
            part = np.ascontiguousarray(values[(slice(None), *window.slices)])
            hidden = None if mask is None else mask[window.slices]
            tiled = tiled_block_bytes(part, hidden, self.form)
            self.tiled.append(self.block(f"tiled{number}.tif", window, tiled))
            plain = block_bytes(part, hidden, packed=False)
            self.plain.append(self.block(f"plain{number}.tif", window, plain))

    def block(self, name: str, window: Window, data: bytes) -> BlockFile:
        path = self.folder / name
        path.write_bytes(data)
        return BlockFile(path, window, None, (), hashlib.sha256(data).hexdigest())

    def joined(self) -> Path:
        path = self.folder / "joined.tif"
        write_cog(path, *self.args, self.tiled, self.options, self.form, has_mask=self.has_mask)
        return path

    def by_gdal(self) -> Path:
        path = self.folder / "gdal.tif"
        write_cog(path, *self.args, self.plain, self.options, None, has_mask=self.has_mask)
        return path

    def assert_same(self) -> None:
        joined, wanted = self.joined(), self.by_gdal()
        assert cog_differences(joined, wanted) == []
        ours, theirs = (cog_validate(str(path), strict=True, quiet=True) for path in (joined, wanted))
        assert ours == theirs
        if min(self.args[0].height, self.args[0].width) > 512 and self.options["OVERVIEWS"] != "NONE":
            assert ours == (True, [], [])


RGB, GREY = ("red", "green", "blue"), ("gray",)
MANY = ("gray", *("undefined",) * 6)
SHAPES = {
    "whole blocks": (1024, 512),
    "parts of tiles at the edges": (1028, 1100),
    "odd from the second overview": (1030, 1154),
    "narrow blocks at the edges": (516, 1540),
    "one block": (437, 301),
    "one column": (300, 1),
    "one pixel": (1, 1),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(
    ("dtype", "colours", "nodata"),
    [
        ("uint8", RGB, None),
        ("uint8", GREY, 0.0),
        ("uint16", (*RGB, "undefined"), 0.0),
        ("float32", GREY, float("nan")),
        ("uint8", (*RGB, "alpha"), None),
    ],
    ids=["rgb", "grey with nodata", "four bands of 16 bit", "float", "alpha"],
)
def test_sizes(
    shape: tuple[int, int], dtype: str, colours: tuple[str, ...], nodata: float | None, tmp_path: Path
) -> None:
    values = pixels((len(colours), *shape), dtype)
    if dtype == "float32":
        values[values == 0] = np.nan
    if "alpha" in colours:
        values[3] = np.where(values[3] > 80, 255, 0)
    Made(tmp_path, values, None, metadata(*shape, colours, nodata=nodata)).assert_same()


KINDS: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "int16": ("int16", GREY, {"nodata": -1.0}),
    "int8": ("int8", GREY, {}),
    "float64": ("float64", GREY, {"nodata": 0.0}),
    "grey and alpha": ("uint16", ("gray", "alpha"), {}),
    "many bands": ("uint16", MANY, {"nodata": 0.0}),
    "rotated": ("uint8", RGB, {"transform": Affine.rotation(30) @ Affine.scale(2, -2)}),
    "no crs": ("uint8", GREY, {"crs": None, "transform": None, "tags": {}}),
    "points": ("uint8", GREY, {"tags": {"AREA_OR_POINT": "Point"}}),
    "gcps": (
        "uint8",
        GREY,
        {
            "transform": None,
            "crs": None,
            "gcps_crs": UTM,
            "gcps": tuple(
                GroundControlPoint(r, c, 4e5 + c / 3, 5e6 - r / 7, 1.5, str(i), "")
                for i, (r, c) in enumerate([(0, 0), (0, 900), (900, 0), (900, 900)], 1)
            ),
        },
    ),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_kinds(kind: tuple[str, tuple[str, ...], dict[str, Any]], tmp_path: Path) -> None:
    dtype, colours, changes = kind
    shape = 516, 1100
    Made(
        tmp_path, pixels((len(colours), *shape), dtype), None, metadata(*shape, colours, **changes)
    ).assert_same()


@pytest.mark.parametrize("shape", [(512, 500), (440, 304), (1, 100)])
@pytest.mark.parametrize("colours", [GREY, RGB])
def test_masks(shape: tuple[int, int], colours: tuple[str, ...], tmp_path: Path) -> None:
    values = pixels((len(colours), *shape), "uint8")
    mask = np.random.default_rng(1).random(shape) > 0.4
    Made(tmp_path, values, mask, metadata(*shape, colours)).assert_same()


@pytest.mark.parametrize("overviews", ["NONE", "AUTO"])
@pytest.mark.parametrize("shape", [(528, 1040), (1056, 2080), (1024, 1024)])
def test_masks_of_several_blocks(shape: tuple[int, int], overviews: str, tmp_path: Path) -> None:
    """Also where GDAL computes further overviews from the pixels."""
    values, rng = pixels((3, *shape), "uint8"), np.random.default_rng(1)
    mask = (rng.random(shape) > 0.4) & (np.add.outer(np.arange(shape[0]), np.arange(shape[1])) > 300)
    Made(tmp_path, values, mask, metadata(*shape, RGB), OVERVIEWS=overviews).assert_same()


OPTIONS = [
    {"COMPRESS": "NONE"},
    {"COMPRESS": "LZW", "PREDICTOR": "NO"},
    {"COMPRESS": "ZSTD", "LEVEL": "9"},
    {"COMPRESS": "LZMA", "LEVEL": "1"},
    {"COMPRESS": "LERC"},
    {"COMPRESS": "LERC_ZSTD", "MAX_Z_ERROR": "0"},
    {"COMPRESS": "WEBP", "QUALITY": "100", "OVERVIEW_COMPRESS": "DEFLATE"},
    {"COMPRESS": "JPEG", "OVERVIEW_COMPRESS": "ZSTD"},
    {"LEVEL": "9", "PREDICTOR": "STANDARD"},
    {"OVERVIEW_COMPRESS": "ZSTD", "OVERVIEW_PREDICTOR": "NO"},
    {"OVERVIEWS": "NONE"},
    {"OVERVIEWS": "AUTO"},
    {"BIGTIFF": "YES"},
    {"BIGTIFF": "NO", "NUM_THREADS": "2"},
    {"GEOTIFF_VERSION": "1.1"},
    {"STATISTICS": "NO"},
    {"BLOCKSIZE": "256"},
    {"BLOCKSIZE": "144", "OVERVIEWS": "NONE"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: " ".join(f"{k}={v}" for k, v in o.items()))
def test_creation_options(options: dict[str, str], tmp_path: Path) -> None:
    shape = 520, 1100
    values = pixels((3, *shape), "uint8") // 64 * 64
    Made(tmp_path, values, None, metadata(*shape, RGB), **options).assert_same()


@pytest.mark.parametrize(
    "options",
    [
        {"COMPRESS": "JPEG", "QUALITY": "60"},
        {"COMPRESS": "WEBP", "QUALITY": "60"},
        {"COMPRESS": "LERC", "MAX_Z_ERROR": "3"},
        {"OVERVIEW_COMPRESS": "JPEG", "OVERVIEW_QUALITY": "50"},
    ],
    ids=lambda o: " ".join(o.values()),
)
@pytest.mark.parametrize("overviews", ["NONE", "AUTO"])
def test_lossy_tiles_where_blocks_hold_all_overviews(
    overviews: str, options: dict[str, str], tmp_path: Path
) -> None:
    shape = 500, 1024 if overviews == "NONE" else 512
    values = np.broadcast_to(np.arange(shape[1]) // 5, (3, *shape)).astype(np.uint8)
    Made(tmp_path, values, None, metadata(*shape, RGB), OVERVIEWS=overviews, **options).assert_same()


def test_a_palette_by_nearest_neighbour(tmp_path: Path) -> None:
    shape = 512, 1024
    facts = metadata(*shape, ("palette",))
    table = tuple((value, 255 - value, 7, 255) for value in range(256))
    facts = replace(facts, bands=(replace(facts.bands[0], colour_table=table),))
    Made(tmp_path, pixels((1, *shape), "uint8"), None, facts, OVERVIEW_RESAMPLING="NEAREST").assert_same()


# Which results can be made so.


def inside(
    shape: tuple[int, int], *, dtype: str = "uint8", mask: bool = False, side: int = SIDE, **options: str
) -> int | None:
    chosen = creation_options({"BLOCKSIZE": "128", **options})
    return levels_inside(shape, windows(*shape, side), np.dtype(dtype), chosen, has_mask=mask)


def test_blocks_hold_the_overviews_that_no_edge_disturbs() -> None:
    assert inside((1024, 1024)) == inside((1028, 2052)) == 2
    assert inside((1030, 1024)) == 1
    assert inside((1031, 1024)) is None
    assert inside((2048, 2048), side=1024) == 3
    assert inside((1024, 1024), side=500) is None
    assert inside((437, 301)) == len(overview_shapes(437, 301, creation_options({"BLOCKSIZE": "128"}))) == 2
    assert inside((1031, 1023), OVERVIEWS="NONE") == 0
    assert inside((440, 304), mask=True) == 2
    assert inside((438, 304), mask=True) is None


@pytest.mark.parametrize(
    "refused",
    [
        {"mask": True},
        {"OVERVIEW_RESAMPLING": "NEAREST"},
        {"OVERVIEW_RESAMPLING": "CUBIC"},
        {"COMPRESS": "JPEG"},
        {"COMPRESS": "LERC", "MAX_Z_ERROR": "1"},
        {"OVERVIEW_COMPRESS": "WEBP"},
        {"COMPRESS": "WEBP", "QUALITY": "100"},
        {"COMPRESS": "LERC", "MAX_Z_ERROR_OVERVIEW": "1"},
        {"STATISTICS": "YES"},
        {"NBITS": "4"},
        {"OVERVIEW_COUNT": "2"},
        {"INTERLEAVE": "BAND"},
        {"SPARSE_OK": "YES"},
        {"dtype": "int64"},
    ],
    ids=str,
)
def test_gdal_makes_the_rest(refused: dict[str, Any]) -> None:
    assert inside((1028, 1028)) == 2
    assert inside((1028, 1028), **refused) is None


# What is refused.


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path, pixels((1, 520, 1028), "uint8"), None, metadata(520, 1028, GREY))


def test_a_block_that_has_changed_is_refused(made: Made) -> None:
    """Also where only what surrounds a tile differs."""
    for place in (-1, -3, 3000):
        whole = bytearray(made.tiled[1].path.read_bytes())
        whole[place] ^= 1
        made.tiled[1].path.write_bytes(whole)
        with pytest.raises((SceneError, VerificationError), match=r"pixels are not those computed|Read"):
            made.joined()


def test_tiles_that_decode_to_something_else_are_noticed(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = cog_block._cog_bytes
    monkeypatch.setattr(cog_block, "_cog_bytes", lambda values, *rest: honest(values ^ 1, *rest))
    with pytest.raises(
        VerificationError, match="a block that was just made: its pixels are not those computed"
    ):
        tiled_block_bytes(np.zeros((1, 128, 128), np.uint8), None, made.form)


def test_more_than_4_gb_needs_a_bigtiff(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def large(*_: object) -> None:
        raise OverflowError("TIFF tag 324 holds numbers to 4294967295 only")

    monkeypatch.setattr("geosegsr.raster.cog_join.assembled", large)
    with pytest.raises(SceneError, match=r"more than 4 GB.* --co BIGTIFF=YES"):
        made.joined()


# The assembler alone.


def heads(made: Made) -> Iterator[bytes]:
    for block in made.tiled:
        yield block.path.read_bytes()


def test_sources_that_leave_a_gap_or_overlap_are_refused(tmp_path: Path) -> None:
    made = Made(tmp_path, pixels((1, 512, 1024), "uint8"), None, metadata(512, 1024, GREY), OVERVIEWS="NONE")
    head = made.joined().read_bytes()
    first, second = (Source(levels_of(data), 0, 0, 4 * n) for n, data in enumerate(heads(made)))
    assembled(head, [first, second])
    for wrong, reason in (
        ([first], "missing"),
        ([first, second, second], "overlaps"),
        ([first, replace(second, tile_col=5)], "lies outside"),
    ):
        with pytest.raises(ValueError, match=reason):
            assembled(head, wrong)


def test_a_source_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    facts, values = metadata(300, 300, GREY), pixels((1, 300, 300), "uint8")
    one = Made(tmp_path, values, None, facts)
    other = Made(tmp_path / "other", values, None, facts, PREDICTOR="NO")
    with pytest.raises(ValueError, match="encoded otherwise"):
        assembled(one.joined().read_bytes(), [Source(levels_of(next(heads(other))), 0)])


def test_neighbouring_tiles_are_one_range(made: Made) -> None:
    """So an upload asks for few ranges."""
    head = made.joined().read_bytes()
    sources = [
        Source(levels_of(data), 0, window.row // 128, window.col // 128)
        for data, window in zip(heads(made), made.windows, strict=True)
    ]
    small = Source(levels_of(head)[3:], 3)
    _, spans = assembled(head, [*sources, small])
    assert len(spans) < 40 < sum(int(np.prod(level.tiles)) for level in levels_of(head))


def test_a_plain_tiff_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no COG of GDAL's"):
        levels_of(block_bytes(np.zeros((1, 600, 600), np.uint8), None, packed=False))
