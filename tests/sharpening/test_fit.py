"""What the fit finds: the blur, the law between guide and coarse bands, and how well it holds."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from guided_scenes import GuidedScene, rmse
from scipy.ndimage import gaussian_filter

from geosegsr.sensor.consistency import degraded, least_image, unseen
from geosegsr.sharpening.blur import TYPICAL_MTF, Sample, estimate_mtf, mean_mtf, sampling_of_mtf
from geosegsr.sharpening.fit import fit
from geosegsr.sharpening.sharpen import sharpen

ZEALAND = Path(__file__).parents[3] / "shared/imagery/pairs/dsen2_t33uub"


def sample_of(scene: GuidedScene) -> Sample:
    usable = np.ones(scene.coarse.shape[1:], dtype=bool)
    return Sample(scene.coarse.astype(np.float32), scene.guide.astype(np.float32), usable)


def sharpened(scene: GuidedScene, sample: Sample) -> np.ndarray:
    fitted = fit([sample], scene.ratio, 3, 2)
    whole = np.ones(scene.coarse.shape, bool), np.ones(scene.guide.shape, bool)
    return sharpen(fitted, (scene.coarse, whole[0]), (scene.guide, whole[1]), (0, 0), np.dtype(np.float64))


@pytest.mark.parametrize("ratio", [2, 3, 6])
@pytest.mark.parametrize("mtf", [0.15, 0.3, 0.45])
def test_a_sampling_has_the_response_it_is_named_after_and_keeps_a_constant(ratio: int, mtf: float) -> None:
    sampling = sampling_of_mtf(ratio, mtf)
    weights = np.asarray(sampling.weights)
    away = np.arange(len(weights)) - (len(weights) - 1) / 2
    np.testing.assert_allclose(weights @ np.cos(2 * np.pi * away * 0.5 / ratio), mtf, rtol=0.05)
    np.testing.assert_allclose(weights, weights[::-1], atol=1e-12)
    np.testing.assert_allclose(least_image(np.full((12, 12), 7.0), sampling), 7.0, atol=1e-4)


@pytest.mark.parametrize("ratio", [2, 6])
def test_what_a_sensor_does_not_see_is_not_seen(ratio: int) -> None:
    sampling = sampling_of_mtf(ratio, 0.35)
    image = np.random.default_rng(0).standard_normal((20 * ratio, 16 * ratio))
    assert np.abs(degraded(unseen(image, sampling), sampling)).max() < 2e-3


@pytest.mark.parametrize("mtf", [0.2, 0.35, 0.5])
def test_the_blur_is_read_from_the_scene(mtf: float) -> None:
    scene = GuidedScene.make(side=128, mtf=mtf)
    assert abs(estimate_mtf([sample_of(scene)], 2) - mtf) < 0.06


@pytest.mark.parametrize("ratio", [2, 6])
def test_coarse_pixels_that_are_plain_means_are_known_as_such(ratio: int) -> None:
    """Many made products are. Taken for blurred pixels, they would be sharpened beyond the ground, to negative values."""
    scene = GuidedScene.make(side=48, ratio=ratio)
    means = scene.truth.reshape(2, 48, ratio, 48, ratio).mean((2, 4))
    sample = Sample(means.astype(np.float32), scene.guide.astype(np.float32), np.ones((48, 48), dtype=bool))
    assert estimate_mtf([sample], ratio) == round(mean_mtf(ratio), 2)


def test_a_scene_too_small_to_show_its_blur_gets_a_typical_one() -> None:
    scene = GuidedScene.make(side=12)
    assert estimate_mtf([sample_of(scene)], 2) == TYPICAL_MTF


@pytest.mark.parametrize("ratio", [2, 3, 6])
def test_detail_that_the_guide_holds_is_found(ratio: int) -> None:
    scene = GuidedScene.make(side=96, ratio=ratio)
    fitted = fit([sample_of(scene)], ratio, 3, 2, mtf=scene.mtf)
    assert all(quality.explained > 0.9 for quality in fitted.quality)
    found = sharpened(scene, sample_of(scene))
    alone = np.stack([least_image(band, sampling_of_mtf(ratio, scene.mtf)) for band in scene.coarse])
    assert (rmse(found, scene.truth) < 0.35 * rmse(alone, scene.truth)).all()


def test_a_guide_of_other_ground_is_left_out() -> None:
    scene, other = GuidedScene.make(seed=1), GuidedScene.make(seed=2)
    sample = Sample(scene.coarse.astype(np.float32), other.guide.astype(np.float32), sample_of(scene).usable)
    fitted = fit([sample], 2, 3, 2)
    assert not fitted.weights[:, :-2].any()  # the last two are those of the bands themselves
    assert [quality.explained for quality in fitted.quality] == [0, 0]
    assert all(quality.rmse == quality.rmse_alone > 0 for quality in fitted.quality)


def test_what_happened_between_two_dates_does_not_spoil_the_rest() -> None:
    """Clouds in one image only."""
    scene = GuidedScene.make(side=128)
    sample = sample_of(scene)
    cloud = gaussian_filter(np.random.default_rng(5).standard_normal((128, 128)), 3)
    coarse = np.where(cloud > 2.2 * cloud.std(), 9000, sample.coarse).astype(np.float32)
    fitted = fit([Sample(coarse, sample.guide, sample.usable)], 2, 3, 2, mtf=scene.mtf)
    clean = fit([sample], 2, 3, 2, mtf=scene.mtf)
    assert fitted.quality[0].explained > 0.8 * clean.quality[0].explained


def test_pixels_that_cannot_be_used_do_not_count() -> None:
    scene = GuidedScene.make(side=128)
    sample = sample_of(scene)
    usable = np.ones((128, 128), dtype=bool)
    usable[30:60, 40:90] = False
    coarse = np.where(usable, sample.coarse, 65535).astype(np.float32)
    fitted = fit([Sample(coarse, sample.guide, usable)], 2, 3, 2, mtf=scene.mtf)
    assert all(quality.explained > 0.9 for quality in fitted.quality)


@pytest.mark.parametrize("side", [4, 8, 12, 20])
def test_small_scenes_are_no_worse_than_without_a_guide(side: int) -> None:
    scene = GuidedScene.make(side=side)
    found = sharpened(scene, sample_of(scene))
    alone = np.stack([least_image(band, sampling_of_mtf(2, 0.35)) for band in scene.coarse])
    assert (rmse(found, scene.truth, 1) < 1.1 * rmse(alone, scene.truth, 1)).all()


def test_nothing_to_fit_on_gives_the_coarse_bands_alone() -> None:
    fitted = fit([], 2, 3, 2)
    assert not fitted.weights.any() and fitted.mtf == TYPICAL_MTF
    assert all(np.isnan(quality.rmse) for quality in fitted.quality)


def read(name: str) -> np.ndarray:
    with rasterio.open(ZEALAND / name) as source:
        return source.read().astype(np.float64)


@pytest.mark.skipif(not ZEALAND.exists(), reason="needs imagery beside the repository")
def test_sentinel_2_by_walds_protocol() -> None:
    """20 m bands reduced to 40 m and restored at 20 m by the 10 m bands at 20 m; fitted on the upper two thirds."""
    fine, truth, sampling = read("s2_10m.tif"), read("s2_20m.tif"), sampling_of_mtf(2, 0.3)
    upper = Sample(
        truth[:, :200].astype(np.float32), fine[:, :400].astype(np.float32), np.ones((200, 300), dtype=bool)
    )
    fitted = fit([upper], 2, 4, 6, mtf=0.3)
    guide, coarse = (np.stack([degraded(band, sampling) for band in bands]) for bands in (fine, truth))
    found = sharpen(
        fitted, (coarse, np.ones(coarse.shape, bool)), (guide, np.ones(guide.shape, bool)), (0, 0),
        np.dtype(np.float64),
    )  # fmt: skip
    scored = truth[:, 204:-4, 4:-4]
    errors = np.sqrt(((found[:, 204:-4, 4:-4] - scored) ** 2).mean((1, 2)))
    low, high = np.percentile(scored, [0.1, 99.9], axis=(1, 2))
    psnr = 20 * np.log10((high - low) / errors)
    assert psnr.mean() > 40.4 and errors.mean() < 38
    # The better of bicubic and the bundled network for each band, with 36 weights for the detail of the 10 m bands.
    assert (psnr > [37.98, 38.83, 40.54, 40.98, 37.88, 39.44]).all()
