"""Blending: weights that can be divided by, equal tiles that stay exact, no dependence on where a strip is cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geosegsr.errors import WindowError
from geosegsr.tiling.blend import Fold, feather_weights
from geosegsr.tiling.grid import Axis


@given(st.integers(1, 100), st.data())
def test_weights_are_positive_and_at_most_one(size: int, data: st.DataObject) -> None:
    weights = feather_weights(size, data.draw(st.integers(0, size)))
    assert weights.dtype == np.float32
    assert weights.shape == (size,)
    assert (weights > 0).all() and (weights <= 1).all()


@pytest.mark.parametrize("overlap", [1, 2, 7, 16])
def test_two_neighbours_add_up_to_one(overlap: int) -> None:
    out = feather_weights(40, overlap, fade_in=False)[40 - overlap :]
    into = feather_weights(40, overlap, fade_out=False)[:overlap]
    np.testing.assert_allclose(out + into, 1, atol=1e-6)


def test_scene_edges_keep_full_weight() -> None:
    assert (feather_weights(20, 5, fade_in=False, fade_out=False) == 1).all()


def test_a_ramp_longer_than_the_side_is_refused() -> None:
    with pytest.raises(WindowError, match="Cannot feather"):
        feather_weights(4, 5)


def fold_axis(axis: Axis, tiles: list[np.ndarray]) -> np.ndarray:
    mean = np.full((1, axis.size), np.nan, dtype=tiles[0].dtype)
    fold = Fold(mean, axis=1)
    last = len(axis.origins) - 1
    for i, (origin, (start, stop)) in enumerate(zip(axis.origins, axis.supports, strict=True)):
        weights = feather_weights(stop - start, axis.ramp, fade_in=i > 0, fade_out=i < last)
        fold.add(tiles[i][None, start - origin : stop - origin], weights, start)
    return mean[0]


axes = st.integers(2, 30).flatmap(
    lambda tile: st.builds(
        lambda overlap, size: Axis(size, tile, overlap, 0, 0, size),
        st.integers(0, tile - 1),
        st.integers(tile, 150),
    )
)


@given(axes, st.integers(0, 2**32 - 1))
def test_equal_tiles_come_out_bit_for_bit(axis: Axis, seed: int) -> None:
    whole = np.random.default_rng(seed).normal(size=axis.size).astype(np.float32)
    tiles = [whole[origin : origin + axis.tile] for origin in axis.origins]
    np.testing.assert_array_equal(fold_axis(axis, tiles), whole)


@given(axes, st.integers(0, 2**32 - 1))
def test_tiles_that_differ_give_their_weighted_mean(axis: Axis, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tiles = [rng.normal(size=axis.tile) for _ in axis.origins]
    total, weight = np.zeros(axis.size), np.zeros(axis.size)
    last = len(axis.origins) - 1
    for i, (origin, (start, stop)) in enumerate(zip(axis.origins, axis.supports, strict=True)):
        own = feather_weights(stop - start, axis.ramp, fade_in=i > 0, fade_out=i < last).astype(np.float64)
        total[start:stop] += own * tiles[i][start - origin : stop - origin]
        weight[start:stop] += own
    np.testing.assert_allclose(fold_axis(axis, tiles), total / weight, rtol=1e-5, atol=1e-6)
