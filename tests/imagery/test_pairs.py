import math
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from training_kit import as_dtype, ground, write

from geosegsr.errors import BandError, ConfigError, SceneError
from geosegsr.imagery.matching import match_images
from geosegsr.imagery.pairs import align
from geosegsr.raster.scene import Scene
from geosegsr.sensor.degradation import imresize_down

PAIRS = Path(__file__).parents[3] / "shared/imagery/pairs"
FIELD = Path(__file__).parents[3] / "shared/field"
BYTES = {"kind": "dtype"}


def moved(field, rows, cols):
    """The field with its content moved down and right, around the edges."""
    return np.stack([np.fft.ifft2(ndimage.fourier_shift(np.fft.fft2(b), (rows, cols))).real for b in field])


def pair_of(tmp_path, shift=(0.0, 0.0), scale=2, size=(96, 128), bands=2, level=(1.0, 0.0), **place):
    """A pair whose hr side lies `shift` lr pixels off the ground that its transform names."""
    field = 0.2 + 0.6 * ground(bands, *size)
    lr = imresize_down(field, scale)
    hr = moved(field, shift[0] * scale, shift[1] * scale)
    hr_path = write(
        tmp_path / "hr" / "a.tif", as_dtype(np.clip(hr * level[0] + level[1], 0, 1), "uint8"), pixel=5.0
    )
    lr_path = write(tmp_path / "lr" / "a.tif", as_dtype(lr, "uint8"), pixel=5.0 * scale, **place)
    return Scene.open(hr_path), Scene.open(lr_path)


def aligned(hr, lr, scale=2, **options):
    return align(hr, lr, scale, BYTES, **{"max_shift": 3.0, "match_levels": True, **options})


def residual(pair, scale):
    """How badly hr, seen at lr's scale, differs from lr; its standard deviation is about 0.1."""
    inner = pair.valid & ndimage.binary_erosion(pair.valid, iterations=4)
    return float(np.abs(imresize_down(pair.hr, scale) - pair.lr)[:, inner].mean())


@pytest.mark.parametrize("shift", [(0.0, 0.0), (1.0, -0.5), (-0.7, 1.3), (2.5, 0.25)])
def test_a_known_shift_is_found_and_corrected(tmp_path, shift):
    pair = aligned(*pair_of(tmp_path, shift))
    assert pair.shift == pytest.approx((-shift[0], -shift[1]), abs=0.08)  # what moves hr back
    assert math.hypot(*pair.residual) < 0.1
    assert residual(pair, 2) < 0.006


def test_lr_keeps_its_own_pixels(tmp_path):
    hr, lr = pair_of(tmp_path, (0.6, 0.3))
    pair = aligned(hr, lr)
    assert np.array_equal(pair.lr, (lr.read(lr.window)[0] / np.float32(255)).astype(np.float32))
    assert pair.hr.shape == (2, 96, 128)


def test_grids_with_other_corners_are_brought_together(tmp_path):
    hr, lr = pair_of(tmp_path)
    west = write(tmp_path / "west.tif", lr.read(lr.window)[0][:, :, 10:], pixel=10.0, east=500_000 + 100.0)
    pair = aligned(hr, Scene.open(west))
    assert pair.valid.shape == (48, 54)
    assert math.hypot(*pair.shift) < 0.1
    assert residual(pair, 2) < 0.006


def test_ground_that_only_one_side_shows_is_invalid(tmp_path):
    hr, lr = pair_of(tmp_path)
    cut = write(tmp_path / "cut.tif", hr.read(hr.window)[0][:, :60], pixel=5.0)
    pair = aligned(Scene.open(cut), lr)
    assert pair.valid[:29].all()
    assert not pair.valid[30:].any()


def test_levels_of_hr_become_those_of_lr(tmp_path):
    hr, lr = pair_of(tmp_path, level=(0.5, 0.3))
    pair = aligned(hr, lr)
    assert residual(pair, 2) < 0.006
    assert residual(aligned(hr, lr, match_levels=False), 2) > 0.03


def test_too_large_a_shift_is_refused(tmp_path):
    hr, lr = pair_of(tmp_path, (4.0, 0.0))
    with pytest.raises(
        SceneError, match=r"lie 4\.\d lr pixels apart, and at most 3 are corrected.*--max-shift"
    ):
        aligned(hr, lr)
    assert aligned(hr, lr, max_shift=5.0).shift[0] == pytest.approx(-4, abs=0.1)


