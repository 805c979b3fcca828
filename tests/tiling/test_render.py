"""The heart of the promise: tiles, blocks and seams leave no trace in the pixels."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from fakes import FAKE, Fake, grid_of, texture
from hypothesis import given, settings
from hypothesis import strategies as st

from geosegsr.errors import BandError
from geosegsr.models.contract import FloatArray, Upscaler
from geosegsr.models.interpolation import Interpolator
from geosegsr.raster.bands import BandGroup, group_bands
from geosegsr.raster.radiometry import Radiometry
from geosegsr.raster.window import Window
from geosegsr.tiling.cache import TileCache, TileMemory
from geosegsr.tiling.render import Rendering, render_block


def render(
    values: np.ndarray,
    model: Upscaler,
    *,
    tile: int,
    overlap: int,
    block: int,
    valid: np.ndarray | None = None,
    nodata: float | None = None,
    radiometry: Radiometry | None = None,
    groups: tuple[BandGroup, ...] | None = None,
    wanted: Window | None = None,
) -> np.ndarray:
    """A whole array through `render_block`, block by block."""
    count, height, width = values.shape
    grid = grid_of(
        height, width, tile=tile, overlap=overlap, halo=model.facts.halo, block=block, wanted=wanted,
        multiple_of=model.facts.multiple_of, min_size=model.facts.min_size,
    )  # fmt: skip
    groups = groups or tuple(BandGroup((band,), "model") for band in range(count))
    rendering = Rendering(grid, model, groups, radiometry, values.dtype, nodata)
    valid = np.ones(values.shape, bool) if valid is None else valid
    out = np.zeros((count, height * model.facts.scale, width * model.facts.scale), values.dtype)
    for one in grid.blocks:
        source = (slice(None), *grid.source_window(one).slices)
        done = render_block(rendering, one, values[source], valid[source], valid[source])
        out[(slice(None), *one.window.scaled(model.facts.scale).slices)] = done.image
    return out


sides = st.sampled_from([1, 2, 15, 16, 17, 31, 37, 53])


@settings(max_examples=60, deadline=None)
@given(
    sides, sides, st.integers(8, 24), st.integers(0, 7), st.integers(1, 80),
    st.sampled_from(["uint8", "uint16", "int16", "float32", "float64", "int32"]), st.sampled_from([2, 3, 4]),
)  # fmt: skip
def test_tiled_nearest_equals_untiled_exactly(
    height: int, width: int, tile: int, overlap: int, block: int, dtype: str, scale: int
) -> None:
    values = texture(dtype, (2, height, width))
    out = render(values, Interpolator("nearest", scale), tile=tile, overlap=overlap, block=block)
    np.testing.assert_array_equal(out, np.repeat(np.repeat(values, scale, 1), scale, 2))


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_tiled_interpolation_equals_untiled(name: str, dtype: str) -> None:
    values = texture(dtype, (1, 61, 47))
    model = Interpolator(name, 4)
    tiled = render(values, model, tile=16, overlap=2 * model.facts.halo, block=10)
    untiled = render(values, model, tile=64, overlap=0, block=64)
    np.testing.assert_array_equal(tiled, untiled)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 120), st.integers(1, 120), st.floats(-2, 2))
def test_pixels_do_not_depend_on_the_block_size(one: int, other: int, tilt: float) -> None:
    values = texture("uint16", (3, 41, 59))
    model = Fake(tilt=tilt)
    same = {
        "tile": 16, "overlap": 6, "radiometry": Radiometry((0,) * 3, (300,) * 3),
        "groups": (BandGroup((0, 1, 2), "model"),),
    }  # fmt: skip
    first = render(values, model, block=one, **same)  # type: ignore[arg-type]
    second = render(values, model, block=other, **same)  # type: ignore[arg-type]
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_a_constant_stays_constant_to_the_border(name: str, dtype: str) -> None:
    values = np.full((1, 37, 50), 123, dtype)
    out = render(values, Interpolator(name, 3), tile=16, overlap=8, block=20)
    assert (out == 123).all()


def test_neighbouring_tiles_fade_without_a_step() -> None:
    flat = np.full((3, 16, 100), 100, np.float32)
    groups = (BandGroup((0, 1, 2), "model"),)
    radiometry = Radiometry((0,) * 3, (1,) * 3)
    soft = render(flat, Fake(tilt=1), tile=16, overlap=8, block=50, groups=groups, radiometry=radiometry)
    hard = render(flat, Fake(tilt=1), tile=16, overlap=0, block=50, groups=groups, radiometry=radiometry)
    assert np.abs(np.diff(soft[0, 0])).max() < 0.25 * np.abs(np.diff(hard[0, 0])).max()


def test_one_nan_marks_only_its_own_footprint() -> None:
    values = texture("float32", (1, 40, 40))
    clean = render(values, Interpolator("nearest", 3), tile=16, overlap=4, block=20)
    values[0, 17, 22] = np.nan
    holed = render(
        values, Interpolator("nearest", 3), tile=16, overlap=4, block=20, valid=np.isfinite(values)
    )
    different = ~(holed[0] == clean[0])
    rows, cols = np.nonzero(different)
    assert set(rows) == {51, 52, 53} and set(cols) == {66, 67, 68}
    assert np.isnan(holed[0, 51:54, 66:69]).all()


@pytest.mark.parametrize("nodata", [0, 255, 7])
def test_nodata_comes_back_exactly_and_nothing_valid_turns_into_it(nodata: int) -> None:
    rng = np.random.default_rng(1)
    values = rng.integers(0, 256, (2, 50, 41)).astype(np.uint8)
    valid = values != nodata
    valid[:, :10, :10] = False
    values[:, :10, :10] = nodata
    out = render(values, Interpolator("bicubic", 4), tile=16, overlap=4, block=30, valid=valid, nodata=nodata)
    np.testing.assert_array_equal(out == nodata, np.repeat(np.repeat(~valid, 4, 1), 4, 2))


def test_pixels_far_from_nodata_do_not_know_of_it() -> None:
    values = texture("uint16", (1, 64, 64))
    clean = render(values, Interpolator("bicubic", 2), tile=16, overlap=4, block=32)
    valid = np.ones(values.shape, bool)
    valid[:, 20:30, 20:30] = False
    holed = render(
        values, Interpolator("bicubic", 2), tile=16, overlap=4, block=32, valid=valid, nodata=65535
    )
    far = np.ones((128, 128), bool)
    far[2 * 18 : 2 * 32, 2 * 18 : 2 * 32] = False
    np.testing.assert_array_equal(holed[0][far], clean[0][far])


def test_a_scene_smaller_than_a_tile_is_padded_to_the_models_size() -> None:
    @dataclass(frozen=True)
    class Picky(Fake):
        def __call__(self, lr: FloatArray, guide: FloatArray | None = None) -> FloatArray:
            assert lr.shape[2] % 8 == 0 and lr.shape[3] % 8 == 0 and min(lr.shape[2:]) >= 16
            return super().__call__(lr, guide)

    values = texture("uint8", (3, 5, 19))
    model = Picky(replace(FAKE, multiple_of=8, min_size=16))
    radiometry, groups = Radiometry((0,) * 3, (255,) * 3), (BandGroup((0, 1, 2), "model"),)
    out = render(values, model, tile=32, overlap=8, block=64, radiometry=radiometry, groups=groups)
    np.testing.assert_array_equal(out, np.repeat(np.repeat(values, 2, 1), 2, 2))


def test_a_window_of_the_scene_equals_the_same_part_of_the_whole() -> None:
    values = texture("uint16", (1, 60, 60))
    model = Interpolator("bicubic", 2)
    whole = render(values, model, tile=16, overlap=4, block=20)
    part = render(values, model, tile=16, overlap=4, block=20, wanted=Window(11, 13, 30, 25))
    np.testing.assert_array_equal(part[:, 22:82, 26:76], whole[:, 22:82, 26:76])


def test_other_bands_as_grey_are_guided_by_the_colours() -> None:
    values = np.stack([np.full((20, 20), v, np.float32) for v in (1, 2, 3, 10)])
    groups = group_bands(
        ("red", "green", "blue", "nir"), model="fake", model_bands=3, model_band_names=("red", "green", "blue"),
        knows_grey=True,
    )  # fmt: skip
    out = render(
        values, Fake(), tile=16, overlap=4, block=20, radiometry=Radiometry((0,) * 4, (1,) * 4), groups=groups
    )
    assert [float(band.mean()) for band in out] == [1, 2, 3, 11]  # the fake adds the guide's red


def test_other_bands_can_be_interpolated_or_dropped() -> None:
    names = ("nir", "red", "green", "blue")
    rgb = ("red", "green", "blue")
    kept = group_bands(names, model="m", model_bands=3, model_band_names=rgb, other_bands="bicubic")
    assert kept == (BandGroup((1, 2, 3), "model"), BandGroup((0,), "bicubic"))
    assert group_bands(names, model="m", model_bands=3, model_band_names=rgb, other_bands="drop") == kept[:1]


@pytest.mark.parametrize("other", [None, "model"])
def test_a_model_that_never_saw_grey_refuses_other_bands(other: str | None) -> None:
    with pytest.raises(BandError, match="it has 4 bands, but model 'm' was trained on 3"):
        group_bands(("", "", "", ""), model="m", model_bands=3, other_bands=other)  # type: ignore[arg-type]


def test_a_cache_of_tiles_changes_no_pixel_and_saves_computation() -> None:
    values = texture("uint16", (3, 90, 110))
    grid = grid_of(90, 110, tile=24, overlap=10, halo=2, block=28)
    rendering = Rendering(
        grid, Fake(replace(FAKE, overlap=10, halo=2), tilt=0.3), (BandGroup((0, 1, 2), "model"),),
        Radiometry((0,) * 3, (300,) * 3), values.dtype, None,
    )  # fmt: skip
    valid = np.ones(values.shape, bool)

    def run(cache: TileCache | None) -> tuple[list[np.ndarray], int]:
        pieces, tiles = [], 0
        for block in grid.blocks:
            source = (slice(None), *grid.source_window(block).slices)
            done = render_block(rendering, block, values[source], valid[source], valid[source], cache)
            pieces.append(done.image)
            tiles += done.counts.tiles
        return pieces, tiles

    plain, computed = run(None)
    assert computed == grid.tiles_computed > grid.tiles
    for limit, expected in ((10**9, grid.tiles), (20_000, None), (10, computed)):
        cached, fewer = run(TileCache(TileMemory(limit), "run"))
        assert all(np.array_equal(a, b) for a, b in zip(plain, cached, strict=True))
        assert fewer == expected if expected else grid.tiles < fewer < computed
    memory = TileMemory(10**9)
    run(TileCache(memory, "run"))
    assert memory.held_bytes == 0, "tiles that no later block needs are dropped"


@pytest.mark.parametrize("batch", [1, 3, 5, 100])
def test_batches_go_on_from_row_to_row_of_tiles_and_change_no_pixel(batch: int) -> None:
    values, calls = texture("uint8", (3, 90, 110)), list[int]()

    class Counting(Fake):
        def __call__(self, lr: FloatArray, guide: FloatArray | None = None) -> FloatArray:
            calls.append(len(lr))
            return super().__call__(lr, guide)

    def whole(size: int) -> np.ndarray:
        model = Counting(replace(FAKE, batch=size), tilt=9.0)
        return render(
            values, model, tile=24, overlap=10, block=200,
            groups=(BandGroup((0, 1, 2), "model"),), radiometry=Radiometry((0,) * 3, (300,) * 3),
        )  # fmt: skip

    expected = whole(1)
    tiles, calls[:] = len(calls), []
    np.testing.assert_array_equal(whole(batch), expected)
    full, rest = divmod(tiles, batch)
    assert calls == [batch] * full + [rest] * (rest > 0)


def test_runs_that_share_a_memory_for_tiles_never_see_each_others() -> None:
    memory = TileMemory(1_000)
    first, second = TileCache(memory, "first"), TileCache(memory, "second")
    window, part = Window(0, 0, 4, 4), np.arange(16.0).reshape(1, 4, 4)
    first.put((0, 0, 0), window, part)
    assert second.get((0, 0, 0), window, 1) is None
    np.testing.assert_array_equal(first.get((0, 0, 0), window, 1), part)
    for col in range(10):
        second.put((0, 0, col), window, part + 1)
    assert first.get((0, 0, 0), window, 1) is None, "the oldest part goes, whose run it is of does not matter"
    np.testing.assert_array_equal(second.get((0, 0, 9), window, 1), part + 1)
