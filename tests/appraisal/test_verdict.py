"""The verdict finds each spoil of a sound result, names it, and praises no spoiled one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import spoils
from scipy import ndimage

from geosegsr.appraisal.inputs import open_pair, open_pairs
from geosegsr.appraisal.survey import Survey
from geosegsr.appraisal.verdict import Verdict, judge
from geosegsr.errors import ConfigError
from geosegsr.sensor.degradation import imresize_down


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return spoils.sound_pair(tmp_path_factory.mktemp("sound"))


def _verdict(source: Path, result: Path) -> Verdict:
    return judge(Survey.of(open_pair(source, result)))


def _topics(verdict: Verdict, *grades: str) -> set[str]:
    return {finding.topic for finding in verdict.findings if finding.grade in grades}


def test_the_truth_has_no_fault(sound: tuple[Path, Path]) -> None:
    verdict = _verdict(*sound)
    assert verdict.grade == "good", verdict
    assert {"seams", "colour", "place", "model", "noise", "detail"} <= _topics(verdict, "good")


def test_nodata_is_no_fault(tmp_path: Path) -> None:
    assert _verdict(*spoils.sound_pair(tmp_path, nodata=True)).grade == "good"


@pytest.mark.parametrize("topic", spoils.SPOILS)
def test_each_spoil_is_found_and_not_praised(sound: tuple[Path, Path], tmp_path: Path, topic: str) -> None:
    verdict = _verdict(sound[0], spoils.spoiled(sound[0], tmp_path, topic))
    assert topic in _topics(verdict, "fault"), verdict
    assert topic not in _topics(verdict, "good")
    assert verdict.headline.startswith("Do not use this result")


def test_a_roof_whose_edge_was_sharpened_is_no_seam(sound: tuple[Path, Path], tmp_path: Path) -> None:
    with rasterio.open(sound[1]) as file:
        ground = file.read().astype(np.float32)
    rows, cols = np.mgrid[: ground.shape[1], : ground.shape[2]]
    roof = np.abs(cols - 330 - rows / 5.3) < 10  # its edge leans by 12 columns in 64 rows
    ground = ndimage.gaussian_filter(np.where(roof, 255, ground), (0, 1, 1))
    near = ndimage.gaussian_filter(ndimage.binary_dilation(roof, iterations=14).astype(np.float32), 3)
    sharp = ground + 0.5 * near * (ground - ndimage.gaussian_filter(ground, (0, 6, 6)))  # cut off at 255
    source = spoils.write(tmp_path / "in.tif", imresize_down(ground, spoils.SCALE), 2.0)
    verdict = _verdict(source, spoils.write(tmp_path / "out.tif", sharp, 0.5, **spoils.tags()))
    assert "seams" in _topics(verdict, "good"), verdict


def test_a_shifted_result_lies_off_its_input(sound: tuple[Path, Path], tmp_path: Path) -> None:
    with rasterio.open(sound[1]) as file:
        moved = np.roll(file.read(), (4, -2), axis=(1, 2))
    verdict = _verdict(sound[0], spoils.write(tmp_path / "moved.tif", moved, 0.5, **spoils.tags()))
    [place] = [finding for finding in verdict.findings if finding.topic == "place"]
    assert place.grade == "fault"
    assert "+1.0" in place.text  # a whole input pixel down
    assert "-0.5" in place.text


def test_bicubic_interpolation_adds_nothing(sound: tuple[Path, Path], tmp_path: Path) -> None:
    with rasterio.open(sound[0]) as file:
        enlarged = spoils.bicubic(file.read())
    verdict = _verdict(sound[0], spoils.write(tmp_path / "bicubic.tif", enlarged, 0.5, **spoils.tags()))
    assert _topics(verdict, "fault") == set()
    assert "detail" in _topics(verdict, "doubt")
    assert verdict.headline == "Look before you use it: it has hardly more detail than interpolation."


def test_noise_that_became_detail_is_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lr = spoils.imresize_down(spoils.ground(), spoils.SCALE)
    lr = lr + rng.normal(0, 8, lr.shape)
    source = spoils.write(tmp_path / "noisy.tif", lr, 2.0)
    enlarged = spoils.bicubic(lr)
    sharp = enlarged + 1.5 * (enlarged - spoils.ndimage.gaussian_filter(enlarged, (0, 2, 2)))
    kept = _verdict(source, spoils.write(tmp_path / "kept.tif", sharp, 0.5, **spoils.tags()))
    assert "noise" in _topics(kept, "fault"), kept
    left_out = _verdict(source, spoils.write(tmp_path / "clean.tif", spoils.ground(), 0.5, **spoils.tags()))
    assert left_out.grade == "good", left_out


def test_a_model_that_was_told_of_another_sensor_is_named(tmp_path: Path) -> None:
    lr = spoils.imresize_down(spoils.ground(), spoils.SCALE)
    lr = lr + np.random.default_rng(0).normal(0, 8, lr.shape)
    source = spoils.write(tmp_path / "noisy.tif", lr, 2.0)
    told = spoils.tags("MTF 0.49 at Nyquist, no noise, no JPEG (given)")
    verdict = _verdict(source, spoils.write(tmp_path / "result.tif", spoils.ground(), 0.5, **told))
    assert "sensor" in _topics(verdict, "doubt")


def test_bands_that_were_imaged_otherwise_than_others_are_no_doubt(
    sound: tuple[Path, Path], tmp_path: Path
) -> None:
    own = str(Survey.of(open_pair(*sound)).imaging.sensor)
    told = spoils.tags(f"MTF 0.05 at Nyquist, noise 40.0 DN of 255, no JPEG; {own} (estimated)")
    verdict = _verdict(sound[0], spoils.write(tmp_path / "result.tif", spoils.ground(), 0.5, **told))
    assert "sensor" not in _topics(verdict, "doubt")


def test_what_gaps_leave_unmeasured_is_said_in_the_headline(tmp_path: Path) -> None:
    hr = spoils.ground(side=64)
    lr = spoils.imresize_down(hr, spoils.SCALE)
    lr[:, ::9], lr[:, :, ::9] = 0, 0  # no whole line, and no whole square of 64 pixels
    hr = np.where(np.repeat(np.repeat(lr, spoils.SCALE, 1), spoils.SCALE, 2) == 0, 0, hr)
    source = spoils.write(tmp_path / "in.tif", lr, 2.0, 0.0)
    verdict = _verdict(source, spoils.write(tmp_path / "out.tif", hr, 0.5, 0.0))
    assert {"place", "detail"} <= set(verdict.unmeasured)
    assert verdict.grade != "good" or "place" in verdict.headline


def test_a_scene_with_hardly_any_flat_ground_is_not_judged_by_it(tmp_path: Path) -> None:
    hr = spoils.ground(side=56)
    source = spoils.write(tmp_path / "in.tif", spoils.imresize_down(hr, spoils.SCALE), 2.0)
    verdict = _verdict(source, spoils.write(tmp_path / "strokes.tif", spoils.strokes(hr), 0.5))
    assert "noise" not in {finding.topic for finding in verdict.findings}
    sound = _verdict(source, spoils.write(tmp_path / "sound.tif", hr, 0.5))
    assert "noise" in sound.headline and sound.grade == "good"


def test_another_scene_is_refused_or_found(sound: tuple[Path, Path], tmp_path: Path) -> None:
    other = spoils.write(tmp_path / "other.tif", spoils.ground(seed=1), 0.5, **spoils.tags())
    assert "model" in _topics(_verdict(sound[0], other), "fault")
    small = spoils.write(tmp_path / "small.tif", spoils.ground(side=64), 0.5, **spoils.tags())
    with pytest.raises(ConfigError, match="its input 192 x 192"):
        open_pair(sound[0], small)


def test_a_file_and_itself_or_two_files_the_other_way_round_are_refused(
    sound: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="the same file"):
        open_pairs(sound[1], sound[1])
    plain = spoils.write(tmp_path / "small.tif", spoils.ground(side=16), 2.0)
    with pytest.raises(ConfigError, match="the other way round"):
        open_pairs(sound[1], plain)


def test_values_at_an_end_of_the_data_type_are_found(sound: tuple[Path, Path], tmp_path: Path) -> None:
    with rasterio.open(sound[1]) as file:
        harsh = (file.read().astype(float) - 100) * 3 + 100
    verdict = _verdict(sound[0], spoils.write(tmp_path / "harsh.tif", harsh, 0.5, **spoils.tags()))
    assert {"range", "colour"} <= _topics(verdict, "fault")


def test_without_a_valid_pixel_nothing_is_praised(tmp_path: Path) -> None:
    source = spoils.write(tmp_path / "scene.tif", np.zeros((3, 64, 64)), 2.0, 0.0)
    result = spoils.write(tmp_path / "result.tif", np.zeros((3, 256, 256)), 0.5, 0.0)
    verdict = _verdict(source, result)
    assert verdict.grade == "doubt"
    assert verdict.headline == "Look before you use it: there is nothing to compare."