def test_swapped_sides_are_told(tmp_path):
    hr, lr = pair_of(tmp_path)
    with pytest.raises(ConfigError, match=r"look swapped: exchange --hr and --lr"):
        aligned(lr, hr)


def test_another_scale_names_the_right_one(tmp_path):
    hr, lr = pair_of(tmp_path, scale=2)
    with pytest.raises(ConfigError, match=r"lr pixels are only 2 times as large.*Pass --scale 2, or finer"):
        aligned(hr, lr, scale=4)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_finer_hr_pixels_are_aggregated(tmp_path, scale):
    """lr pixels 4 times as large as hr pixels train every scale up to 4, as with hr of just the right size."""
    hr, lr = pair_of(tmp_path, (0.5, 0.0), scale=4)
    pair = aligned(hr, lr, scale=scale)
    assert pair.hr.shape == (2, lr.height * scale, lr.width * scale)
    assert pair.shift == pytest.approx((-0.5, 0.0), abs=0.1)
    assert residual(pair, scale) < 0.012


@pytest.mark.skipif(not FIELD.exists(), reason="needs the field inputs")
@pytest.mark.parametrize("scale", [2, 3])
def test_field_pair_of_ratio_3_33(scale):
    """hr pixels of 0.6 m beside lr pixels of 2 m: hr is brought to lr / scale, on the same ground."""
    hr, lr = Scene.open(FIELD / "pair_hr/a.tif"), Scene.open(FIELD / "pair_lr_33/a.tif")
    pair = aligned(hr, lr, scale=scale)
    assert pair.hr.shape == (lr.count, lr.height * scale, lr.width * scale)
    assert np.abs(pair.shift).max() < 0.5
    assert residual(pair, scale) < 0.02


def test_other_bands_are_refused(tmp_path):
    hr, lr = pair_of(tmp_path)
    with pytest.raises(BandError, match="have 1 and 2 bands"):
        aligned(Scene.open(hr.path, bands=[1]), lr)


def test_strangers_are_refused(tmp_path):
    _, lr = pair_of(tmp_path)
    other = write(tmp_path / "other.tif", as_dtype(ground(2, 96, 128, seed=77), "uint8"), pixel=5.0)
    with pytest.raises(SceneError, match=r"do not seem to show the same ground|pixels apart"):
        aligned(Scene.open(other), lr)


def test_nothing_valid_is_refused(tmp_path):
    hr, _ = pair_of(tmp_path)
    empty = write(tmp_path / "empty.tif", np.zeros((2, 48, 64), np.uint8), pixel=10.0, nodata=0)
    with pytest.raises(SceneError, match="lr side has no valid pixel"):
        aligned(hr, Scene.open(empty))


def test_without_georeference_sizes_decide(tmp_path):
    field = 0.2 + 0.6 * ground(1, 64, 64)
    hr = write(tmp_path / "hr.tif", as_dtype(field, "uint8"), crs=None)
    lr = write(tmp_path / "lr.tif", as_dtype(imresize_down(field, 2), "uint8"), crs=None)
    pair = aligned(Scene.open(hr), Scene.open(lr))
    assert residual(pair, 2) < 0.006
    assert pair.valid.all()


def test_names_match_before_ground_and_ground_before_nothing(tmp_path):
    field = as_dtype(ground(1, 40, 40), "uint8")
    hr = [
        write(tmp_path / f"{n}.tif", field, east=e)
        for n, e in (("a", 0.0), ("b_may_hr", 5000.0), ("c", 9000.0))
    ]
    lr = [
        write(tmp_path / "lr" / f"{n}.tif", field, east=e)
        for n, e in (("b_june_lr", 5000.0), ("b_may_lr", 5000.0), ("a", 0.0))
    ]
    pairs, alone = match_images([Scene.open(p) for p in hr], [Scene.open(p) for p in lr])
    assert pairs == [(0, 2), (1, 1)]
    assert len(alone) == 1
    assert "c.tif" in alone[0]


@pytest.mark.skipif(not PAIRS.is_dir(), reason="imagery not here")
def test_the_real_pair_lies_about_one_lr_pixel_off():
    folder = PAIRS / "ngi5m_s2_10m"
    hr, lr = Scene.open(folder / "hr_ngi_aerial_5m.tif"), Scene.open(folder / "lr_sentinel2_10m.tif")
    pair = aligned(hr, lr)
    assert 0.5 < math.hypot(*pair.shift) < 1.5
    assert math.hypot(*pair.residual) < 0.15
