"""Ranges, rounding and nodata: nothing wraps, nothing valid turns into nodata."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geosegsr.errors import ConfigError, GeoSegSRWarning, SceneError
from geosegsr.raster.nodata import avoid_nodata, is_invalid
from geosegsr.raster.radiometry import Radiometry, resolve_radiometry, to_dtype, working_dtype

INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "uint64"]


@dataclass
class FakeRaster:
    values: np.ndarray
    valid: np.ndarray = field(default=None)  # type: ignore[assignment]
    scales: tuple[float, ...] = (1.0,)
    offsets: tuple[float, ...] = (0.0,)
    path: str = "fake"
    nodata: float | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values.dtype

    @property
    def count(self) -> int:
        return len(self.values)

    def sample(self) -> tuple[np.ndarray, np.ndarray]:
        valid = np.ones(self.values.shape, bool) if self.valid is None else self.valid
        return self.values, valid


@given(hnp.arrays(np.float64, 20, elements=st.floats(-1e20, 1e20)), st.sampled_from(INTEGERS))
def test_integers_are_rounded_half_to_even_and_clipped_never_wrapped(values: np.ndarray, dtype: str) -> None:
    info = np.iinfo(dtype)
    out = to_dtype(values, dtype)
    assert out.dtype == dtype
    for value, pixel in zip(values, out, strict=True):
        expected = min(max(round(float(value)), info.min), info.max)
        if info.bits < 64 or abs(expected) < 2**62:
            assert int(pixel) == expected
        else:  # the largest 64-bit integers have no float64 of their own
            assert abs(int(pixel) - expected) <= 2048


@pytest.mark.parametrize("computed", ["float32", "float64"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats_are_clipped_to_the_end_of_the_dtype_and_nan_stays(computed: str, dtype: str) -> None:
    with np.errstate(over="ignore"):
        values = np.array([1.5, np.nan, 4e38, -4e38, np.inf, -np.inf], computed)
    out = to_dtype(values, dtype)
    assert out.dtype == dtype and np.isnan(out).tolist() == [False, True, False, False, False, False]
    assert (
        out[0] == 1.5
        and np.isfinite(out[2:]).all()
        and (out[[2, 4]] > 3.4e38).all()
        and (out[[3, 5]] < -3.4e38).all()
    )


def test_results_that_are_no_numbers_end_in_what_to_type() -> None:
    for value in (np.nan, np.inf):
        with pytest.raises(SceneError, match=r"Pass --precision fp32 .*--range LO HI .*--nodata V"):
            Radiometry((0.0,), (1.0,)).from_model(np.array([[[0.5, value]]], np.float32))


@pytest.mark.parametrize("dtype", [*INTEGERS, "float32", "float64"])
def test_valid_pixels_step_aside_from_nodata(dtype: str) -> None:
    kind = np.dtype(dtype).kind
    markers = [-3.4e38, 0.0, 7.5] if kind == "f" else [np.iinfo(dtype).min, np.iinfo(dtype).max, 5]
    for marker in markers:
        values = np.array([marker, 1, 3], dtype=dtype)
        avoid_nodata(values, marker)
        assert not is_invalid(values, marker).any()
        assert values[1:].tolist() == [1, 3]
        assert np.isclose(float(values[0]), float(marker), rtol=1e-6, atol=1)


def test_nan_and_infinity_are_invalid_without_a_tag() -> None:
    values = np.array([1, np.nan, np.inf, -np.inf], np.float32)
    assert is_invalid(values, None).tolist() == [False, True, True, True]
    assert is_invalid(values, float("nan")).tolist() == [False, True, True, True]


@given(st.floats(-1e5, 1e5), st.floats(1, 1e5))
def test_to_model_and_back(lo: float, span: float) -> None:
    radiometry = Radiometry((lo,), (lo + span,))
    values = np.linspace(lo, lo + span, 50).reshape(1, 5, 10)
    model = radiometry.to_model(values)
    assert model.dtype == np.float32
    np.testing.assert_allclose(model[0, 0, 0], 0, atol=1e-6)
    np.testing.assert_allclose(model[0, -1, -1], 1, rtol=1e-6)
    np.testing.assert_allclose(radiometry.from_model(model), values, atol=span * 1e-6 + abs(lo) * 1e-6)


def test_policies() -> None:
    eight = FakeRaster(np.arange(200, dtype=np.uint8).reshape(1, 10, 20))
    assert resolve_radiometry(eight, {"kind": "auto"}) == Radiometry((0,), (255,), "range of uint8")
    sixteen = FakeRaster(np.arange(20000, dtype=np.uint16).reshape(1, 100, 200))
    by_percentiles = resolve_radiometry(sixteen, {"kind": "auto"})
    assert by_percentiles.lo[0] == pytest.approx(20, abs=1) and by_percentiles.hi[0] == pytest.approx(
        19979, abs=1
    )
    assert resolve_radiometry(sixteen, {"kind": "dtype"}).hi == (65535,)
    assert resolve_radiometry(sixteen, {"kind": "range", "lo": 5, "hi": 6}).lo == (5,)
    assert resolve_radiometry(sixteen, {"kind": "auto"}, (1, 2)).hi == (2,)
    statistics = {"kind": "standard", "mean": [100.0], "std": [20.0]}
    assert resolve_radiometry(sixteen, statistics) == Radiometry(
        (100,), (120,), "mean and standard deviation of the training set"
    )


def test_declared_reflectance_sets_the_range_and_declared_kelvins_do_not() -> None:
    values = np.linspace(500, 4000, 200).astype(np.uint16).reshape(1, 10, 20)
    reflectance = resolve_radiometry(FakeRaster(values, scales=(1e-4,), offsets=(-0.1,)), {"kind": "auto"})
    assert reflectance.lo == (1000,) and reflectance.hi == (11000,)
    kelvins = resolve_radiometry(FakeRaster(values, scales=(0.1,)), {"kind": "auto"})
    assert "percentiles" in kelvins.origin


def landsat() -> FakeRaster:
    """Collection 2: red, green, blue as reflectance, and surface temperature in kelvin."""
    rng = np.random.default_rng(0)
    reflectance = (rng.uniform(0.02, 0.4, (3, 40, 50)) + 0.2) / 2.75e-5
    kelvins = (rng.uniform(280, 310, (1, 40, 50)) - 149) / 0.00341802
    values = np.concatenate([reflectance, kelvins]).astype(np.uint16)
    return FakeRaster(values, scales=(2.75e-5,) * 3 + (0.00341802,), offsets=(-0.2,) * 3 + (149.0,))


@pytest.mark.parametrize("apart", [(), (3,)])
def test_kelvins_beside_reflectance_have_a_range_of_their_own(apart: tuple[int, ...]) -> None:
    scene = landsat()
    found = resolve_radiometry(scene, {"kind": "auto", "apart": apart})
    assert found.lo[:3] == pytest.approx((0.2 / 2.75e-5,) * 3) and found.hi[:3] == pytest.approx(
        (1.2 / 2.75e-5,) * 3
    )
    assert (found.lo[3], found.hi[3]) == pytest.approx(np.percentile(scene.values[3], [0.1, 99.9]))
    assert found.origin == (
        "declared scale and offset, reflectance 0..1; percentiles of their own for 1 of 4 bands"
    )


def test_colours_seen_together_keep_one_range_where_one_is_too_bright_for_reflectance() -> None:
    """Snow: a band of another range than the other two would change its colour."""
    scene = landsat()
    scene.values[2] = (1.4 + 0.2) / 2.75e-5
    together = resolve_radiometry(scene, {"kind": "auto", "apart": [3]})
    assert len(set(together.lo[:3])) == len(set(together.hi[:3])) == 1


def test_a_band_that_declares_nothing_is_no_reflectance() -> None:
    values = np.stack([np.full((10, 20), 3000), np.linspace(0, 1000, 200).reshape(10, 20)]).astype(np.int16)
    found = resolve_radiometry(FakeRaster(values, scales=(1e-4, 1.0), offsets=(0.0, 0.0)), {"kind": "auto"})
    assert (found.lo[0], found.hi[0]) == (0, 10000) and 900 < found.hi[1] < 1000


def test_scaled_the_wrong_way_round_is_no_reflectance() -> None:
    scene = landsat()
    scene.scales = (*scene.scales[:3], -0.1)
    assert resolve_radiometry(scene, {"kind": "auto"}).origin.startswith("declared")


@pytest.mark.parametrize(
    ("dtype", "shown"), [("float32", "-3.4028235e+38"), ("float64", "-3.4028234663852886e+38")]
)
def test_floats_that_look_like_a_mark_are_warned_of(dtype: str, shown: str) -> None:
    values = np.linspace(100, 900, 200).astype(dtype).reshape(1, 10, 20)
    resolve_radiometry(FakeRaster(values), {"kind": "auto"})
    values[0, 0, 0] = np.finfo(np.float32).min
    with pytest.warns(GeoSegSRWarning, match="declares no nodata") as told:
        resolve_radiometry(FakeRaster(values), {"kind": "auto"})
    assert f"--nodata {shown} " in str(told[0].message) and len(told) == 1
    resolve_radiometry(FakeRaster(values, values > 0, nodata=float(shown)), {"kind": "auto"})


def test_percentiles_ignore_invalid_pixels() -> None:
    values = np.full((1, 10, 10), 300, np.uint16)
    values[0, :5] = 60000
    valid = values < 1000
    found = resolve_radiometry(FakeRaster(values, valid), {"kind": "percentiles"})
    assert found.lo == (300,) and found.hi == (301,)


@pytest.mark.parametrize("pair", [(1, 1), (2, 1), (0, np.nan), (0, np.inf)])
def test_empty_ranges_are_refused(pair: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="LO must be below HI"):
        Radiometry((pair[0],), (pair[1],))


def test_statistics_of_another_number_of_bands_are_refused() -> None:
    raster = FakeRaster(np.zeros((1, 2, 2), np.uint16))
    with pytest.raises(ConfigError, match="1 bands and the model's card holds 2"):
        resolve_radiometry(raster, {"kind": "standard", "mean": [1, 2], "std": [1, 1]})


def test_linear_models_keep_the_digits_of_wide_dtypes() -> None:
    assert working_dtype(np.dtype("uint16"), True) == np.float32
    assert working_dtype(np.dtype("int32"), True) == np.float64
    assert working_dtype(np.dtype("int32"), False) == np.float32


@pytest.mark.parametrize(
    ("median", "plausible"), [(-0.31, False), (-0.29, True), (0.2, True), (1.29, True), (1.31, False)]
)
def test_reflectance_is_plausible_from_just_below_zero_to_just_above_one(
    median: float, plausible: bool
) -> None:
    """Over dark water the correction of the atmosphere goes below 0, and snow on a slope above 1."""
    values = np.full((1, 9, 9), round(median * 10_000)).astype(np.int16)
    values[0, 0, :4] = 30_000  # a few bright pixels decide nothing
    radiometry = resolve_radiometry(FakeRaster(values, scales=(1e-4,)), {"kind": "auto"})
    assert (radiometry.hi == (pytest.approx(10_000),)) is plausible
    assert radiometry.origin.startswith("declared" if plausible else "percentiles")


@pytest.mark.parametrize("end", [2**16, 2**19, 2**20, 2**20 + 5, 2**23, 2**31])
@pytest.mark.parametrize("span", [1.0, 255.0, 65_535.0])
def test_dn_are_exact_to_a_sixteenth_however_large_they_are(end: int, span: float) -> None:
    model = np.random.default_rng(0).random((1, 50, 50)).astype(np.float32)
    dn = Radiometry((end - span,), (float(end),)).from_model(model)
    exact = model.astype(np.float64) * span + (end - span)
    assert np.abs(dn - exact).max() <= 1 / 24
    assert dn.dtype == (np.float64 if end >= 2**20 else np.float32), "float64 takes twice the memory"
