"""The sensor of a scene from its own pixels: near the truth, clean where it is clean, the same to the last bit."""

import io
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from geosegsr.errors import ConfigError
from geosegsr.sensor.degradation import imresize_down
from geosegsr.sensor.descriptor import BICUBIC, SensorDescriptor
from geosegsr.sensor.estimate import WEIGHTS, Estimate, combined, concluded, estimate

SCALE = 4


@lru_cache(maxsize=8)
def ground(side: int, seed: int) -> np.ndarray:
    """Discs that hide each other, with some texture in each, as roofs and trees do; (3, side, side) in 0 to 1.

    Source:
        A. Lee, D. Mumford and J. Huang, "Occlusion models for natural images", IJCV 41 (2001).
    """
    rng = np.random.default_rng(seed)
    image = np.zeros((3, side, side), np.float32)
    rows, columns = np.mgrid[:side, :side]
    for _ in range(500):
        radius = min(6 / rng.random() ** 0.5, side / 4)
        row, column = rng.uniform(0, side, 2)
        inside = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
        colour = rng.uniform(0.1, 0.9) + rng.uniform(-0.1, 0.1, (3, 1))
        image[:, inside] = colour + 0.03 * rng.standard_normal(int(inside.sum()))
    return image.clip(0, 1)


def imaged(blur: float = 0, noise: float = 0, quality: int = 0, count: int = 4) -> np.ndarray:
    """Patches (count, 3, 64, 64), of 8 bits, in the model's range; blur in lr pixels, noise in DN."""
    rng, patches = np.random.default_rng(9), []
    for seed in range(count):
        hr = gaussian_filter(ground(64 * SCALE, seed), (0, blur * SCALE, blur * SCALE))
        lr = imresize_down(hr, SCALE) * 255 + noise * rng.standard_normal((3, 64, 64))
        dn = np.rint(lr).clip(0, 255).astype(np.uint8)
        if quality:
            packed = io.BytesIO()
            Image.fromarray(dn.transpose(1, 2, 0)).save(packed, "JPEG", quality=quality)
            dn = np.asarray(Image.open(packed)).transpose(2, 0, 1)
        patches.append(dn)
    return np.stack(patches).astype(np.float32) / 255


def test_a_clean_scene_is_bicubic() -> None:
    assert estimate(imaged(), SCALE).sensor == BICUBIC


def test_more_blur_reads_softer() -> None:
    found = [estimate(imaged(blur=blur), SCALE).sensor.mtf_nyquist for blur in (0, 0.5, 0.8, 1.2)]
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.06


@pytest.mark.parametrize("noise", [4, 8])
def test_noise_is_found(noise: float) -> None:
    assert estimate(imaged(noise=noise), SCALE).sensor.noise * 255 == pytest.approx(noise, rel=0.3)


@pytest.mark.parametrize("quality", [90, 75, 50])
@pytest.mark.parametrize("bands", [slice(0, 3), slice(0, 1)], ids=["colour", "grey"])
def test_compression_is_found(quality: int, bands: slice) -> None:
    patches = imaged(quality=quality)
    if bands.stop == 1:
        patches = np.stack([through_grey_jpeg(patch[0], quality)[None] for patch in imaged()])
    assert estimate(patches, SCALE).sensor.jpeg_quality == quality


def through_grey_jpeg(plane: np.ndarray, quality: int) -> np.ndarray:
    packed = io.BytesIO()
    Image.fromarray(np.rint(plane * 255).astype(np.uint8)).save(packed, "JPEG", quality=quality)
    return np.asarray(Image.open(packed), np.float32) / 255


def test_what_the_file_says_wins() -> None:
    assert estimate(imaged(), SCALE, jpeg_quality=80).sensor.quantisation == 40


def test_numbers_of_other_types_are_no_jpeg() -> None:
    assert estimate(imaged(quality=75), SCALE, dn_span=0).sensor.quantisation == 0


def test_a_wider_range_has_finer_steps() -> None:
    patches = imaged(quality=75) * np.float32(0.5)  # a range of 510 DN
    assert estimate(patches, SCALE, dn_span=510).sensor.quantisation == 25


@pytest.mark.parametrize("bands", [1, 2, 4, 7])
def test_any_number_of_bands(bands: int) -> None:
    planes = np.concatenate([imaged(blur=1.0, count=2)] * 3, axis=1)[:, :bands]
    assert estimate(planes, SCALE).sensor.mtf_nyquist < 0.15


def test_a_flat_scene_is_taken_for_clean() -> None:
    assert estimate(np.full((2, 3, 64, 64), 0.25, np.float32), SCALE).sensor == BICUBIC


