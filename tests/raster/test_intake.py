"""What a raster is: kinds of bands, bits that count, and regions without data that nothing declares."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from scipy import ndimage

from geosegsr.errors import BandError, GeoSegSRWarning
from geosegsr.raster import collar
from geosegsr.raster.contract import BandHints
from geosegsr.raster.intake import look_at, refuse_no_image, refuse_other_than_images, take_in
from geosegsr.raster.kinds import asked_kinds, few_values, kind_of_name


@dataclass
class Raster:
    """An array as a raster."""

    values: np.ndarray
    hints: tuple[BandHints, ...] = ()
    nodata: float | None = None
    path: str = "scene"
    scales: tuple[float, ...] = field(default=())
    offsets: tuple[float, ...] = field(default=())
    colours: tuple[str, ...] = field(default=())

    def __post_init__(self):
        self.count, self.height, self.width = self.values.shape
        self.dtype = self.values.dtype
        self.hints = self.hints or tuple(BandHints(n + 1) for n in range(self.count))

    def read(self, window):
        values = self.values[(slice(None), *window.slices)]
        return values, np.ones(values.shape, bool) if self.nodata is None else values != self.nodata

    def sample(self):
        return self.read(type("All", (), {"slices": (slice(None), slice(None))}))

    def with_nodata(self, nodata):
        return Raster(self.values, self.hints, nodata)


def textured(bands, side, low, high, dtype, seed=0, smooth=2):
    noise = ndimage.gaussian_filter(
        np.random.default_rng(seed).standard_normal((bands, side, side)), (0, smooth, smooth)
    )
    scaled = (noise - noise.min()) / np.ptp(noise)
    return (low + scaled * (high - low)).astype(dtype)


def classes(side, labels, dtype=np.uint8, seed=0):
    """Patches of labels in no order."""
    field_ = textured(1, side, 0, 1, np.float64, seed, smooth=6)[0]
    ranks = np.searchsorted(np.quantile(field_, np.linspace(0, 1, 13)[1:-1]), field_)
    return np.asarray(labels, dtype)[np.random.default_rng(seed).integers(0, len(labels), 12)[ranks]][None]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("SCL", "class"), ("SCL, Scene Classification", "class"), ("QA_PIXEL", "class"), ("Fmask", "class"),
        ("cloud mask", "mask"), ("view zenith angle", "angle"), ("SAA", "angle"), ("B04", None), ("red", None), (None, None),
        ("cloud probability", "image"), ("class probability", "image"), ("Mascara", None), ("glass", None),
    ],
)  # fmt: skip
def test_names_of_bands(name, kind):
    assert kind_of_name(name) == kind


@pytest.mark.parametrize(
    "labels", [(1, 4), (0, 1), (0, 255), (4, 5, 6, 8, 9, 10, 11), (10, 20, 30, 40, 50, 95)]
)
@pytest.mark.parametrize("seed", range(4))
def test_few_values_far_apart_are_classes(labels, seed):
    values = classes(160, labels, seed=seed)[0]
    assert few_values([(values, np.ones(values.shape, bool))]) == np.unique(values).size


@pytest.mark.parametrize(
    "values",
    [
        textured(1, 160, 0, 255, np.uint8)[0], textured(1, 160, 10, 16, np.uint8)[0], textured(1, 160, 40, 42, np.uint8)[0],
        np.random.default_rng(0).poisson(5, (160, 160)).astype(np.uint8), np.full((160, 160), 3000, np.uint16),
        textured(1, 160, 0, 6, np.int16)[0], textured(1, 160, 0, 1, np.float32)[0],
        np.random.default_rng(0).integers(0, 2, (160, 160)).astype(np.uint8), np.zeros((8, 8), np.uint8),
    ],
    ids=["scene", "dark water", "night", "noise", "constant", "flat terrain", "floats", "dither", "tiny"],
)  # fmt: skip
def test_flat_dark_and_noisy_images_are_images(values):
    assert few_values([(values, np.ones(values.shape, bool))]) == 0


def test_a_class_band_in_a_stack():
    stack = np.concatenate(
        [textured(3, 160, 200, 4000, np.uint16), classes(160, (4, 5, 8)).astype(np.uint16)]
    )
    intake = look_at(Raster(stack))
    assert intake.kinds == ("image", "image", "image", "class")
    assert intake.decisions == ("band 4 is no image but classes (3 values): its pixels are repeated",)
    with pytest.raises(BandError, match=r"band 4 is no image but classes .3 values.*Pass --bands 1,2,3"):
        refuse_other_than_images(Raster(stack), intake)
    told = tuple(BandHints(n, kind="image" if n == 4 else None) for n in range(1, 5))
    assert look_at(Raster(stack, told)).kinds == ("image",) * 4


def test_colours_are_images_whatever_they_hold():
    hints = tuple(BandHints(n + 1, colour=colour) for n, colour in enumerate(("red", "green", "blue")))
    values = np.repeat(classes(160, (0, 255)), 3, axis=0)
    assert look_at(Raster(values, hints)).kinds == ("image",) * 3


@pytest.mark.parametrize(
    ("hints", "words"),
    [
        (BandHints(1, palette=True), ["colour table", "--model nearest", "-expand rgb"]),
        (BandHints(1, palette=True, nbits=1), ["colour table", "--model nearest"]),
        (BandHints(1, nbits=1), ["a mask (1 bit), and values", "--band-kind 1=image"]),
        (BandHints(7, "SCL"), ["classes (named 'SCL'), and values", "--band-kind 7=image"]),
    ],
)
def test_a_lone_class_band_is_refused_with_a_word_that_helps(hints, words):
    raster = Raster(classes(64, (0, 1)), (hints,))
    with pytest.raises(BandError) as refused:
        refuse_no_image(raster, look_at(raster))
    assert all(word in str(refused.value) for word in words)
    assert ("-expand" in str(refused.value)) == ("-expand rgb" in words)


def test_what_a_user_says_must_make_sense():
    assert asked_kinds({2: "class"}, (1, 2), "scene") == (None, "class")
    with pytest.raises(BandError, match="the bands in use are 1, 2"):
        asked_kinds({3: "class"}, (1, 2), "scene")
    with pytest.raises(BandError, match="Did you mean 'class'"):
        asked_kinds({1: "clas"}, (1, 2), "scene")
    for bits, needed in ((8, "-expand rgb"), (1, "Leave out --band-kind 1=image, and pass --model nearest")):
        with pytest.raises(BandError, match=f"entries of a colour table.*{needed}"):
            look_at(Raster(classes(64, (0, 1)), (BandHints(1, palette=True, nbits=bits, kind="image"),)))


@pytest.mark.parametrize("top", [1023, 2047, 4095, 16383])
def test_a_saturated_detector_ends_where_its_bits_do(top):
    values = np.minimum(textured(3, 160, 100, top * 1.3, np.uint16), top).astype(np.uint16)
    assert look_at(Raster(values)).top == top
    values[0, 0, 0] = top + 1
    assert look_at(Raster(values)).top is None


def test_bits_are_those_declared():
    values = textured(2, 64, 100, 900, np.uint16)
    assert look_at(Raster(values)).top is None
    assert look_at(Raster(values, (BandHints(1, nbits=12), BandHints(2, nbits=12)))).top == 4095
    assert look_at(Raster(values, (BandHints(1, nbits=12), BandHints(2)))).top is None
    assert look_at(Raster(values, (BandHints(1, nbits=16), BandHints(2, nbits=16)))).top is None


@pytest.mark.parametrize(
    ("value", "dtype"), [(0, np.uint16), (255, np.uint8), (-9999, np.float32), (65535, np.uint16)]
)
def test_a_collar_is_found_and_taken_when_asked(value, dtype):
    values = textured(3, 700, 10, 200, dtype)
    rows, cols = np.indices((700, 700))
    collar = cols < 150 + rows * 0.2
    values[:, collar] = value
    raster = Raster(values)
    with pytest.warns(GeoSegSRWarning, match=f"Pass --nodata {value} or --nodata auto"):
        _, intake = take_in(raster, raster.with_nodata)
    assert intake.collar.value == value and intake.collar.share == pytest.approx(collar.mean(), abs=0.01)
    taken, intake = take_in(raster, raster.with_nodata, find_nodata=True)
    assert taken.nodata == value and intake.collar is None and "though not declared" in intake.decisions[0]


@pytest.mark.parametrize("kind", ["inside", "speckle", "one band", "all", "none", "declared", "other value"])
def test_what_is_no_collar(kind):
    values = textured(3, 200, 10, 200, np.uint8)
    if kind == "inside":
        values[:, 50:150, 50:150] = 0
    elif kind == "speckle":
        values[:, np.random.default_rng(0).random((200, 200)) < 0.2] = 0
    elif kind == "one band":
        values[1, :, :60] = 0
    elif kind == "all":
        values[:] = 0
    elif kind in ("declared", "other value"):
        values[:, :, :60] = 0 if kind == "declared" else 77
    assert look_at(Raster(values, nodata=0 if kind == "declared" else None)).collar is None


def test_an_enormous_scene_is_not_read_for_its_collar(monkeypatch):
    monkeypatch.setattr(collar, "_MOST_SAMPLED", 0)
    monkeypatch.setattr(Raster, "sample", lambda self: pytest.fail("it was read"))
    values = textured(3, 700, 10, 200, np.uint8)
    assert look_at(Raster(values)).collar is None
    values[:, :, :200] = 0
    assert look_at(Raster(values)).collar.value == 0
    values[:] = 0
    assert look_at(Raster(values)).collar is None
