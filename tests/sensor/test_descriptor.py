"""The four numbers of a sensor: what they mean, how they are written, and what is refused."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geosegsr.errors import ConfigError
from geosegsr.sensor.degradation import Degradation
from geosegsr.sensor.descriptor import BICUBIC, SensorDescriptor, quality_of, quantisation_of

descriptors = st.builds(
    lambda quarter, share, noise, scale: SensorDescriptor(quarter, quarter * share, noise, scale),
    st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 5000),
)  # fmt: skip


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("mtf", [0.1, 0.25, 0.4])
def test_a_gaussian_has_the_response_of_a_gaussian(scale: int, mtf: float) -> None:
    """exp(-a f^2) at half the frequency is the fourth root."""
    found = SensorDescriptor.of_degradation(Degradation(kernel="mtf", mtf=(mtf, mtf)), scale)
    assert found.mtf_nyquist == pytest.approx(mtf, abs=0.001)
    assert found.mtf_quarter == pytest.approx(mtf**0.25, abs=0.001)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_a_box_has_the_response_of_a_sum_of_pixels(scale: int) -> None:
    """Dirichlet's kernel."""
    found = SensorDescriptor.of_degradation(Degradation(kernel="box"), scale)
    for frequency, value in ((0.25, found.mtf_quarter), (0.5, found.mtf_nyquist)):
        exact = math.sin(math.pi * frequency) / (scale * math.sin(math.pi * frequency / scale))
        assert value == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_bicubic_reduction_is_bicubic(scale: int) -> None:
    assert SensorDescriptor.of_degradation(Degradation(), scale).is_bicubic


def test_ranges_count_with_their_middle() -> None:
    drawn = Degradation(noise_read=(0.01, 0.03), noise_shot=(0.0, 0.001), jpeg_quality=(70, 80))
    found = SensorDescriptor.of_degradation(drawn, 4)
    assert found.noise == pytest.approx(math.sqrt(0.02**2 + 0.0005 * 0.5))
    assert (found.quantisation, found.jpeg_quality) == (50, 75)


def test_bands_of_different_sharpness_give_the_mean() -> None:
    found = SensorDescriptor.of_degradation(
        Degradation(kernel="mtf", mtf=(0.9, 0.9), mtf_by_band=((0.1, 0.1), (0.3, 0.3))), 4
    )
    assert found.mtf_nyquist == pytest.approx(0.2, abs=0.001)


@pytest.mark.parametrize(("quality", "scale"), [(1, 5000), (25, 200), (50, 100), (75, 50), (100, 0)])
def test_quality_and_scale_of_the_tables_are_those_of_libjpeg(quality: int, scale: float) -> None:
    assert quantisation_of(quality) == scale
    if scale:
        assert quality_of(scale) == quality


@given(descriptors)
def test_what_is_written_is_read_again(sensor: SensorDescriptor) -> None:
    assert SensorDescriptor.from_dict(sensor.to_dict()) == sensor


def test_files(tmp_path: Path) -> None:
    file, sensor = tmp_path / "sensor.toml", SensorDescriptor(0.7, 0.31, 2.1 / 255, 44)
    file.write_text(sensor.to_toml())
    assert SensorDescriptor.load(file, 4) == sensor
    file.write_text("noise = 0.01\n")
    assert SensorDescriptor.load(file, 4) == SensorDescriptor(noise=0.01)
    file.write_text('kernel = "mtf"\nmtf = [0.2, 0.3]\njpeg_quality = 75\n')
    assert SensorDescriptor.load(file, 4).mtf_nyquist == pytest.approx(0.25, abs=0.001)
    assert SensorDescriptor.load("bicubic", 4) is BICUBIC


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mtf_nyquits = 0.3", "Did you mean 'mtf_nyquist'"),
        ("mtf_quarter = 1.5", "0 to 1"),
        ("noise = nan", "noise = nan"),
        ("quantisation = -1", "0 to 5000"),
        ("mtf_quarter = 0.3\nmtf_nyquist = 0.6", "must not rise"),
        ('noise = "much"', "a number"),
        ("noise = 0.01\nnoise_read = 0.01", "Keep one kind"),
        ("noise =", "Cannot read a sensor"),
    ],
)
def test_refusals(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "sensor.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        SensorDescriptor.load(file, 4)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Pass auto, bicubic, or a TOML file"):
        SensorDescriptor.load(tmp_path / "none.toml", 4)


@given(descriptors)
def test_rounding_moves_no_number_by_more_than_half_a_step(sensor: SensorDescriptor) -> None:
    steps = (0.01, 0.01, 0.05 / 255, 1.0)
    for number, near, step in zip(sensor.numbers, sensor.rounded().numbers, steps, strict=True):
        assert abs(number - near) <= step / 2 + 1e-6
    assert sensor.rounded().rounded() == sensor.rounded()


def test_one_line_for_a_person() -> None:
    assert str(SensorDescriptor(0.7, 0.31, 2.1 / 255, 44)) == (
        "MTF 0.31 at Nyquist, noise 2.1 DN of 255, JPEG about q 78"
    )
    assert str(BICUBIC) == "MTF 0.49 at Nyquist, no noise, no JPEG"


def test_a_small_difference_is_none() -> None:
    assert SensorDescriptor(0.93, 0.5, 0.0002, 0).is_bicubic
    assert not SensorDescriptor(0.93, 0.4).is_bicubic
    assert not SensorDescriptor(quantisation=10).is_bicubic


def test_a_descriptor_needs_no_torch() -> None:
    code = "import sys, geosegsr.sensor.descriptor; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
