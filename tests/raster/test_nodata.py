"""Filled pixels are plausible, valid ones untouched."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from geosegsr.raster.nodata import fill_invalid


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.99))
def test_valid_pixels_stay_and_filled_ones_come_from_their_band(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 1000, (3, 7, 9)).astype(np.uint16)
    valid = rng.random(values.shape) < share
    valid[0, 3, 3] = True
    filled = fill_invalid(values, valid)
    assert (filled[valid] == values[valid]).all()
    for band in range(3):
        if valid[band].any():
            assert set(filled[band].ravel()) <= set(values[band][valid[band]])


def test_invalid_pixels_get_the_nearest_valid_value() -> None:
    values = np.array([[[5, 0, 0, 0, 9]]], np.float32)
    filled = fill_invalid(values, values > 0)
    assert filled[0, 0, 1] == 5 and filled[0, 0, 3] == 9


def test_nan_never_fills_a_pixel() -> None:
    values = np.full((2, 4, 4), 3.0)
    values[:, 1, 1] = np.nan
    values[1] = np.nan
    filled = fill_invalid(values, np.isfinite(values))
    assert (filled == 3).all()


def test_nothing_is_copied_where_all_is_valid() -> None:
    values = np.ones((1, 2, 2))
    assert fill_invalid(values, values > 0) is values