def test_threads_change_no_bit() -> None:
    patches = imaged(blur=0.7, noise=2)
    found, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(estimate(patches, SCALE))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1] == found[2]


def test_the_input_is_left_alone() -> None:
    patches = imaged(blur=0.7)
    before = patches.copy()
    estimate(patches, SCALE)
    np.testing.assert_array_equal(patches, before)


@pytest.mark.parametrize("size", [(48, 48), (64, 128), (120, 56)])
def test_patches_of_any_size(size: tuple[int, int]) -> None:
    patches = np.tile(imaged(blur=1.0, count=1), (1, 1, 2, 2))[:, :, : size[0], : size[1]]
    assert estimate(patches, SCALE).sensor.mtf_nyquist < 0.2


def test_patches_count_by_precision() -> None:
    """Weights 4 : 1; and what patches share of their error remains however many there are."""
    mean, variance = combined(np.array([[1.0], [6.0]]), np.array([[0.01], [0.04]]))
    assert mean == pytest.approx([2.0])
    same = np.full((1000, 1), 0.01)
    alone, many = (combined(np.zeros((n, 1)), same[:n])[1][0] for n in (1, 1000))
    assert alone == pytest.approx(0.01)
    assert 0 < many < 0.01
    assert combined(np.array([[1.0], [6.0]]), np.array([[0.01], [0.04]]))[1] == variance


def test_what_is_compatible_with_clean_is_clean() -> None:
    near = np.array([BICUBIC.mtf_quarter - 0.03, BICUBIC.mtf_nyquist - 0.05, 0.1])
    conclude: Callable[[float], Estimate] = lambda sure: concluded(near, np.full(3, sure), 0.0, 0.0)  # noqa: E731
    assert conclude(0.1).sensor == BICUBIC
    assert conclude(0.001).sensor == SensorDescriptor(*near[:2], np.expm1(0.1) / 255).rounded()


def test_impossible_numbers_are_clipped() -> None:
    found = concluded(np.array([1.2, 1.3, -0.4]), np.full(3, 1e-6), 0.0, 0.0).sensor
    assert found.numbers == (1, 1, 0, 0)


def test_blur_and_noise_are_judged_apart() -> None:
    found = concluded(np.array([0.9, 0.45, 2.0]), np.array([0.1, 0.1, 0.1]), 50.0, 1.0).sensor
    assert found == SensorDescriptor(noise=np.expm1(2) / 255, quantisation=50).rounded()


@pytest.mark.parametrize("shape", [(0, 3, 64, 64), (1, 0, 64, 64), (1, 3, 47, 64), (3, 64, 64)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="sides of at least 48 pixels"):
        estimate(np.zeros(shape, np.float32), SCALE)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(value: float) -> None:
    patches = np.zeros((1, 1, 64, 64), np.float32)
    patches[0, 0, 3, 4] = value
    with pytest.raises(ConfigError, match="not finite"):
        estimate(patches, SCALE)


def test_the_weights_are_small() -> None:
    assert WEIGHTS.stat().st_size < 600_000


@pytest.mark.parametrize("deviations", [1.9, 2.1])
def test_a_scene_softer_than_a_clean_one_may_be_is_blurred(deviations: float) -> None:
    soft = np.array([BICUBIC.mtf_quarter, BICUBIC.mtf_nyquist - 0.05 * deviations, 0.0])
    found = concluded(soft, np.full(3, 0.05), 0.0, 0.0, softest=2.0).sensor
    assert found.is_bicubic == (deviations < 2)
    if not found.is_bicubic:
        assert found.mtf_nyquist < soft[1] - 0.02  # the mean leans towards a clean scene


def test_far_from_a_clean_scene_the_mean_is_told() -> None:
    blurred = np.array([0.5, BICUBIC.mtf_nyquist - 0.4, 0.0])
    found = concluded(blurred, np.full(3, 0.05), 0.0, 0.0).sensor
    assert found.mtf_nyquist == SensorDescriptor(*blurred[:2]).rounded().mtf_nyquist


def test_noise_of_a_blurred_and_compressed_scene_is_told_as_the_most_likely() -> None:
    """Compression hides it and restoring the blur would amplify it. Of other scenes, unlikely noise is none."""
    score, deviation = np.log1p(1.0), np.array([0.05, 0.05, 0.6])
    clean, blurred = np.array([*BICUBIC.numbers[:2], score]), np.array([0.5, 0.05, score])
    assert concluded(blurred, deviation, 0.0, 0.0).sensor.noise == 0
    assert concluded(clean, deviation, 50.0, 0.0).sensor.noise == 0
    assert concluded(blurred, deviation, 50.0, 0.0).sensor.noise * 255 == pytest.approx(1, abs=0.1)
