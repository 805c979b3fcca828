"""Statistics of blocks, and the strips that they are computed in."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geosegsr.raster.radiometry import Radiometry, to_dtype
from geosegsr.raster.statistics import BandStatistics
from geosegsr.raster.strips import strips

SHORT = "uint8", "int8", "uint16", "int16"
SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)


@given(st.sampled_from(SHORT).flatmap(lambda kind: hnp.arrays(kind, SHAPES)), st.data())
def test_statistics_of_short_whole_numbers_are_exact(band: np.ndarray, data: st.DataObject) -> None:
    valid = data.draw(hnp.arrays(bool, band.shape))
    found = BandStatistics.of(band, valid)
    pixels = [int(pixel) for pixel in band[valid]]
    assert found.count == len(pixels)
    if pixels:
        mean = Fraction(sum(pixels), len(pixels))
        squares = float(sum((pixel - mean) ** 2 for pixel in pixels))
        assert found == BandStatistics(len(pixels), min(pixels), max(pixels), float(mean), squares)


def test_statistics_of_a_large_band_are_exact_at_the_ends_of_the_dtype() -> None:
    band = np.full((700, 300), np.iinfo(np.uint16).max, np.uint16)
    band[::2] -= 1
    found = BandStatistics.of(band, np.ones(band.shape, bool))
    assert (found.mean, found.squares) == (65534.5, band.size / 4)


@pytest.mark.parametrize("kind", ["int32", "float32", "float64"])
def test_statistics_of_other_numbers_are_those_of_numpy(kind: str) -> None:
    band = (np.random.default_rng(0).normal(1e4, 50, (400, 300))).astype(kind)
    valid = band > 9950
    found, pixels = BandStatistics.of(band, valid), band[valid].astype(np.float64)
    assert (found.count, found.minimum, found.maximum) == (pixels.size, pixels.min(), pixels.max())
    assert found.mean == pytest.approx(pixels.mean(), rel=1e-14)
    assert found.squares == pytest.approx(pixels.var() * pixels.size, rel=1e-10)


@pytest.mark.parametrize(
    "shape", [(), (0,), (5,), (200_000,), (3, 0), (0, 4), (1, 200_000), (700, 300), (2, 3, 300, 400)]
)
def test_strips_are_all_of_an_array_once(shape: tuple[int, ...]) -> None:
    array, seen = np.arange(np.prod(shape, dtype=int)).reshape(shape), np.zeros(shape, int)
    for part, counted in strips(array, seen):
        assert part.shape == counted.shape
        counted += 1 + part
    np.testing.assert_array_equal(seen, array + 1)


@pytest.mark.parametrize(("lo", "computed"), [(0.0, np.float32), (3e6, np.float64)])
def test_dn_may_be_written_over_the_models_values(lo: float, computed: type[np.floating]) -> None:
    values = np.random.default_rng(0).random((2, 300, 400), np.float32)
    radiometry = Radiometry((lo, lo + 7), (lo + 255, lo + 300))
    expected = values.astype(computed) * np.array([255, 293], computed)[:, None, None]
    expected += np.array([lo, lo + 7], computed)[:, None, None]
    apart, over = radiometry.from_model(values), values.copy()
    written = radiometry.from_model(over, out=over)
    assert (written is over) == (computed is np.float32)
    for dn in (apart, written):
        assert dn.dtype == computed
        np.testing.assert_array_equal(dn, expected)


def test_bands_of_any_layout_are_rounded_alike() -> None:
    values = np.random.default_rng(0).normal(120, 90, (2, 300, 400)).astype(np.float32)
    expected = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(to_dtype(values, "uint8"), expected)
    np.testing.assert_array_equal(to_dtype(values[:, ::-2, ::3], "uint8"), expected[:, ::-2, ::3])
