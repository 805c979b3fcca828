"""A result that agrees with its input: exactly, everywhere, and whatever the blocks are."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray
import scene_factory as factory
import xarray as xr
from command_line import assert_refused, run_here
from fakes import FAKE, Fake, Flat, grid_of, texture
from hypothesis import given, settings
from hypothesis import strategies as st
from training_kit import folder_of

import geosegsr
from geosegsr.evaluation.evaluate import evaluate_model
from geosegsr.raster.bands import BandGroup
from geosegsr.raster.radiometry import Radiometry
from geosegsr.raster.window import Window
from geosegsr.sensor.blur import sampling_matrix
from geosegsr.sensor.consistency import Residual, Sampling, degraded, footprint, project
from geosegsr.sensor.degradation import Degradation
from geosegsr.tiling.render import Rendered, Rendering, render_block

SENSORS = {
    "bicubic": Degradation(),
    "box": Degradation(kernel="box"),
    "mtf 0.3": Degradation(kernel="mtf", mtf=(0.3, 0.3)),
    "mtf 0.15": Degradation(kernel="mtf", mtf=(0.15, 0.15)),
}


def sampling_of(name: str, scale: int) -> Sampling:
    return SENSORS[name].samplings(scale, 1)[0]


def as_in_training(hr: np.ndarray, name: str, scale: int) -> np.ndarray:
    """The training's degradation of one band, in float64."""
    sensor = SENSORS[name]
    rows, cols = (
        sampling_matrix(side, scale, sensor.kernel[0], sensor.mtf[0]).astype(np.float64) for side in hr.shape
    )
    return rows @ hr @ cols.T


@pytest.mark.parametrize("name", SENSORS)
@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("size", [(1, 1), (5, 40), (33, 17)])
def test_the_sensor_is_that_of_training_up_to_the_borders(
    size: tuple[int, int], scale: int, name: str
) -> None:
    hr = np.random.default_rng(0).random((size[0] * scale, size[1] * scale))
    found = degraded(hr, sampling_of(name, scale))
    np.testing.assert_allclose(found, as_in_training(hr, name, scale), atol=3e-6)


@pytest.mark.parametrize("name", SENSORS)
@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("size", [(1, 1), (5, 40), (33, 17)])
def test_one_projection_agrees_and_a_second_changes_nothing(
    size: tuple[int, int], scale: int, name: str
) -> None:
    rng = np.random.default_rng(1)
    hr, lr = rng.random((size[0] * scale, size[1] * scale)), rng.random(size)
    sampling, everywhere = sampling_of(name, scale), np.ones(size, bool)
    project(hr, lr, everywhere, sampling)
    np.testing.assert_allclose(as_in_training(hr, name, scale), lr, atol=2e-4)
    again = hr.copy()
    project(again, lr, everywhere, sampling)
    np.testing.assert_allclose(again, hr, atol=1e-3)


@pytest.mark.parametrize("name", SENSORS)
def test_no_other_agreeing_image_is_nearer(name: str) -> None:
    rng = np.random.default_rng(2)
    truth, guess = rng.random((2, 64, 48))
    sampling = sampling_of(name, 4)
    moved = guess.copy()
    project(moved, degraded(truth, sampling), np.ones((16, 12), bool), sampling)
    # The truth agrees as well, so by Pythagoras it is no farther from the projection than from the guess.
    before, after, step = (
        np.square(a - b).sum() for a, b in ((guess, truth), (moved, truth), (guess, moved))
    )
    assert after == pytest.approx(before - step, rel=1e-3)


@pytest.mark.parametrize("name", SENSORS)
def test_a_constant_stays_constant(name: str) -> None:
    hr, lr = np.full((60, 44), 123.0), np.full((15, 11), 123.0)
    project(hr, lr, np.ones(lr.shape, bool), sampling_of(name, 4))
    np.testing.assert_allclose(hr, 123, atol=1e-9)


