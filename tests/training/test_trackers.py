"""Trackers: what reaches them, and what happens where one is missing or fails."""

from __future__ import annotations

import numpy as np
import pytest
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from training_kit import folder_of, tiny_config

from geosegsr.errors import ConfigError, GeoSegSRWarning, JobError
from geosegsr.training import trackers as room
from geosegsr.training.events import Noted
from geosegsr.training.loop import train
from geosegsr.training.trackers import Trackers, check_trackers


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("images"))


def accumulated(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    return events


def test_tensorboard_gets_scores_and_pictures(images, tmp_path):
    pytest.importorskip("tensorboard")
    folder = tmp_path / "run"
    result = train(tiny_config(images, trackers=["tensorboard"]), folder)
    events = accumulated(folder / "events" / "geosegsr")
    scores = events.Scalars("validation/psnr")
    assert [event.step for event in scores] == [0, 3, 6]
    assert max(event.value for event in scores) == pytest.approx(result.score.psnr)
    assert len(events.Images("validation/lr, bicubic, sr, hr")) == 3


def test_a_missing_package_is_named_before_anything_is_written(images, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "get_available_trackers", lambda: ["tensorboard"])
    with pytest.raises(ConfigError, match=r"'wandb': its package is not installed. Run 'pip install wandb'"):
        train(tiny_config(images, trackers=["tensorboard", "wandb"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    check_trackers(["tensorboard"])


def test_a_tracker_nobody_knows_is_refused(images):
    with pytest.raises(ConfigError, match="tensorboard"):
        tiny_config(images, trackers=["tensorbord"])


class Recorder(GeneralTracker):
    """A tracker with the interface of accelerate that keeps what it is given, or fails."""

    name = "recorder"
    requires_logging_directory = False

    def __init__(self, *, fails=()):
        super().__init__()
        self.fails, self.said = fails, []

    def _note(self, what, *content):
        if what in self.fails:
            raise ConnectionError(f"no server for {what}\nsecond line")
        self.said.append((what, *content))

    @property
    def tracker(self):
        return self

    def start(self):
        self._note("start")

    def store_init_configuration(self, values):
        self._note("settings", values)

    def log(self, values, step=None):
        self._note("log", step, values)

    def log_images(self, values, step=None):
        self._note("images", step, {name: np.shape(images) for name, images in values.items()})

    def finish(self):
        self._note("finish")


def tracked(tmp_path, *trackers, settings=None):
    return Trackers(Accelerator(cpu=True, log_with=list(trackers)), tmp_path, settings or {})


def test_settings_numbers_and_pictures_reach_a_tracker(tmp_path):
    recorder = Recorder()
    settings = {"seed": 3, "optimiser": {"name": "muon", "betas": [0.9, 0.99]}, "schedule": {"warmup": 0.5}}
    trackers = tracked(tmp_path, recorder, settings=settings)
    trackers.log(50, {"train/loss": 0.5})
    trackers.log(60, {"validation/psnr": 30.0}, np.zeros((3, 20, 30), np.uint8))
    trackers.close()
    trackers.close()  # nothing is left to do
    assert [entry for entry in recorder.said if entry[0] != "start"] == [
        ("settings", {"seed": 3, "optimiser.name": "muon", "optimiser.betas": "[0.9, 0.99]", "schedule.warmup": 0.5}),
        ("log", 50, {"train/loss": 0.5}),
        ("log", 60, {"validation/psnr": 30.0}),
        ("images", 60, {"validation/lr, bicubic, sr, hr": (1, 20, 30, 3)}),
        ("finish",),
    ]  # fmt: skip


@pytest.mark.parametrize("what", ["start", "settings"])
def test_a_failure_to_start_is_one_line(tmp_path, what):
    accelerator = Accelerator(cpu=True, log_with=[Recorder(fails=[what, "finish"])])
    with pytest.raises(JobError, match=rf"no server for {what}\. .*--resume") as caught:
        Trackers(accelerator, tmp_path, {})
    assert "second line" not in str(caught.value)
    accelerator.end_training()  # has nothing to finish


def test_a_failure_to_log_or_to_finish_is_no_end_of_the_run(tmp_path):
    failing, other = Recorder(fails=["log", "finish"]), Recorder()
    trackers = tracked(tmp_path, failing, other)
    with pytest.raises(JobError, match=r"Cannot log step 7 .* with 'recorder': no server for log"):
        trackers.log(7, {"train/loss": 0.5})
    with pytest.warns(GeoSegSRWarning, match="cannot finish 'recorder'"):
        trackers.close()
    assert other.said[-1] == ("finish",)


def test_a_run_continues_where_its_tracker_cannot_write(images, tmp_path, monkeypatch):
    def full(self, step, numbers, picture=None):
        raise JobError("Cannot log.")

    monkeypatch.setattr(Trackers, "log", full)
    events = []
    train(tiny_config(images), tmp_path / "run", on_event=events.append)
    assert [event.text for event in events if isinstance(event, Noted)] == ["Cannot log. The run continues."]
    assert (tmp_path / "run" / "metrics.csv").exists()
