import csv
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from click.testing import CliRunner
from training_kit import TINY, as_dtype, folder_of, ground, ticking, tiny_config, write

from geosegsr.errors import Cancelled, CheckpointError, ConfigError, GeoSegSRWarning, JobError, SceneError
from geosegsr.models.checkpoint import load_checkpoint, read_card
from geosegsr.models.threads import idle_threads
from geosegsr.pipeline.upscale import upscale
from geosegsr.sensor.degradation import Degradation, imresize_down
from geosegsr.training.equivariance import Equivariance
from geosegsr.training.events import Noted, Started, Stepped, Validated
from geosegsr.training.loop import train
from geosegsr.training.patches import Patches
from geosegsr.training.run_folder import RunFolder
from geosegsr.training.stop import stop_requests

ROOT = Path(__file__).parents[2]


class Events(list):
    """Keeps what a run tells."""

    def __call__(self, event):
        self.append(event)

    def of(self, kind):
        return [event for event in self if isinstance(event, kind)]

    @property
    def losses(self):
        return {event.step: event.loss for event in self.of(Stepped)}


def trained(config, folder, **options):
    events = Events()
    return train(config, folder, on_event=events, **options), events


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def unbroken(images, tmp_path_factory):
    """A whole run: its folder, result and events."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    result, events = trained(tiny_config(images), folder)
    return folder, result, events


def rows_of(folder, name):
    with (folder / name).open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_a_run_leaves_all_that_it_promises(unbroken):
    folder, result, events = unbroken
    assert result.steps == 6
    assert result.model == folder / "model.safetensors"
    assert {"config.toml", "log.csv", "metrics.csv", "last.pt", "best.safetensors"} <= {
        path.name for path in folder.iterdir()
    }
    assert sorted(path.name for path in (folder / "pictures").iterdir()) == [
        "step_0000000.png",
        "step_0000003.png",
        "step_0000006.png",
    ]
    assert not (folder / "events").exists()
    assert not list(folder.glob("*.part"))
    assert [row["step"] for row in rows_of(folder, "log.csv")] == list("012345")
    assert [row["step"] for row in rows_of(folder, "metrics.csv")] == ["0", "3", "6"]
    assert [len(events.of(kind)) for kind in (Started, Stepped, Validated, Noted)] == [1, 6, 3, 0]
    assert any("split by ground" in note for note in events.of(Started)[0].notes)
    assert RunFolder(folder).read_config() == tiny_config(events_hr(folder))
    assert 0 <= result.data_wait < 1


def events_hr(folder):
    return list(RunFolder(folder).read_config().data.hr)


def test_the_card_says_what_the_model_is(unbroken):
    folder, result, _ = unbroken
    card = read_card(result.model)
    assert (card.scale, card.bands, card.radiometry) == (2, 3, {"kind": "dtype"})
    assert Degradation.from_dict(card.degradation) == Degradation()
    assert "3 bands of uint8" in card.trained_on
    assert "lr pixels of 4 m" in card.trained_on
    assert card.metrics["psnr"] == pytest.approx(result.score.psnr)
    assert card.metrics["psnr_y_bicubic"] == pytest.approx(result.baseline.psnr_y)
    assert card == read_card(folder / "best.safetensors")


def test_the_same_seed_gives_the_same_losses_and_another_one_others(images, unbroken, tmp_path):
    _, _, events = unbroken
    assert trained(tiny_config(images), tmp_path / "again")[1].losses == events.losses
    assert trained(tiny_config(images, seed=1), tmp_path / "other")[1].losses != events.losses


def test_training_makes_the_loss_smaller(images, tmp_path):
    changes = {
        "schedule.steps": 60,
        "optimiser.batch": 4,
        "optimiser.learning_rate": 5e-3,
        "validation.every": 60,
        "schedule.warmup_steps": 10,
    }
    losses = list(trained(tiny_config(images, **changes), tmp_path / "run")[1].losses.values())
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])


def test_the_trunk_stays_equivariant_unless_told_otherwise(images, unbroken, tmp_path):
    Equivariance(load_checkpoint(unbroken[1].model)[0], "p4").start(trained=True)
    free, _ = trained(tiny_config(images, **{"model.equivariance": "none"}), tmp_path / "free")
    with pytest.raises(ConfigError, match="of this checkpoint equivariant"):
        Equivariance(load_checkpoint(free.model)[0], "p4").start(trained=True)
    with pytest.raises(ConfigError, match=r"equivariance=none, or --init none"):
        trained(tiny_config(images, **{"model.init": str(free.model), "model.changes": {}}), tmp_path / "on")


TICK = 0.125  # seconds between two looks at the clock of a run; exact in binary

KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from training_kit import ticking, tiny_config
from geosegsr.training.events import Stepped
from geosegsr.training.loop import train
def kill(event):
    if isinstance(event, Stepped) and event.step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
train(tiny_config({images!r}, **{changes!r}), {folder!r}, on_event=kill, now=ticking({tick!r}))
"""