def test_where_nothing_is_known_nothing_is_asked_for() -> None:
    rng = np.random.default_rng(3)
    hr, lr, known = rng.random((80, 80)), rng.random((20, 20)), rng.random((20, 20)) < 0.7
    sampling = sampling_of("bicubic", 4)
    before = degraded(hr, sampling)
    lr[~known] = np.nan
    project(hr, lr, known, sampling)
    after = degraded(hr, sampling)
    np.testing.assert_allclose(after[known], lr[known], atol=1e-4)
    np.testing.assert_allclose(after[~known], before[~known], atol=1e-4)


@pytest.mark.parametrize("name", SENSORS)
def test_equal_pixels_come_out_equal_to_the_last_bit_wherever_an_array_begins(name: str) -> None:
    rng = np.random.default_rng(4)
    sampling = sampling_of(name, 4)
    hr, lr = rng.random((400, 400)).astype(np.float32), rng.random((100, 100)).astype(np.float32)
    whole = hr.copy()
    project(whole, lr, np.ones(lr.shape, bool), sampling, (3, 9))
    margin = sampling.margin
    for window in (Window(7, 11, 80, 70), Window(30, 0, 70, 95)):
        part, small = hr[window.scaled(4).slices].copy(), lr[window.slices]
        project(part, small, np.ones(small.shape, bool), sampling, (3 + window.row, 9 + window.col))
        inner = Window(margin, margin, window.height - 2 * margin, window.width - 2 * margin)
        same = whole[inner.shifted(window.row, window.col).scaled(4).slices]
        np.testing.assert_array_equal(part[inner.scaled(4).slices], same)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [(1, 1), (33, 17)])
def test_whole_numbers_are_seen_as_the_floats_of_their_value(
    size: tuple[int, int], dtype: type[np.floating]
) -> None:
    hr = np.random.default_rng(0).integers(0, 2**16, (size[0] * 4, size[1] * 4), np.uint16)
    seen = degraded(hr, sampling_of("bicubic", 4), (3, 9), np.dtype(dtype))
    assert seen.dtype == dtype
    np.testing.assert_array_equal(seen, degraded(hr.astype(dtype), sampling_of("bicubic", 4), (3, 9)))


def test_the_footprint_of_a_pixel_is_what_it_sees() -> None:
    sampling = sampling_of("bicubic", 4)
    ground = np.ones((9, 9), bool)
    ground[4, 4] = False
    seen = np.zeros((36, 36))
    seen[16:20, 16:20] = 1
    np.testing.assert_array_equal(~footprint(ground, sampling), degraded(seen, sampling) != 0)


def test_residuals_of_parts_are_those_of_the_whole() -> None:
    rng = np.random.default_rng(5)
    seen, lr = rng.random((2, 30, 30))
    compared = rng.random((30, 30)) < 0.8
    rows = [slice(0, 7), slice(7, 8), slice(8, 30)]
    parts = Residual.of_all(Residual.of(seen[r], lr[r], compared[r]) for r in rows).to_dict()
    off = (seen - lr)[compared]
    assert parts == pytest.approx(
        {"mean": off.mean(), "rms": np.sqrt((off**2).mean()), "max": np.abs(off).max(), "pixels": off.size}
    )


# --- in blocks -------------------------------------------------------------------------------------------------


