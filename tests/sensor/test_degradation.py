import math

import numpy as np
import pytest

from geosegsr.errors import ConfigError
from geosegsr.sensor.degradation import Degradation, imresize_down, margin_of, sampling_matrix, sigma_of_mtf


def keys(x):
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def mirrored(index, size):
    while not 0 <= index < size:
        index = -1 - index if index < 0 else 2 * size - 1 - index
    return index


def imresize_by_hand(line, scale):
    """MATLAB's contributions(), written out: positions from 1, kernel widened by the scale, mirrored ends."""
    size = len(line)
    out = []
    for x in range(1, size // scale + 1):
        u = x * scale + 0.5 * (1 - scale)
        left = math.floor(u - 4 * scale / 2)
        taps = range(left, left + 4 * scale + 2)
        weights = [keys((u - tap) / scale) / scale for tap in taps]
        total = sum(weights)
        out.append(sum(w / total * line[mirrored(t - 1, size)] for w, t in zip(weights, taps, strict=True)))
    return out


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_bicubic_equals_imresize_written_out(scale):
    line = np.random.default_rng(scale).random(scale * 7)
    matrix = sampling_matrix(len(line), scale)
    assert matrix @ line == pytest.approx(imresize_by_hand(line, scale), abs=1e-6)


def test_bicubic_gives_the_known_weights_at_scale_2():
    # Keys at 1/4, 3/4, 5/4, 7/4 lr pixels from the centre, over their sum of 2: far from any edge.
    row = sampling_matrix(16, 2)[4]
    expected = [
        -0.01171875,
        -0.03515625,
        0.11328125,
        0.43359375,
        0.43359375,
        0.11328125,
        -0.03515625,
        -0.01171875,
    ]
    assert row[5:13] == pytest.approx(expected, abs=1e-7)
    assert np.count_nonzero(row) == 8


def test_a_ramp_stays_a_ramp_and_a_constant_a_constant():
    ramp = np.broadcast_to(np.arange(64, dtype=np.float32), (1, 64, 64))
    lr = imresize_down(ramp, 4)
    assert lr[0, 8, 3:-3] == pytest.approx(np.arange(3, 13) * 4 + 1.5, abs=1e-4)
    assert imresize_down(np.ones((2, 16, 24), np.float32), 4) == pytest.approx(np.ones((2, 4, 6)), abs=1e-6)


def test_box_is_the_block_mean():
    hr = np.random.default_rng(0).random((2, 12, 18)).astype(np.float32)
    lr = Degradation(kernel="box").sample(hr, 3, np.random.default_rng(0))
    assert lr == pytest.approx(hr.reshape(2, 4, 3, 6, 3).mean(axis=(2, 4)), abs=1e-6)


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("mtf", [0.1, 0.3])
def test_the_gaussian_has_the_mtf_it_names_at_nyquist(mtf, scale):
    size = 64 * scale
    wave = np.cos(np.pi * (np.arange(size) - (scale - 1) / 2) / scale)  # one extremum at each lr centre
    lr = sampling_matrix(size, scale, "mtf", mtf) @ wave
    assert np.abs(lr[16:-16]) == pytest.approx(mtf, rel=0.02)
    assert sigma_of_mtf(mtf, 2 * scale) == pytest.approx(2 * sigma_of_mtf(mtf, scale))


def test_bands_may_have_an_mtf_each():
    hr = np.random.default_rng(0).random((2, 32, 32)).astype(np.float32)
    each = Degradation(kernel="mtf", mtf_by_band=((0.1, 0.1), (0.4, 0.4)))
    rng = np.random.default_rng(0)
    both = each.sample(hr, 4, rng)
    for band, mtf in enumerate((0.1, 0.4)):
        alone = Degradation(kernel="mtf", mtf=(mtf, mtf)).sample(hr[band : band + 1], 4, rng)
        assert both[band] == pytest.approx(alone[0], abs=1e-6)
    with pytest.raises(ConfigError, match="degrade 3 bands: mtf_by_band describes 2"):
        each.sample(np.zeros((3, 8, 8), np.float32), 4, rng)


def test_noise_has_the_spread_it_names():
    lr = np.full((1, 200, 200), 0.25, np.float32)
    noisy = Degradation(noise_read=(0.03, 0.03), noise_shot=(0.0064, 0.0064)).record(
        lr, np.random.default_rng(1)
    )
    assert (noisy - lr).std() == pytest.approx(0.05, rel=0.02)  # sqrt(0.03**2 + 0.0064 * 0.25)


def test_ranges_vary_and_rest_in_the_middle():
    sensor = Degradation.from_dict(
        {"kernel": "mtf", "mtf": [0.1, 0.4], "noise_read": [0, 0.02], "jpeg_quality": [50, 90]}
    )
    hr = np.random.default_rng(0).random((1, 32, 32)).astype(np.float32)
    one, two = (sensor.apply(hr, 4, np.random.default_rng(seed)) for seed in (1, 2))
    assert not np.array_equal(one, two)
    assert np.array_equal(one, sensor.apply(hr, 4, np.random.default_rng(1)))
    rest = sensor.at_rest()
    assert (rest.mtf, rest.noise_read, rest.jpeg_quality) == ((0.25, 0.25), (0.01, 0.01), (70, 70))


def test_jpeg_is_close_and_only_for_pictures():
    lr = np.tile(np.linspace(0, 1, 32, dtype=np.float32), (3, 32, 1))
    packed = Degradation(jpeg_quality=(90, 90)).record(lr, np.random.default_rng(0))
    assert 0 < np.abs(packed - lr).max() < 0.05
    with pytest.raises(ConfigError, match="4 bands as JPEG"):
        Degradation(jpeg_quality=(90, 90)).record(np.zeros((4, 8, 8), np.float32), np.random.default_rng(0))


def test_a_patch_with_its_margin_equals_the_whole_scene():
    hr = np.random.default_rng(0).random((1, 128, 128)).astype(np.float32)
    for sensor in (Degradation(), Degradation(kernel="box"), Degradation(kernel="mtf", mtf=(0.2, 0.2))):
        margin = margin_of(4, sensor)
        whole = sensor.sample(hr, 4, np.random.default_rng(0))
        part = sensor.sample(
            hr[:, 40 - margin : 80 + margin, 40 - margin : 80 + margin], 4, np.random.default_rng(0)
        )
        inner = part[:, margin // 4 : margin // 4 + 10, margin // 4 : margin // 4 + 10]
        assert inner == pytest.approx(whole[:, 10:20, 10:20], abs=1e-6), sensor.kernel


def test_it_survives_a_file(tmp_path):
    sensor = Degradation.from_dict({"kernel": "mtf", "mtf_by_band": [0.2, [0.1, 0.3]], "jpeg_quality": 80})
    assert Degradation.from_dict(sensor.to_dict()) == sensor
    path = tmp_path / "sensor.toml"
    path.write_text('kernel = "mtf"\nmtf = [0.2, 0.3]\nnoise_read = 0.004\n')
    assert Degradation.load(path) == Degradation("mtf", (0.2, 0.3), noise_read=(0.004, 0.004))
    assert Degradation.load("bicubic") == Degradation()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kernal = 'box'", "unknown key 'kernal'. Did you mean 'kernel'"),
        ("kernel = 'lanczos'", "kernel must be one of bicubic, box, mtf, not 'lanczos'"),
        ("mtf = [0.3, 0.2]", "a range, lower end first, not"),
        ("mtf = 1.5", "mtf must be above 0 and below 1"),
        ("mtf = 'high'", "must be a number, not 'high'"),
        ("jpeg_quality = 120", "jpeg_quality must be at least 1 and at most 100"),
        ("kernel = ", "Cannot read a degradation"),
    ],
)
def test_a_wrong_description_is_refused(tmp_path, text, message):
    path = tmp_path / "sensor.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        Degradation.load(path)


def test_a_missing_file_names_the_alternatives():
    with pytest.raises(ConfigError, match="Pass --degradation bicubic, box or a TOML file"):
        Degradation.load("bicubik")