def killed_at_step_5(images, folder, **changes):
    code = KILLED.format(
        tests=str(ROOT / "tests" / "kits"), images=str(images), folder=str(folder), changes=changes, tick=TICK
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def test_resumed_after_kill_9_equals_unbroken(images, unbroken, tmp_path):
    whole_folder, whole_result, whole = unbroken
    folder = tmp_path / "run"
    killed_at_step_5(images, folder)
    assert len(rows_of(folder, "log.csv")) == 5
    result, events = trained(RunFolder(folder).read_config(), folder, resume=True)
    assert events.of(Started)[0].first_step == 4  # the last checkpoint; step 5 is repeated
    assert events.losses == {step: whole.losses[step] for step in (5, 6)}
    for name in ("step", "loss", "learning_rate", "share"):
        assert [r[name] for r in rows_of(folder, "log.csv")] == [
            r[name] for r in rows_of(whole_folder, "log.csv")
        ]
    assert rows_of(folder, "metrics.csv") == rows_of(whole_folder, "metrics.csv")
    one, two = (load_checkpoint(r.model)[0].state_dict() for r in (result, whole_result))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_by_the_clock_ends_when_its_time_is_over(images, tmp_path):
    minutes = 8 * TICK / 60
    result, events = trained(
        tiny_config(images, **{"schedule.minutes": minutes}), tmp_path / "run", now=ticking(TICK)
    )
    elapsed = [float(row["elapsed_s"]) for row in rows_of(tmp_path / "run", "log.csv")]
    assert elapsed == sorted(elapsed)
    # Validations and checkpoints read the clock too; that of the start took a tick, which is kept for the last one.
    assert elapsed[-1] < 7 * TICK <= elapsed[-1] + 4 * TICK
    assert result.steps == len(elapsed)
    shares = [event.share for event in events.of(Stepped)]
    assert shares == [elapsed[0] / (8 * TICK), *(seconds / (7 * TICK) for seconds in elapsed[1:])]


def test_a_run_by_the_clock_repeats_its_logged_steps_when_resumed(images, tmp_path):
    folder = tmp_path / "run"
    killed_at_step_5(images, folder, **{"schedule.minutes": 16 * TICK / 60})
    before = rows_of(folder, "log.csv")
    _, events = trained(RunFolder(folder).read_config(), folder, resume=True, now=ticking(TICK))
    after = rows_of(folder, "log.csv")
    assert after[:5] == before
    assert [int(row["step"]) for row in after] == list(range(len(after)))
    assert len(after) > 5
    assert events.losses[5] == float(before[4]["loss"])
    shares = [float(row["share"]) for row in after]
    assert shares == sorted(shares)
    assert shares[-1] < 1


def test_a_log_cut_off_in_mid_line_is_taken_up_to_there(unbroken, tmp_path):
    folder = RunFolder(tmp_path)
    text = (unbroken[0] / "log.csv").read_text()
    (tmp_path / "log.csv").write_text(text[: text.rindex(",") - 2])
    assert [row.step for row in folder.read_log()] == [0, 1, 2, 3, 4]


@pytest.fixture
def default_interrupt():
    """Python's own handler of SIGINT, which a process started by nohup or in the background does not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_ctrl_c_stops_at_once(default_interrupt):
    with pytest.raises(KeyboardInterrupt), stop_requests() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set()
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_saves_and_can_be_resumed(images, unbroken, tmp_path, default_interrupt):
    def interrupt(event):
        if isinstance(event, Stepped) and event.step == 3:
            signal.raise_signal(signal.SIGINT)

    folder = tmp_path / "run"
    with pytest.raises(Cancelled, match=r"Stopped after 3 steps. Resume with --resume"):
        train(tiny_config(images), folder, on_event=interrupt)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    _, events = trained(RunFolder(folder).read_config(), folder, resume=True)
    assert events.losses == {step: loss for step, loss in unbroken[2].losses.items() if step > 3}


def test_accumulated_batches_equal_one_large_one(images, tmp_path):
    one = trained(tiny_config(images, **{"optimiser.batch": 4}), tmp_path / "a")[1].losses
    two = trained(tiny_config(images, **{"optimiser.batch": 2, "optimiser.accumulate": 2}), tmp_path / "b")[
        1
    ].losses
    assert one == pytest.approx(two, rel=1e-4)


TWO_PROCESSES = """
import sys
sys.path.insert(0, {tests!r})
from training_kit import tiny_config
import torch
from geosegsr.training.loop import train
train(tiny_config({images!r}), {folder!r})
assert not torch.distributed.is_initialized(), "the group outlives its run"
"""


def test_two_processes_equal_one_with_the_doubled_batch(images, tmp_path):
    script = tmp_path / "two.py"
    folder = tmp_path / "two"
    script.write_text(
        TWO_PROCESSES.format(tests=str(ROOT / "tests" / "kits"), images=str(images), folder=str(folder))
    )
    arguments = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(arguments, env=environment, capture_output=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr.decode()
    two = [float(row["loss"]) for row in rows_of(folder, "log.csv")]
    one = trained(tiny_config(images, **{"optimiser.batch": 4}), tmp_path / "one")[1].losses
    assert two == pytest.approx(list(one.values()), rel=1e-5)


def test_a_loss_that_is_not_finite_names_where_its_patches_came_from(images, tmp_path, monkeypatch):
    good = Patches.__getitem__

    def spoilt(self, number):
        patch = good(self, number)
        if number == 9:  # the second patch of step 4
            patch.hr[:] = np.nan
        return patch

    folder = tmp_path / "run"
    monkeypatch.setattr(Patches, "__getitem__", spoilt)
    with pytest.raises(
        JobError, match=r"loss of step 4 is nan.*place_\d\.tif' at rows \d+-\d+, columns"
    ) as caught:
        train(tiny_config(images), folder)
    assert str(caught.value).count("place_") == 1
    monkeypatch.undo()
    assert RunFolder(folder).load_last()["step"] == 4
    assert trained(RunFolder(folder).read_config(), folder, resume=True)[0].steps == 6


def test_a_full_disk_at_a_checkpoint_loses_nothing(images, unbroken, tmp_path, monkeypatch):
    save, calls = torch.save, []

    def full(state, file):
        calls.append(state["step"])
        if len(calls) == 2:
            file.write(b"half of it")
            raise OSError(28, "No space left on device")
        save(state, file)

    monkeypatch.setattr(torch, "save", full)
    folder = tmp_path / "run"
    result, events = trained(tiny_config(images), folder)
    assert [note.text for note in events.of(Noted)] == [
        f"Cannot write '{folder / 'last.pt'}': No space left on device. The previous file is kept. "
        "Free some space on its disk. The run continues."
    ]
    assert calls == [2, 4, 6, 6]
    assert events.losses == unbroken[2].losses
    assert result.model.exists()
    assert not list(folder.glob("*.part"))


def test_a_folder_in_use_or_full_is_refused(images, unbroken, tmp_path):
    with pytest.raises(JobError, match="the folder is not empty"):
        train(tiny_config(images), unbroken[0])
    other = RunFolder(unbroken[0])
    other.lock()
    try:
        with pytest.raises(JobError, match="another process trains there"):
            train(other.read_config(), unbroken[0], resume=True)
    finally:
        other.close()
    with pytest.raises(JobError, match=r"holds no run \(no config.toml\)"):
        RunFolder(tmp_path / "nothing").read_config()


@pytest.mark.parametrize("name", ["notes.txt", ".lock", "config.toml"])
def test_a_folder_with_files_of_somebody_else_is_refused(name, tmp_path, monkeypatch):
    (tmp_path / name).write_text("precious")
    if name == "config.toml":  # it appears after the look at the folder
        monkeypatch.setattr(type(tmp_path), "iterdir", lambda self: iter(()))
    with pytest.raises(JobError, match="the folder is not empty"):
        RunFolder(tmp_path).create(tiny_config([]))
    monkeypatch.undo()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "precious")]


def test_a_run_in_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(JobError, match="Cannot start a run in"):
        RunFolder(tmp_path / "file").create(tiny_config([]))


def test_bad_data_leaves_no_run_behind(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SceneError, match="there are none"):
        train(tiny_config(tmp_path / "empty"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_damaged_checkpoint_is_refused(images, unbroken, tmp_path):
    folder = tmp_path / "run"
    train(tiny_config(images, **{"schedule.steps": 2}), folder)
    (folder / "last.pt").write_bytes((folder / "last.pt").read_bytes()[:500])
    with pytest.raises(CheckpointError, match=r"Cannot resume from .* damaged.*--init"):
        train(RunFolder(folder).read_config(), folder, resume=True)


def test_overlapping_validation_is_reported(images, tmp_path):
    with pytest.warns(GeoSegSRWarning, match="4 of 4 validation images show ground that is trained on"):
        train(tiny_config(images, **{"data.val": [str(images)], "schedule.steps": 1}), tmp_path / "run")


def test_validation_of_another_kind_is_refused(images, tmp_path):
    other = folder_of(tmp_path / "val", 1, count=4)
    with pytest.raises(ConfigError, match="4 bands of uint8, and the training images have 3"):
        train(tiny_config(images, **{"data.val": [str(other)]}), tmp_path / "run")


@pytest.mark.parametrize(
    ("count", "dtype", "kind"), [(4, "uint16", "range"), (1, "float32", "range"), (2, "int16", "standard")]
)
def test_any_sensor_trains_saves_loads_and_upscales(tmp_path, count, dtype, kind):
    hr = folder_of(tmp_path / "hr", count=count, dtype=dtype)
    changes = {"data.radiometry": "standard"} if kind == "standard" else {}
    result, _ = trained(tiny_config(hr, **changes), tmp_path / "run")
    card = read_card(result.model)
    assert (card.bands, card.radiometry["kind"]) == (count, kind)
    assert 5 < result.baseline.psnr < 60
    assert result.score.psnr_y is None
    scene = write(tmp_path / "scene.tif", as_dtype(ground(count, 40, 50, 9), dtype))
    with pytest.warns(GeoSegSRWarning, match="behind bicubic"):
        upscale(scene, tmp_path / "out.tif", 2, result.model, tile=32, overlap=16, device="cpu")
    with rasterio.open(tmp_path / "out.tif") as out, rasterio.open(scene) as source:
        assert (out.height, out.width, out.count, out.dtypes[0]) == (80, 100, count, dtype)
        # The network starts from bicubic and has hardly learnt: DN went in and out by one radiometry.
        seen, given = imresize_down(out.read().astype(np.float32), 2), source.read().astype(np.float32)
    assert np.abs(seen - given).mean() < 0.1 * np.ptp(given)


def test_pairs_train_with_their_shift_found(tmp_path):
    field = 0.2 + 0.6 * ground(2, 120, 120)
    lr = imresize_down(field, 2)
    write(tmp_path / "hr" / "a.tif", as_dtype(np.roll(field, 2, axis=1), "uint8"), pixel=5.0)
    write(tmp_path / "lr" / "a.tif", as_dtype(lr, "uint8"), pixel=10.0)
    config = tiny_config(tmp_path / "hr", **{"data.lr": [str(tmp_path / "lr")]})
    result, events = trained(config, tmp_path / "run")
    heading, row = events.of(Started)[0].notes[:2]
    assert heading.split()[:3] == ["pair", "overlap", "shift"]
    assert "-1.0" in row.split("%")[1]
    assert (tmp_path / "run" / "pictures" / "pairs.png").exists()
    card = read_card(result.model)
    assert card.degradation["kernel"] == ["mtf"]
    assert 0.3 < card.degradation["mtf"][0] <= 0.6
    assert "lr pixels of 10 m" in card.trained_on


def test_pairs_that_do_not_match_are_named(tmp_path):
    write(tmp_path / "hr" / "a.tif", as_dtype(ground(1, 64, 64), "uint8"))
    write(tmp_path / "lr" / "b.tif", as_dtype(ground(1, 32, 32), "uint8"), pixel=4.0, east=0.0)
    config = tiny_config(tmp_path / "hr", **{"data.lr": [str(tmp_path / "lr")]})
    with pytest.raises(
        SceneError, match=r"do not make a pair.*a\.tif' has no lr image of its name or ground"
    ):
        train(config, tmp_path / "run")


def test_fine_tuning_starts_from_a_checkpoint(images, unbroken, tmp_path):
    start = unbroken[1].model
    changes = {
        "model.init": str(start),
        "model.changes": {},
        "schedule.steps": 1,
        "optimiser.learning_rate": 1e-12,
    }
    result, _ = trained(tiny_config(images, **changes), tmp_path / "run")
    one, two = (load_checkpoint(path)[0].state_dict() for path in (start, result.model))
    assert all(torch.allclose(one[name], two[name], atol=1e-6) for name in one)
    with pytest.raises(ConfigError, match="shape is the checkpoint's"):
        train(tiny_config(images, **{**changes, "model.changes": {**TINY, "width": 12}}), tmp_path / "third")


@pytest.mark.parametrize("what", ["trunk", "lora"])
def test_only_a_part_learns(images, tmp_path, what):
    # A fresh trunk does not listen to the tower yet: adapters start from a network that has learnt a little.
    changes = {"model.changes": {**TINY, "lora_rank": 2}, "optimiser.ema": 0.0, "data.val_share": 0.0}
    with pytest.warns(GeoSegSRWarning, match="starts from random weights"):
        start, _ = trained(tiny_config(images, **changes), tmp_path / "start")
    more = {"model.changes": {}, "model.init": str(start.model), "model.train": what}
    result, _ = trained(tiny_config(images, **{**changes, **more}), tmp_path / "run")
    before, after = (load_checkpoint(path)[0].state_dict() for path in (start.model, result.model))
    learnt = {name for name in before if not torch.equal(before[name], after[name])}
    assert learnt
    in_tower = {name for name in learnt if name.startswith("features.")}
    assert in_tower == (set() if what == "trunk" else learnt)
    assert not any(name.endswith("original") for name in learnt)


def test_adapters_cannot_learn_where_there_are_none(images, tmp_path):
    changes = {"model.changes": {**TINY, "lora_rank": 0}, "model.train": "lora"}
    with pytest.raises(ConfigError, match="has none"):
        train(tiny_config(images, **changes), tmp_path / "run")


def test_a_tower_comes_from_a_file(images, tmp_path):
    from geosegsr.training.network import build_network

    changes = {"model.changes": {**TINY, "lora_rank": 2}}
    with pytest.warns(GeoSegSRWarning):
        donor = build_network(tiny_config(images, **changes, seed=5), 3).features.tower
    donor.merge()
    torch.save({f"visual.{name}": t for name, t in donor.vit.state_dict().items()}, tmp_path / "tower.pt")
    config = tiny_config(images, **changes, **{"model.tower": str(tmp_path / "tower.pt")})
    network = build_network(config, 3)
    network.features.tower.merge()
    for name, tensor in network.features.tower.vit.state_dict().items():
        assert torch.allclose(tensor, donor.vit.state_dict()[name], atol=1e-6), name
    torch.save({"visual.proj": torch.zeros(3, 3)}, tmp_path / "wrong.pt")
    with pytest.raises(ConfigError, match="as the tower"):
        build_network(tiny_config(images, **changes, **{"model.tower": str(tmp_path / "wrong.pt")}), 3)
    with pytest.raises(ConfigError, match="ViT-Z"):
        build_network(tiny_config(images, **changes, **{"model.tower": "ViT-Z"}), 3)


def test_a_busy_processor_gets_fewer_threads(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    for load, threads in ((0.1, 4), (2.2, 2), (9.0, 1)):
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (load, 0, 0))
        assert idle_threads() == threads


def test_bf16_on_a_processor_and_no_fp16(images, tmp_path):
    result, events = trained(tiny_config(images, precision="bf16"), tmp_path / "run")
    assert events.of(Started)[0].precision == "bf16"
    assert math.isfinite(result.score.psnr)
    with pytest.raises(ConfigError, match="fp16 on a CPU"):
        train(tiny_config(images, precision="fp16"), tmp_path / "other")


def command(*arguments):
    from geosegsr_cli.commands.train import command as train_command

    return CliRunner().invoke(train_command, [str(a) for a in arguments], catch_exceptions=False)


def test_the_command_trains_and_says_how_good_it_is(images, tmp_path):
    changes = [f"--set=model.changes.{name}={value}" for name, value in TINY.items()]
    result = command(
        "--hr", images, "--scale", 2, "--steps", 2, "--patch", 8, "--batch", 2, "--degradation", "box",
        "--device", "cpu", "--threads", 1, "--precision", "fp32", "--run", tmp_path / "run", "--val-share", 0.25, *changes,
    )  # fmt: skip
    assert result.exit_code == 3, result.output
    assert "model.safetensors: 2 steps, PSNR" in result.stdout
    assert "(bicubic" in result.stdout
    assert "data wait" in result.stdout
    assert "Do not use this model: nothing that the run found is better than" in result.stderr
    assert "the best so far" not in result.output
    assert RunFolder(tmp_path / "run").read_config().degradation.kernel == ("box",)
    again = command("--resume", tmp_path / "run")
    assert again.exit_code == 3
    assert "2 steps" in again.stdout
    assert "Leave out steps" in command("--resume", tmp_path / "run", "--steps", 9).output


def test_a_check_says_what_a_run_would_do_and_writes_nothing(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = command(
        "--hr", images, "--scale", 2, "--patch", 8, "--val-share", 0.25, "--run", "run", "--check",
        "--degradation", "bicubic",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert not list(tmp_path.iterdir())
    for line in (
        "4 images, 3 bands of uint8",
        "bands: red, green, blue; lr pixels of 4 m",
        "value range: all of uint8",
        "lr: made from hr, kernel bicubic",
        "start: compact-x2-clean",
    ):
        assert line in result.stdout.splitlines()
    assert "split by ground" in result.stdout
    assert "Leave out check" in command("--resume", "run", "--check").output


def test_the_command_wants_images():
    result = command("--scale", 2)
    assert result.exit_code == 2
    assert "Pass --hr" in result.output


def test_interrupted_from_outside_it_leaves_with_130(images, tmp_path):
    changes = [f"--set=model.changes.{name}={value}" for name, value in TINY.items()]
    folder = tmp_path / "run"
    arguments = [
        sys.executable, "-m", "geosegsr_cli.commands.train", "--hr", images, "--scale", 2, "--steps", 100000, "--patch", 8,
        "--device", "cpu", "--threads", 1, "--precision", "fp32", "--run", folder, *changes,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'cli'}"}
    process = subprocess.Popen(
        [str(a) for a in arguments], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        while len((folder / "log.csv").read_text().splitlines() if (folder / "log.csv").exists() else []) < 4:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == 130
    assert f"--resume {folder}" in said
    assert RunFolder(folder).load_last()["step"] >= 3


def test_a_run_of_seven_steps_says_that_it_gained_nothing(images, tmp_path):
    changes = [f"--set=model.changes.{name}={value}" for name, value in TINY.items()]
    result = command(
        "--hr", images, "--scale", 2, "--steps", 7, "--patch", 8, "--batch", 2, "--device", "cpu", "--threads", 1,
        "--precision", "fp32", "--run", tmp_path / "run", "--val-share", 0.25, *changes,
    )  # fmt: skip
    assert result.exit_code == 3, result.output
    assert "better than bicubic interpolation, on its validation tiles" in result.stderr.splitlines()[-1]
    assert "\nbundled model " in result.stdout
    assert "Use it" not in result.stdout
    assert "the best so far" not in result.output
    model = tmp_path / "run" / "model.safetensors"
    card = read_card(model)
    assert card.notes == "Not better than bicubic interpolation on its validation images."
    assert card.metrics["psnr_start"] <= card.metrics["psnr"] < card.metrics["psnr_bicubic"]
    scene = write(tmp_path / "scene.tif", as_dtype(ground(3, 40, 50, 9), "uint8"))
    with pytest.warns(GeoSegSRWarning, match="behind bicubic interpolation on its own validation images"):
        upscale(scene, tmp_path / "out.tif", 2, model, device="cpu")


def test_the_start_is_kept_where_steps_only_spoil_it(images, unbroken, tmp_path):
    # As a random step away from a trained network would: a rate far too high.
    changes = {"model.init": str(unbroken[1].model), "model.changes": {}, "schedule.warmup_steps": 0}
    config = tiny_config(images, **changes, **{"optimiser.learning_rate": 1.0, "schedule.warmup": 0.0})
    result, events = trained(config, tmp_path / "run")
    assert result.score == result.start
    assert result.falls_short_of is not None
    assert [event.step for event in events.of(Validated) if event.is_best] == [0]
    one, two = (load_checkpoint(path)[0].state_dict() for path in (unbroken[1].model, result.model))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_ends_when_its_validations_gain_nothing(images, tmp_path):
    """Steps this small change no score, so the first validation after the start is never beaten."""
    still = {
        "optimiser.learning_rate": 1e-12,
        "schedule.steps": 24,
        "validation.every": 2,
        "validation.patience": 3,
    }
    folder = tmp_path / "run"
    result, events = trained(tiny_config(images, **still), folder)
    assert result.steps == 8
    assert [event.step for event in events.of(Validated)] == [0, 2, 4, 6, 8]
    assert "ends after 8 steps: the last 3 validations gained nothing" in events.of(Noted)[-1].text
    assert result.model.exists()
    again, _ = trained(RunFolder(folder).read_config(), folder, resume=True)
    assert (again.steps, again.score) == (8, result.score)
    to_its_end = tiny_config(images, **{**still, "validation.patience": 0, "schedule.steps": 12})
    assert trained(to_its_end, tmp_path / "whole")[0].steps == 12


def test_a_run_that_still_gains_goes_on(images, unbroken, tmp_path):
    folder = tmp_path / "run"
    killed_at_step_5(images, folder, **{"validation.every": 1, "validation.patience": 2})
    result, _ = trained(RunFolder(folder).read_config(), folder, resume=True)
    whole, _ = trained(
        tiny_config(images, **{"validation.every": 1, "validation.patience": 2}), tmp_path / "whole"
    )
    assert (result.steps, result.score) == (whole.steps, whole.score)