def ground(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Some 105 to 155 DN."""
    return (texture("float32", shape) / 4 + 100).astype(dtype)


def rendered(
    values: np.ndarray,
    *,
    tile: int = 24,
    overlap: int = 10,
    block: int = 30,
    sensor: str = "bicubic",
    valid: np.ndarray | None = None,
    nodata: float | None = None,
    consistent: bool = True,
    top: float = 203.0,
) -> tuple[np.ndarray, tuple[Residual, ...]]:
    """Three bands through a model that leaves seams and shifts levels, block by block; and what is left over."""
    model = Fake(replace(FAKE, halo=2, scale=4), tilt=0.1)
    _, height, width = values.shape
    sampling = sampling_of(sensor, 4)
    grid = grid_of(
        height,
        width,
        tile=tile,
        overlap=overlap,
        halo=2,
        block=block,
        margin=sampling.margin + sampling.reach,
    )
    rendering = Rendering(
        grid, model, (BandGroup((0, 1, 2), "model"),), Radiometry((3.0,) * 3, (top,) * 3), values.dtype,
        nodata, (sampling,) * 3, consistent,
    )  # fmt: skip
    valid = np.ones(values.shape, bool) if valid is None else valid
    out = np.zeros((3, height * 4, width * 4), values.dtype)
    parts: list[Rendered] = []
    for one in grid.blocks:
        source = (slice(None), *grid.source_window(one).slices)
        parts.append(render_block(rendering, one, values[source], valid[source], valid[source]))
        out[(slice(None), *one.window.scaled(4).slices)] = parts[-1].image
    return out, tuple(Residual.of_all(p.residuals[band] for p in parts) for band in range(3))


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from([(1, 1), (15, 53), (61, 37), (90, 90)]),
    st.sampled_from([(24, 10), (24, 4), (60, 20)]),
    st.sampled_from([5, 17, 40]),
    st.sampled_from(["bicubic", "box", "mtf 0.3"]),
    st.booleans(),
)
def test_blocks_of_any_size_equal_the_whole(
    size: tuple[int, int], tiles: tuple[int, int], block: int, sensor: str, holed: bool
) -> None:
    values = texture("float32", (3, *size))
    valid = np.ones(values.shape, bool)
    if holed:
        valid[:, 3:40, 9:30] = False
        valid[0, -4:, :2] = False
    tile, overlap = tiles
    same = {"tile": tile, "overlap": overlap, "sensor": sensor, "valid": valid, "nodata": float("nan")}
    whole, _ = rendered(values, block=10_000, **same)
    pieces, _ = rendered(values, block=block, **same)
    np.testing.assert_array_equal(whole, pieces)


@pytest.mark.parametrize("sensor", SENSORS)
def test_the_result_seen_by_the_sensor_is_the_input(sensor: str) -> None:
    values = ground("float32", (3, 61, 83))
    out, residuals = rendered(values, sensor=sensor)
    off, without = (
        np.abs([as_in_training(band, sensor, 4) for band in image.astype(np.float64)] - values).max()
        for image in (out, rendered(values, sensor=sensor, consistent=False)[0])
    )
    assert off < 5e-3 < 1 < without  # DN, of a range of 200
    assert all(r.count == 61 * 83 and r.largest < 5e-3 for r in residuals)


def test_whole_numbers_agree_to_their_rounding_and_the_report_says_how_far() -> None:
    values = ground("uint8", (3, 61, 83))
    out, residuals = rendered(values)
    off = np.array([as_in_training(band, "bicubic", 4) for band in out.astype(np.float64)]) - values
    for band, residual in zip(off, residuals, strict=True):
        told = residual.to_dict()
        assert told["max"] == pytest.approx(np.abs(band).max(), abs=1e-4)
        assert told["rms"] == pytest.approx(np.sqrt((band**2).mean()), abs=1e-4)
        assert told["mean"] == pytest.approx(band.mean(), abs=1e-4)
        assert told["rms"] < 0.1  # rounding is uniform over one DN, and an lr pixel averages many


@pytest.mark.parametrize("name", SENSORS)
def test_whole_numbers_are_met_to_half_a_step_and_others_exactly(name: str) -> None:
    rng = np.random.default_rng(3)
    hr, lr = rng.random((64, 48)), rng.random((16, 12))
    sampling, everywhere = sampling_of(name, 4), np.ones(lr.shape, bool)
    rounded = hr.copy()
    project(rounded, lr, everywhere, sampling, quantum=0.2)
    off = as_in_training(rounded, name, 4) - lr
    assert 0.01 < np.abs(off).max() < 0.1 + 3e-4
    project(hr, lr, everywhere, sampling)
    assert np.abs(as_in_training(hr, name, 4) - lr).max() < 3e-4


@pytest.mark.parametrize("name", SENSORS)
def test_noise_of_rounding_is_not_carried_into_a_result_and_a_shift_is_mended(name: str) -> None:
    rows, cols = np.mgrid[:128, :96]
    truth = 20 * np.sin(rows / 17) * np.cos(cols / 23) + 100  # DN, smooth
    lr = np.rint(as_in_training(truth, name, 4))
    sampling, everywhere = sampling_of(name, 4), np.ones(lr.shape, bool)

    def error(start: np.ndarray, quantum: float) -> np.ndarray:
        hr = start.copy()
        project(hr, lr, everywhere, sampling, quantum=quantum)
        return hr - truth

    def rms(off: np.ndarray) -> float:
        return float(np.sqrt((off**2).mean()))

    assert rms(error(truth, 1.0)) < 0.5 * rms(error(truth, 0.0))
    shifted = error(truth + 0.4, 1.0)
    assert abs(shifted.mean()) < 0.02
    assert rms(shifted) < 0.2
    # What rounding cannot explain is mended as it is without it.
    mended = truth + error(truth + 3 * np.sin(cols / 6), 1.0)
    assert rms(as_in_training(mended, name, 4) - lr) < 0.32


def test_what_was_rounded_agrees_wherever_a_block_begins() -> None:
    rng = np.random.default_rng(5)
    hr, lr = rng.random((160, 160)).astype(np.float32), rng.random((40, 40)).astype(np.float32)
    sampling = sampling_of("bicubic", 4)
    whole, known = hr.copy(), np.ones(lr.shape, bool)
    project(whole, lr, known, sampling, quantum=0.5)
    margin = sampling.margin
    part = hr[12:, 8:].copy()
    project(part, lr[3:, 2:], known[3:, 2:], sampling, (3, 2), quantum=0.5)
    np.testing.assert_array_equal(
        part[4 * margin :, 4 * margin :], whole[12 + 4 * margin :, 8 + 4 * margin :]
    )


def test_ground_without_data_neither_smears_nor_is_asked_for_agreement() -> None:
    values = ground("float32", (3, 70, 70))
    valid = np.ones(values.shape, bool)
    valid[:, 20:50, 25:45] = False
    spoiled = np.where(valid, values, 1e30).astype(np.float32)
    first, residuals = rendered(spoiled, valid=valid, nodata=-1.0)
    other, _ = rendered(np.where(valid, values, -5e20).astype(np.float32), valid=valid, nodata=-1.0)
    np.testing.assert_array_equal(first, other)
    fine = np.repeat(np.repeat(valid, 4, 1), 4, 2)
    assert (first[~fine] == -1).all()
    assert first[fine].min() > 60 and first[fine].max() < 200
    clear = footprint(valid[0], sampling_of("bicubic", 4))
    assert residuals[0].count == clear.sum() < valid[0].sum()
    seen = degraded(np.where(fine[0], first[0], 0).astype(np.float64), sampling_of("bicubic", 4))
    np.testing.assert_allclose(seen[clear], values[0][clear], atol=1e-3)


def test_bands_of_one_sensor_may_have_each_their_own_blur() -> None:
    sensor = Degradation(kernel="mtf", mtf=(0.2, 0.2), mtf_by_band=((0.3, 0.3), (0.1, 0.2)))
    first, second, other = sensor.samplings(2, 2)
    alone = (replace(sensor, mtf=(mtf, mtf), mtf_by_band=()).samplings(2, 0)[-1] for mtf in (0.3, 0.15, 0.2))
    assert (first, second, other) == tuple(alone)


# --- from end to end -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [factory.write_plain, factory.write_nan, factory.write_rotated])
def test_files_and_arrays_agree_with_their_input(write, tmp_path: Path) -> None:
    source = write(tmp_path / "in.tif")
    same = {"tile": 24, "overlap": 8, "block": 60, "consistency": True}
    report = geosegsr.upscale(
        source, tmp_path / "out.tif", 2, "bicubic", **same
    )  # interpolation, too, where asked for
    plain = geosegsr.upscale(source, tmp_path / "plain.tif", 2, "bicubic")
    data = rioxarray.open_rasterio(source)
    assert isinstance(data, xr.DataArray)
    with rasterio.open(source) as before, rasterio.open(tmp_path / "out.tif") as out:
        assert json.loads(out.tags()["GEOSEGSR_OPTIONS"])["consistency"] is True
        np.testing.assert_array_equal(geosegsr.super_resolve(data, 2, "bicubic", **same).values, out.read())
        lr, seen = before.read(), out.read()
        valid = (before.read_masks() > 0) & np.isfinite(lr)
    rounding = 1 if lr.dtype.kind in "iu" else 1e-4  # and in whole numbers a few pixels clipped at 0
    for band, told in zip(range(len(lr)), report.consistency, strict=True):
        clear = footprint(valid[band], sampling_of("bicubic", 2))
        filled = np.where(np.isfinite(seen[band]), seen[band], 0).astype(np.float64)
        off = as_in_training(filled, "bicubic", 2)[clear] - lr[band][clear]
        assert told["pixels"] == clear.sum() > 0
        assert told["rms"] == pytest.approx(np.sqrt((off**2).mean()), abs=1e-5) and told["rms"] < rounding
    assert plain.consistency == ()  # nothing says by what sensor an interpolation is to be judged


def test_a_part_of_a_scene_agrees_up_to_its_edges(tmp_path: Path) -> None:
    source = factory.write_plain(tmp_path / "in.tif")
    geosegsr.upscale(source, tmp_path / "all.tif", 2, "bicubic", consistency=True)
    geosegsr.upscale(source, tmp_path / "part.tif", 2, "bicubic", consistency=True, window=(20, 9, 31, 25))
    with rasterio.open(tmp_path / "all.tif") as whole, rasterio.open(tmp_path / "part.tif") as part:
        expected = whole.read()[:, 18:68, 40:102].astype(int)
        assert (
            np.abs(part.read().astype(int) - expected).max() <= 1
        )  # pieces lie elsewhere: the last bits differ


def test_evaluation_measures_what_is_delivered(tmp_path: Path) -> None:
    images = [str(folder_of(tmp_path / "hr", number=2, size=(64, 80)))]
    alone, agreeing = (evaluate_model(Flat(), images, consistency=on) for on in (False, True))
    # All detail is lost on a grey picture, but not what its input says: that is more than interpolation knows.
    assert agreeing.total.model["psnr"] > agreeing.total.bicubic["psnr"] > alone.total.model["psnr"]
    assert agreeing.total.model["reflectance"] < 0.1 * alone.total.model["reflectance"]


def test_the_command_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = factory.write_plain(tmp_path / "in.tif")
    simple = ("-s", 2, "-m", "bicubic")
    target = tmp_path / "out.tif"
    outcome = run_here(capfd, "upscale", source, "-o", target, *simple, "--consistency", "--json")
    assert outcome.code == 0 and json.loads(outcome.out)["consistency"][0]["rms"] < 0.2
    options = ("--uncertainty", tmp_path / "sd.tif")
    refused = run_here(capfd, "upscale", source, "-o", tmp_path / "sr.tif", *simple, *options)
    assert_refused(refused, 1, "--uncertainty", "--ensemble")
    assert sorted(path.name for path in tmp_path.glob("*")) == ["in.tif", "out.tif"]


@pytest.mark.parametrize("quantum", [1.0, 8.0])
@pytest.mark.parametrize("amplitude", [0.1, 0.4, 1.0])
def test_of_a_difference_the_share_that_rounding_explains_is_left(amplitude: float, quantum: float) -> None:
    """Rounding to steps q has a variance of q * q / 12: what a checkerboard's variance holds beyond it is detail."""
    board = np.indices((31, 31)).sum(0) % 2 * 2.0 - 1
    result = np.zeros((31, 31))
    lr = quantum * amplitude * board
    project(result, lr, np.ones(lr.shape, bool), Sampling(1, (1.0,)), quantum=quantum)
    # Of the 25 pixels around one, 13 have its sign.
    level, variance = amplitude / 25, amplitude**2 * (1 - 1 / 625)
    detail = max(0.0, 1 - (1 / 12) / variance)
    wanted = np.clip(level + detail * (amplitude - level), amplitude - 0.5, amplitude + 0.5)
    inner = (slice(2, -2), slice(2, -2))
    np.testing.assert_allclose(result[inner], (quantum * wanted * board)[inner], rtol=1e-9)
