"""The sensor of the training images, found from them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from geosegsr_cli.commands.train import _configuration
from training_kit import folder_of, tiny_config

from geosegsr.models.checkpoint import read_card
from geosegsr.pipeline.sensing import ESTIMATED, Sensing
from geosegsr.sensor.degradation import Degradation
from geosegsr.sensor.descriptor import BICUBIC, SensorDescriptor, blur_of, response
from geosegsr.training import sensing
from geosegsr.training.config import resolve_config
from geosegsr.training.dataset import as_found, prepare_data
from geosegsr.training.loop import train
from geosegsr.training.run_folder import RunFolder
from geosegsr.training.sensing import degradation_of, sensor_toml

SOFT = SensorDescriptor(0.7, 0.2, 0.008, 40.0)


class Kind:
    """What is asked of a scene here."""

    def __init__(self, dtype="uint8", count=3):
        self.dtype, self.count = np.dtype(dtype), count


def test_lr_is_made_as_the_sensor_sees():
    made = degradation_of(SOFT, Kind())
    again = SensorDescriptor.of_degradation(made, 4)
    assert again.mtf_quarter == pytest.approx(0.7, abs=0.01)
    assert again.noise == pytest.approx(0.008)
    assert again.jpeg_quality == pytest.approx(SOFT.jpeg_quality, abs=1)
    assert degradation_of(SOFT, Kind("uint16")).jpeg_quality is None
    assert degradation_of(SOFT, Kind(count=4)).jpeg_quality is None
    assert degradation_of(BICUBIC, Kind()) == Degradation()


def test_the_blur_of_a_sensor_gives_its_response():
    samplings = Degradation(blur=(blur_of(SOFT),) * 2).samplings(4, 1)
    assert response(samplings[0], 0.25) == pytest.approx(0.7, abs=0.01)
    assert blur_of(BICUBIC) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize(
    "made", [Degradation(), degradation_of(SOFT, Kind()), Degradation(mtf=(0.2, 0.3), kernel=("mtf",))]
)
def test_what_is_written_is_read_again(tmp_path, made):
    (tmp_path / "sensor.toml").write_text(sensor_toml(made, "said"))
    assert Degradation.load(tmp_path / "sensor.toml") == made


def test_a_run_trains_for_the_sensor_that_it_finds(tmp_path, monkeypatch):
    seen = iter(
        [SOFT, SensorDescriptor(0.6, 0.1, 0.004, 0.0), SensorDescriptor(0.8, 0.3, 0.02, 60.0), BICUBIC]
    )
    monkeypatch.setattr(sensing, "sense", lambda *_: Sensing((next(seen),), ESTIMATED))
    images = folder_of(tmp_path / "images")
    events = []
    result = train(tiny_config(images, find_sensor=True), tmp_path / "run", on_event=events.append)
    middle = SensorDescriptor(0.75, 0.25, 0.006, 20.0).rounded()
    written = RunFolder(tmp_path / "run").read_config()
    assert not written.find_sensor
    assert written.degradation == degradation_of(middle, Kind())
    assert Degradation.load(tmp_path / "run" / "sensor.toml") == written.degradation
    assert Degradation.from_dict(read_card(result.model).degradation) == written.degradation
    assert any("the blur and noise that the images show" in note for note in events[0].notes)
    given = train(tiny_config(images), tmp_path / "given").model
    assert Degradation.from_dict(read_card(given).degradation) == Degradation()
    assert (tmp_path / "given" / "sensor.toml").read_text().startswith("# given")


def test_a_network_that_is_told_of_a_found_sensor_sees_clean_lr_too(tmp_path, monkeypatch):
    monkeypatch.setattr(sensing, "sense", lambda *_: Sensing((SOFT,), ESTIMATED))
    images = folder_of(tmp_path / "images")
    told = {"model.preset": "compact-sensor", "model.changes": {}}
    shares = {
        preset: prepare_data(tiny_config(images, find_sensor=True, **changes)).degradation.clean
        for preset, changes in (("compact", {}), ("compact-sensor", told))
    }
    assert shares == {"compact": 0.0, "compact-sensor": 0.3}
    made = prepare_data(tiny_config(images, find_sensor=True, **told)).degradation
    assert made.at_rest() == replace(made, clean=0.0).at_rest()  # validated on the sensor


def test_soft_images_choose_the_network_for_any_sensor():
    config = resolve_config(None, None, {"data.hr": ["images"]})

    def chosen(degradation, config=config, pairs=None):
        return as_found(config, SimpleNamespace(degradation=degradation, pairs=pairs)).model.preset

    assert chosen(Degradation()) == "compact"
    assert chosen(Degradation(noise_read=(0.001, 0.001))) == "compact"  # hardly any noise
    assert chosen(None) == "compact"  # images of several kinds
    for unlike in (
        degradation_of(SOFT, Kind()),
        Degradation(noise_read=(0.01, 0.01)),
        Degradation(blur=(0.25, 0.25)),
    ):
        assert chosen(unlike) == "compact-sensor"
        assert chosen(unlike, pairs=object()) == "compact"  # a network is told that real lr are clean
        assert chosen(unlike, resolve_config("compact")) == "compact"  # as named


def test_the_command_line_looks_for_the_sensor_unless_one_is_given(tmp_path):
    def asked(degradation=None, config=None, changes=()):
        found = _configuration("compact", config, changes, degradation, None, hr=("images",))
        return found.find_sensor

    file = tmp_path / "recipe.toml"
    file.write_text('[degradation]\nkernel = "box"\n')
    assert asked()
    assert asked("auto")
    assert not asked("bicubic")
    assert not asked(config=file)
    assert not asked(changes=("degradation.noise_read=0.01",))
    assert not asked(changes=("find_sensor=false",))
