import math

import numpy as np
import pytest
from scipy import ndimage

from geosegsr.errors import ConfigError
from geosegsr.sensor.blur import sampling_matrix, sigma_of_mtf
from geosegsr.sensor.degradation import Degradation, imresize_down, margin_of
from geosegsr.sensor.descriptor import BICUBIC, SensorDescriptor
from geosegsr.sensor.jpeg import quantisation


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
    one, two = (sensor.image(hr, 4, np.random.default_rng(seed))[0] for seed in (1, 2))
    assert not np.array_equal(one, two)
    assert np.array_equal(one, sensor.image(hr, 4, np.random.default_rng(1))[0])
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
    for sensor in (
        Degradation(),
        Degradation(kernel="box"),
        Degradation(kernel="mtf", mtf=(0.2, 0.2)),
        Degradation(blur=(0.7, 0.7)),
        Degradation(kernel="box", blur=(0.2, 0.2), unevenness=0.1),
        Degradation(kernel="mtf", mtf=(0.3, 0.3), unevenness=0.1),
    ):
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
        ("kernel = ['box', 'lanczos']", r"kernel\[1\] must be one of bicubic, box, mtf, not 'lanczos'"),
        ("kernel = []", "kernel must be a list of at least 1"),
        ("kernel = 3", r"kernel\[0\] must be text, not 3"),
        ("blur = 1e9", "blur must be at least 0 and at most 10"),
        ("clean = 1.5", "clean must be at least 0 and at most 1, not 1.5"),
        ("noisy = 'often'", "noisy must be a number, not 'often'"),
        ("blurred = true", "blurred must be a number"),
        ("unevenness = 0.6", "at most 0.5, not 0.6"),
        ("jpeg_subsampling = '4:2:2'", "one of 4:2:0, 4:4:4, either"),
        ("jpeg_grid = 'file'", "one of patch, anywhere"),
        ("blured = 0.5", "Did you mean 'blurred'"),
        ("kernal = 'box'", "unknown key 'kernal'. Did you mean 'kernel'"),
        ("kernel = 'lanczos'", r"kernel\[0\] must be one of bicubic, box, mtf, not 'lanczos'"),
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


MIX = {
    "kernel": ["bicubic", "mtf"],
    "mtf": [0.1, 0.5],
    "blur": [0.2, 1.3],
    "unevenness": 0.08,
    "noise_read": [0.01, 0.04],
    "noise_soft": 0.25,
    "jpeg_quality": [40, 90],
    "jpeg_subsampling": "either",
    "jpeg_grid": "anywhere",
    "clean": 0.5,
    "blurred": 0.8,
    "noisy": 0.45,
    "compressed": 0.4,
}


def field_of(bands, side, seed=0):
    """Smooth and rough ground, float32 in 0.2 to 0.8."""
    noise = np.random.default_rng(seed).standard_normal((bands, side, side))
    field = ndimage.gaussian_filter(noise, (0, 1.5, 1.5), mode="wrap")
    return (0.5 + 0.3 * field / np.abs(field).max()).astype(np.float32)


def test_the_blur_is_a_gaussian_before_the_kernel():
    hr, scale, sigma = field_of(2, 96), 4, 0.6
    before = ndimage.gaussian_filter(hr, (0, sigma * scale, sigma * scale), mode="reflect", truncate=4.2)
    seen = Degradation(blur=(sigma, sigma)).sample(hr, scale, np.random.default_rng(0))
    assert seen == pytest.approx(imresize_down(before, scale), abs=1e-5)


def width_of(sampling):
    """Width of the Gaussian before a bicubic reduction, in lr pixels, from the response at 1/4 cycle."""
    x = (np.arange(len(sampling.weights)) - (len(sampling.weights) - 1) / 2) / sampling.scale
    plain = np.array([keys(at) for at in x])
    blurred, sharp = (weights @ np.cos(np.pi / 2 * x) for weights in (sampling.weights, plain / plain.sum()))
    return math.sqrt(-2 * math.log(blurred / sharp)) / (np.pi / 2)


def test_the_axes_differ_by_a_factor_that_is_log_normal():
    hr, sensor = field_of(1, 64), Degradation(blur=(0.8, 0.8), unevenness=0.1)
    widths = np.array(
        [
            [width_of(axis) for axis in sensor.image(hr, 4, np.random.default_rng(seed))[1].samplings]
            for seed in range(150)
        ]
    )
    factors = np.log(widths / 0.8)
    assert factors.mean(axis=0) == pytest.approx([0, 0], abs=0.03)
    assert factors.std(axis=0) == pytest.approx([0.1, 0.1], abs=0.02)
    assert abs(np.corrcoef(factors.T)[0, 1]) < 0.25


def test_a_mix_spares_and_spoils_the_shares_that_it_names():
    hr, sensor = field_of(1, 64), Degradation.from_dict(MIX)
    told = [
        SensorDescriptor.of_imaging(sensor.image(hr, 4, np.random.default_rng(seed))[1])
        for seed in range(400)
    ]
    sharp, noisy, packed = (
        np.array(flags)
        for flags in zip(
            *[(one.mtf_nyquist > 0.48, one.noise > 0, one.quantisation > 0) for one in told], strict=True
        )
    )
    assert (~sharp).mean() == pytest.approx(0.5 * 0.8, abs=0.06)
    assert noisy.mean() == pytest.approx(0.5 * 0.45, abs=0.06)
    assert packed.mean() == pytest.approx(0.5 * 0.4, abs=0.06)
    assert (noisy & packed).mean() == pytest.approx(0.5 * 0.45 * 0.4, abs=0.05)  # one does not ask the other


