"""Images with more bands than the network goes by: in groups, as `upscale` takes them."""

import numpy as np
import pytest
from training_kit import folder_of, tiny_config

from geosegsr import upscale
from geosegsr.imagery.images import one_range
from geosegsr.imagery.sources import Patch
from geosegsr.models.checkpoint import read_card
from geosegsr.raster.bands import BandGroup
from geosegsr.sensor.descriptor import BICUBIC, SensorDescriptor
from geosegsr.training.config import ModelConfig
from geosegsr.training.grouped import GroupedPatches, Grouping
from geosegsr.training.loop import train
from geosegsr.training.start import grouping_of

RGB = ("red", "green", "blue")
SOFT = SensorDescriptor(0.7, 0.2, 0.008)
OF_FIVE = Grouping((BandGroup((2, 1, 0), "model"), BandGroup((3,), "grey"), BandGroup((4,), "grey")), RGB)
BUNDLED = ModelConfig(init="bundled", bands="groups", scale=2)


class Numbered:
    """Patches whose bands hold their own number."""

    images, places = 2, 7

    def batch(self, first, count):
        bands = np.arange(5, dtype=np.float32)[:, None, None]
        lr, hr = np.broadcast_to(bands, (5, 8, 8)), np.broadcast_to(bands, (5, 16, 16))
        return [Patch(lr, hr, np.ones((16, 16), bool), f"{n}", SOFT) for n in range(first, first + count)]


def test_patches_are_of_one_group_and_each_band_is_drawn_as_often():
    grouped = GroupedPatches(Numbered(), OF_FIVE, seed=3)
    assert (grouped.images, grouped.places) == (2, 7)
    drawn = grouped.batch(0, 600)
    kinds = [tuple(patch.lr[:, 0, 0]) for patch in drawn]
    assert set(kinds) == {(2, 1, 0), (3, 3, 3), (4, 4, 4)}
    assert abs(kinds.count((2, 1, 0)) / 600 - 3 / 5) < 0.07
    for patch in drawn:
        np.testing.assert_array_equal(patch.hr[:, 0, 0], patch.lr[:, 0, 0])
        assert patch.sensor == (SOFT if patch.lr[0, 0, 0] == 2 else BICUBIC)
    again = grouped.batch(100, 50)  # a patch is a function of its number
    assert [tuple(patch.lr[:, 0, 0]) for patch in again] == kinds[100:150]


def test_bands_that_nobody_knows_are_told_of_the_sensor():
    alone = Grouping((BandGroup((0,), "grey"), BandGroup((1,), "grey")), RGB)
    (patch,) = Numbered().batch(0, 1)
    assert alone.part_of(patch, alone.groups[1]).sensor == SOFT


def test_bands_come_back_to_their_places():
    tiles = Numbered().batch(0, 2)
    seen = []

    def double(lr, sensors):
        seen.append((lr.shape, set(sensors)))
        return np.repeat(np.repeat(lr, 2, 2), 2, 3) + np.array([0, 1, 2], np.float32)[:, None, None]

    made = OF_FIVE.enlarged(double, tiles)
    assert made.shape == (2, 5, 16, 16)
    # Red is band 2, so its plane is the first; grey is the mean of three planes.
    np.testing.assert_allclose(made[0, :, 0, 0], [0 + 2, 1 + 1, 2 + 0, 3 + 1, 4 + 1])
    assert seen == [((2, 3, 8, 8), {SOFT}), ((2, 3, 8, 8), {BICUBIC}), ((2, 3, 8, 8), {BICUBIC})]


@pytest.mark.parametrize(
    ("bands", "groups"),
    [
        (("blue", "green", "red", "nir"), [(2, 1, 0), (3,)]),
        (("", "", "", ""), [(0,), (1,), (2,), (3,)]),
        (("red", "nir"), [(0,), (1,)]),
    ],
)
def test_images_with_other_bands_than_the_start_are_grouped(bands, groups):
    found = grouping_of(BUNDLED, bands)
    assert [group.bands for group in found.groups] == groups
    assert found.band_names == RGB


@pytest.mark.parametrize(
    ("model", "bands"),
    [
        (BUNDLED, ("blue", "green", "red")),
        (BUNDLED, ("", "", "")),
        (BUNDLED, ("",)),  # goes through as grey, and faster
        (ModelConfig(init="none", bands="groups", scale=2), ("red", "green", "blue", "nir")),
        (ModelConfig(init="bundled", bands="together", scale=2), ("red", "green", "blue", "nir")),
    ],
)
def test_others_go_together(model, bands):
    assert grouping_of(model, bands) is None


def test_bands_with_ranges_of_their_own_need_a_network_of_their_own():
    assert one_range({"kind": "standard", "mean": [1.0, 1.0], "std": [2.0, 2.0]}) == {
        "kind": "range", "lo": 1.0, "hi": 3.0,
    }  # fmt: skip
    assert one_range({"kind": "standard", "mean": [1.0, 2.0], "std": [2.0, 2.0]}) is None
    assert one_range({"kind": "dtype"}) == {"kind": "dtype"}


def test_a_run_starts_as_good_as_the_bundled_model_and_upscale_takes_its_model(tmp_path):
    images = folder_of(tmp_path / "hr", number=3, count=5, size=(96, 96))
    settings = {"model.init": "bundled", "model.changes": {}, "schedule.steps": 1, "validation.bundled": True}
    result = train(tiny_config(images, **settings), tmp_path / "run")
    assert result.start.psnr == pytest.approx(result.bundled.psnr, abs=0.05)
    card = read_card(result.model)
    assert (card.bands, card.band_names, card.grey) == (3, RGB, True)
    made = upscale(images / "place_0.tif", tmp_path / "sr.tif", scale=2, model=str(result.model))
    assert made is not None
    together = train(tiny_config(images, **settings, **{"model.bands": "together"}), tmp_path / "together")
    assert read_card(together.model).bands == 5
