"""Interpolation against GDAL, against known properties, and against its own definition."""

import numpy as np
import pytest
from rasterio.enums import Resampling
from rasterio.io import MemoryFile
from rasterio.transform import from_origin

from geosegsr.errors import ConfigError
from geosegsr.models.interpolation import KERNELS, Interpolator
from geosegsr.models.kernels import keys

GDAL = {"bilinear": Resampling.bilinear, "bicubic": Resampling.cubic, "lanczos": Resampling.lanczos}


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, (height, width))


def by_gdal(plane: np.ndarray, scale: int, resampling: Resampling) -> np.ndarray:
    height, width = plane.shape
    profile = {"driver": "GTiff", "count": 1, "dtype": "float64", "transform": from_origin(0, 0, 1, 1)}
    with MemoryFile() as memory:
        with memory.open(height=height, width=width, **profile) as target:
            target.write(plane, 1)
        with memory.open() as source:
            return source.read(1, out_shape=(height * scale, width * scale), resampling=resampling)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("name", sorted(GDAL))
def test_equals_gdal_inside(name: str, scale: int) -> None:
    plane = image(41, 67)
    ours = Interpolator(name, scale)(plane[None, None])[0, 0]
    rim = KERNELS[name][0] * scale
    inside = (slice(rim, -rim), slice(rim, -rim))
    np.testing.assert_allclose(ours[inside], by_gdal(plane, scale, GDAL[name])[inside], rtol=1e-6)


def test_nearest_repeats_pixels() -> None:
    plane = image(5, 7).astype(np.float32)
    out = Interpolator("nearest", 3)(plane[None, None])[0, 0]
    np.testing.assert_array_equal(out, np.kron(plane, np.ones((3, 3), np.float32)))


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("name", sorted(KERNELS))
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (33, 2), (65, 31)])
def test_a_constant_stays_constant_to_the_border(name: str, scale: int, shape: tuple[int, int]) -> None:
    out = Interpolator(name, scale)(np.full((1, 1, *shape), 1234.567))
    assert out.shape == (1, 1, shape[0] * scale, shape[1] * scale)
    np.testing.assert_allclose(out, 1234.567, rtol=1e-12)


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_a_tile_computes_what_the_whole_computes_within_its_halo(name: str) -> None:
    model = Interpolator(name, 4)
    whole = image(90, 80)
    tile = model(whole[None, None, 20:70, 10:60])[0, 0]
    expected = model(whole[None, None])[0, 0, 80:280, 40:240]
    rim = model.facts.halo * 4
    inside = slice(rim, 200 - rim)
    np.testing.assert_allclose(tile[inside, inside], expected[inside, inside], rtol=1e-12)


def test_dtype_is_kept() -> None:
    for dtype in (np.float32, np.float64):
        assert Interpolator("bicubic", 2)(np.ones((1, 1, 4, 4), dtype)).dtype == dtype


def test_unknown_kernel_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be one of nearest"):
        Interpolator("cubic", 2)


@pytest.mark.parametrize("a", [-0.5, -0.75])
def test_keys_kernel_has_the_value_and_the_slopes_of_its_definition(a):
    x = np.arange(-3.0, 4)
    np.testing.assert_array_equal(keys(x, a), x == 0)  # interpolates: 1 at its own sample, 0 at all others
    step = 1e-6
    slopes = (keys(np.array([1.0, 2.0]) + step, a) - keys(np.array([1.0, 2.0]) - step, a)) / (2 * step)
    np.testing.assert_allclose(slopes, [a, 0], atol=1e-5)
    taps = np.linspace(0, 1, 9)[:, None] - np.arange(-1, 3)
    np.testing.assert_allclose(keys(taps, a).sum(axis=1), 1, atol=1e-15)