def test_a_clean_patch_is_reduced_bicubically_and_nothing_else():
    hr = field_of(3, 64)
    lr, imaging = Degradation.from_dict({**MIX, "clean": 1.0}).image(hr, 4, np.random.default_rng(0))
    assert np.array_equal(lr, imresize_down(hr, 4))
    assert SensorDescriptor.of_imaging(imaging).is_bicubic


def test_soft_noise_is_as_strong_as_white_noise_and_correlated():
    lr = np.full((1, 300, 300), 0.5, np.float32)
    noise = Degradation(noise_read=(0.03, 0.03), noise_soft=1.0).record(lr, np.random.default_rng(1)) - lr
    assert noise.std() == pytest.approx(0.03, rel=0.02)
    beside = (noise[0, :, 1:] * noise[0, :, :-1]).mean() / noise.var()
    assert beside == pytest.approx(60 / 153, abs=0.02)  # of a pixel's 11/9 and its neighbours' 2/9


def test_colour_is_halved_or_whole():
    lr = np.full((3, 32, 32), 0.5, np.float32)
    lr[0, :, ::2], lr[2, :, ::2] = 0.9, 0.1
    off = {
        way: np.abs(
            Degradation(jpeg_quality=(95, 95), jpeg_subsampling=way).record(lr, np.random.default_rng(0)) - lr
        ).max()
        for way in ("4:2:0", "4:4:4")
    }
    assert off["4:4:4"] < 0.05 < off["4:2:0"]


def test_the_blocks_of_a_jpeg_begin_anywhere():
    hr = (field_of(1, 256) - 0.5) * 1.5 + 0.5
    sensor = Degradation(jpeg_quality=(60, 60), jpeg_grid="anywhere")
    places = set()
    for seed in range(2):
        lr, imaging = sensor.image(hr, 4, np.random.default_rng(seed), (slice(8, 40), slice(8, 40)))
        assert lr.shape == (1, 32, 32)
        assert imaging.jpeg_quality == 60
        found = [
            (row, col)
            for row in range(8)
            for col in range(8)
            if quantisation(lr[:, row:, col:] * 255.0)[0] == 80
        ]
        assert len(found) == 1
        places |= set(found)
    assert len(places) > 1


def test_beyond_the_image_a_jpeg_goes_on_as_a_mirror_image():
    hr = field_of(1, 64)
    lr, _ = Degradation(jpeg_quality=(100, 100), jpeg_grid="anywhere").image(hr, 4, np.random.default_rng(3))
    assert lr == pytest.approx(imresize_down(hr, 4), abs=0.05)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"kernel": "box", "blur": 0.3},
        {"kernel": "mtf", "mtf": 0.2, "noise_read": 0.01, "jpeg_quality": 70},
        {"kernel": "mtf", "mtf_by_band": [0.2, 0.3, 0.4]},
        {"blur": 0.9, "noise_read": 0.02, "noise_shot": 0.001, "jpeg_quality": 40, "jpeg_grid": "anywhere"},
    ],
)
@pytest.mark.parametrize("scale", [2, 4])
def test_what_was_drawn_is_what_the_degradation_describes(values, scale):
    sensor = Degradation.from_dict(values)
    hr = np.full((3, 24 * scale, 24 * scale), 0.5, np.float32)  # the signal for which noise is described
    drawn = SensorDescriptor.of_imaging(sensor.image(hr, scale, np.random.default_rng(0))[1])
    assert drawn.numbers == pytest.approx(SensorDescriptor.of_degradation(sensor, scale).numbers, abs=1e-7)


def test_noise_that_grows_with_the_signal_is_told_for_the_patch():
    sensor = Degradation(noise_shot=(0.001, 0.001))
    for level in (0.1, 0.9):
        hr = np.full((1, 64, 64), level, np.float32)
        assert sensor.image(hr, 2, np.random.default_rng(0))[1].noise == pytest.approx(
            math.sqrt(0.001 * level), rel=1e-4
        )


def test_a_mix_rests_in_what_happens_to_half_of_the_patches():
    mix = Degradation.from_dict(MIX)
    assert mix.at_rest() == Degradation()  # half of them are clean
    assert SensorDescriptor.of_degradation(mix, 4).same_as(BICUBIC)
    rest = Degradation.from_dict({**MIX, "clean": 0.1}).at_rest()
    assert (rest.kernel, rest.blur, rest.noise_read, rest.jpeg_quality) == (
        ("bicubic",),
        (0.75, 0.75),
        (0.0, 0.0),
        None,
    )
    assert rest.at_rest() == rest


def test_a_mix_survives_a_file():
    mix = Degradation.from_dict(MIX)
    assert mix.kernel == ("bicubic", "mtf")
    assert Degradation.from_dict(mix.to_dict()) == mix


def test_a_blur_is_part_of_what_consistency_knows():
    sampling = Degradation(blur=(0.6, 0.6)).samplings(4, 1)[0]
    assert width_of(sampling) == pytest.approx(0.6, abs=0.005)
    assert sum(sampling.weights) == pytest.approx(1)
