"""The scale of JPEG's tables is read off decoded pixels."""

import io

import numpy as np
import pytest
from PIL import Image

from geosegsr.sensor import jpeg
from geosegsr.sensor.descriptor import quantisation_of
from geosegsr.sensor.jpeg import LUMINANCE, SCALES, dct_matrix, quantisation, steps_of


def texture(side: int, seed: int = 0) -> np.ndarray:
    """Squares of random brightness, uint8."""
    rng = np.random.default_rng(seed)
    plane = np.full((side, side), 120.0)
    for _ in range(400):
        row, column = rng.integers(0, side, 2)
        size = int(rng.integers(3, 15))
        plane[row : row + size, column : column + size] = rng.uniform(30, 220)
    return plane.astype(np.uint8)


def through_jpeg(dn: np.ndarray, quality: int, **options: int) -> np.ndarray:
    packed = io.BytesIO()
    Image.fromarray(dn).save(packed, "JPEG", quality=quality, **options)
    return np.asarray(Image.open(packed))


def test_the_transform_is_orthonormal() -> None:
    np.testing.assert_allclose(dct_matrix() @ dct_matrix().T, np.eye(8), atol=1e-12)


@pytest.mark.parametrize("quality", [30, 50, 75, 90, 95])
def test_steps_are_those_that_libjpeg_writes(quality: int) -> None:
    packed = io.BytesIO()
    Image.fromarray(texture(16)).save(packed, "JPEG", quality=quality)
    written = Image.open(packed).quantization[0]  # type: ignore[attr-defined]
    np.testing.assert_array_equal(np.sort(written), np.sort(steps_of(int(quantisation_of(quality)))))
    assert len(LUMINANCE) == 64


@pytest.mark.parametrize("quality", [40, 50, 60, 75, 85, 90, 95])
def test_quality_is_found_exactly_from_one_small_patch(quality: int) -> None:
    scale, spread = quantisation(through_jpeg(texture(64), quality)[None].astype(float))
    assert scale == pytest.approx(quantisation_of(quality), abs=0.01)
    assert spread < 4


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("quality", [35, 75, 95])
def test_tables_that_a_sample_rules_out_would_not_have_been_found(
    quality: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image is compressed in a share of its columns only, down to where nothing can be said."""
    plain = texture(160, seed=quality)
    image, width = plain.copy(), int(share * 160)
    image[:, :width] = through_jpeg(plain, quality)[:, :width]
    noise = np.random.default_rng(0).normal(0, 0.4, image.shape)
    for planes in (image[None].astype(float), (image + noise)[None].clip(0, 255)):
        found = quantisation(planes)
        with monkeypatch.context() as patch:
            patch.setattr(jpeg, "_is_hopeless", lambda values, steps: False)
            assert quantisation(planes) == pytest.approx(found, abs=1e-9)


@pytest.mark.parametrize("subsampling", [0, 2])
def test_luminance_tells_it_in_colour_too(subsampling: int) -> None:
    rgb = np.stack([texture(64, seed) // 4 * 3 + 30 for seed in (0, 0, 1)], 2)
    seen = through_jpeg(rgb, 75, subsampling=subsampling) @ (0.299, 0.587, 0.114)
    assert quantisation(seen[None])[0] == 50


@pytest.mark.parametrize("seed", range(5))
def test_uncompressed_pixels_have_none(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sharp = texture(64, seed).astype(float)
    soft = (sharp + np.roll(sharp, 1, 0) + np.roll(sharp, 1, 1) + np.roll(sharp, (1, 1), (0, 1))) / 4
    for dn in (
        sharp,
        soft.round(),
        (sharp + 3 * rng.standard_normal(sharp.shape)).round(),
        rng.random((64, 64)) * 255,
    ):
        assert quantisation(dn[None]) == (0, 0)


def test_a_lattice_that_begins_elsewhere_is_none() -> None:
    assert quantisation(through_jpeg(texture(72), 90)[None, 3:67, 5:69].astype(float)) == (0, 0)


@pytest.mark.parametrize("level", [0, 7, 255])
def test_constant_pixels_tell_nothing(level: int) -> None:
    assert quantisation(np.full((2, 64, 64), float(level))) == (0, 0)


def test_all_scales_differ() -> None:
    assert len(set(SCALES)) == len(SCALES)
