"""What goes wrong around a run: its notes, its source, its folder, its clock, its memory, its locks."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import scene_factory as factory
from command_line import Outcome, assert_refused, run_here
from comparison import file_differences

from geosegsr import upscale
from geosegsr.errors import GeoSegSRError, SceneError

RUN = import_module("geosegsr.pipeline.run")
"""Where tests replace the steps of a run."""
Run = Callable[..., Outcome]
SMALL_BLOCKS = ("--model", "bicubic", "--tile", 16, "--overlap", 4, "--block", 48)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Twenty blocks."""
    return factory.write_nodata(tmp_path / "scene.tif")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    return folder / "out.tif"


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], target: Path) -> Run:
    """Upscales a scene to the target in some twenty blocks."""

    def call(source: object, *args: object) -> Outcome:
        return run_here(capfd, "upscale", source, "-o", target, *SMALL_BLOCKS, *args)

    return call


@pytest.fixture
def break_off(command: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs the command up to the COG stage, and not further."""

    def stop(*args: object, **kwargs: object) -> None:
        raise SceneError("Cannot go on.")

    def call(source: object, *args: object) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(RUN, "compute_cell", stop)
            assert command(source, *args).code == 1

    return call


def job_of(target: Path) -> Path:
    return target.with_name(target.name + ".geosegsr")


def resumed(outcome: Outcome) -> int:
    assert outcome.code == 0, outcome.err
    return int(json.loads(outcome.out)["blocks_resumed"])


def undisturbed(source: Path, target: Path, model: str = "bicubic") -> Path:
    wanted = target.with_name("wanted.tif")
    return Path(upscale(source, wanted, model=model, tile=16, overlap=4, block=48).path)


# The notes of a run.


def test_blocks_without_their_manifest_are_not_used(
    scene: Path, target: Path, command: Run, break_off: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of bicubic must not end in a result of nearest, however the runs broke off."""
    break_off(scene)
    (job_of(target) / "manifest.json").unlink()

    def stop(*args: object, **kwargs: object) -> None:
        raise SceneError("Cannot go on.")

    with monkeypatch.context() as patch:
        patch.setattr("geosegsr.pipeline.job.Job.record", stop)  # the other run breaks off at its first block
        assert command(scene, "--model", "nearest").code == 1
    assert resumed(command(scene, "--model", "nearest", "--json")) <= 1
    assert file_differences(target, undisturbed(scene, target, "nearest")) == []


def test_lines_of_another_run_do_not_count(
    scene: Path, target: Path, command: Run, break_off: Callable[..., None]
) -> None:
    break_off(scene)
    others = (job_of(target) / "done.jsonl").read_bytes()
    shutil.copytree(job_of(target) / "blocks", target.with_name("blocks"))
    break_off(scene, "--no-resume", "--model", "nearest")
    (job_of(target) / "done.jsonl").write_bytes(others)
    shutil.copytree(target.with_name("blocks"), job_of(target) / "blocks", dirs_exist_ok=True)
    assert resumed(command(scene, "--model", "nearest", "--json")) == 0
    assert file_differences(target, undisturbed(scene, target, "nearest")) == []


def garbage(rng: random.Random, journal: bytes) -> bytes:
    """The journal with some of its lines changed."""
    lines = journal.splitlines()
    for _ in range(6):
        at = rng.randrange(len(lines))
        line = bytearray(lines[at] or b"x")
        line[rng.randrange(len(line))] = rng.randrange(256)
        other = (
            bytes(line),
            b"",
            b"null",
            b"[]",
            b"{}",
            b"[" * 100_000,
            b'{"seal": 7, "block": []}',
            b"\xff\xfe",
            bytes(40),
        )
        lines[at] = rng.choice(other)
    return b"\n".join(lines) + b"\n"


@pytest.mark.parametrize("seed", range(4))
def test_garbage_in_the_journal(
    seed: int, scene: Path, target: Path, command: Run, break_off: Callable[..., None]
) -> None:
    break_off(scene)
    journal = job_of(target) / "done.jsonl"
    blocks = len(journal.read_bytes().splitlines())
    journal.write_bytes(garbage(random.Random(seed), journal.read_bytes()))
    assert blocks - 6 <= resumed(command(scene, "--json")) < blocks
    assert file_differences(target, undisturbed(scene, target)) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 300, b"[]", b'{"key": 3}', b"\xff\xfe", b"[" * 100_000, b'{"version": "99.0", "key": "x"}'],
)
def test_a_manifest_that_is_damaged_or_newer(
    content: bytes, scene: Path, target: Path, command: Run, break_off: Callable[..., None]
) -> None:
    break_off(scene)
    (job_of(target) / "manifest.json").write_bytes(content)
    assert_refused(command(scene), 1, f"'{job_of(target)}'", "--no-resume")
    assert command(scene, "--no-resume").code == 0


# The source.


def swap(source: Path, other: Path) -> None:
    """Another raster of the same size and time of change under the source's name."""
    status = source.stat()
    assert other.stat().st_size == status.st_size
    source.write_bytes(other.read_bytes())
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_source_replaced_by_one_of_the_same_size_and_time(
    tmp_path: Path, target: Path, command: Run, break_off: Callable[..., None]
) -> None:
    source = factory.write_plain(tmp_path / "source.tif")
    other = factory.write_plain(tmp_path / "other.tif", seed=1)
    break_off(source)
    swap(source, other)
    assert_refused(command(source), 1, "source was", "--no-resume")
    assert not target.exists()


def test_a_raster_of_a_mosaic_replaced(
    tmp_path: Path, target: Path, command: Run, break_off: Callable[..., None]
) -> None:
    mosaic = factory.write_bandwise_nodata(tmp_path / "mosaic.tif")
    break_off(mosaic, "--nodata", 0)
    factory.write_plain(tmp_path / "mosaic.tif", count=2, seed=1)
    assert_refused(command(mosaic, "--nodata", 0), 1, "source was", "--no-resume")


def test_a_mask_beside_the_source_replaced(
    tmp_path: Path, command: Run, break_off: Callable[..., None]
) -> None:
    source = factory.write_external_mask(tmp_path / "source.tif")
    break_off(source)
    mask = source.with_name("source.tif.msk")
    mask.write_bytes(mask.read_bytes() + b"\0")
    assert_refused(command(source), 1, "source was", "--no-resume")


def test_a_source_cut_off_while_it_is_read(
    tmp_path: Path, target: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = factory.write_plain(tmp_path / "source.tif", size=(400, 300))
    honest, whole = RUN.compute_block, source.read_bytes()

    def compute_and_cut(planned: Any, forms: Any, folder: Path, run_id: str, index: int) -> Any:
        if index == 40:
            os.truncate(source, 1000)
        return honest(planned, forms, folder, run_id, index)

    with monkeypatch.context() as patch:
        patch.setattr(RUN, "compute_block", compute_and_cut)
        assert_refused(command(source), 1, f"'{source}'")
    assert not target.exists()
    source.write_bytes(whole)
    assert_refused(command(source), 1, "source was", "--no-resume")
    assert command(source, "--no-resume").code == 0


# The clock.


def test_a_clock_that_goes_backwards_and_a_source_from_the_future(
    scene: Path, target: Path, command: Run, break_off: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(scene, (4e9, 4e9))
    steps = iter(range(10_000))
    monkeypatch.setattr(time, "time", lambda: 1.7e9 - 3600.0 * next(steps))
    break_off(scene)
    assert resumed(command(scene, "--json")) > 0
    assert file_differences(target, undisturbed(scene, target)) == []


# The folder.


@pytest.mark.parametrize("stage", ["blocks", "cells", "cog", "verify"])
def test_the_folder_of_the_target_goes_away(
    stage: str, scene: Path, target: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take_away(step: Callable[..., Any]) -> Callable[..., Any]:
        def taken(*args: Any, **kwargs: Any) -> Any:
            shutil.rmtree(target.parent, ignore_errors=True)
            return step(*args, **kwargs)

        return taken

    name = {"blocks": "compute_block", "cells": "compute_cell", "cog": "write_cog", "verify": "verify_cog"}[
        stage
    ]
    with monkeypatch.context() as patch:
        patch.setattr(RUN, name, take_away(getattr(RUN, name)))
        assert_refused(command(scene), 1, str(target))
    target.parent.mkdir(exist_ok=True)
    assert command(scene).code == 0


def test_a_link_is_replaced_and_what_it_names_is_kept(scene: Path, target: Path, command: Run) -> None:
    elsewhere = target.with_name("elsewhere.tif")
    elsewhere.write_bytes(b"precious")
    target.symlink_to(elsewhere)
    assert command(scene, "--overwrite").code == 0
    assert elsewhere.read_bytes() == b"precious"
    assert not target.is_symlink()


NAMES = [
    "a b.tif",
    "é ü 日本.tif",
    "a&b<c>\"d'.tif",
    "$(touch owned).tif",
    "`touch owned`;x.tif",
    "a\nb.tif",
    "%s {0} \\n.tif",
    "a,b=c:d.tif",
    "x" * 200 + ".tif",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_names_and_nothing_else(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No shell sees them, and the XML in between takes them as they are."""
    source, target = tmp_path / "in" / name, tmp_path / "out" / name
    source.parent.mkdir()
    target.parent.mkdir()
    factory.write_nodata(source)
    outcome = run_here(capfd, "upscale", source, "-o", target, "--model", "nearest", "-q")
    assert outcome.code == 0, outcome.err
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(["in", "out", name, name])


# Memory.


def test_a_block_that_memory_cannot_hold(
    scene: Path, target: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def give_up(*args: object) -> None:
        raise np._core._exceptions._ArrayMemoryError((10**6, 10**6), np.dtype("float64"))

    with monkeypatch.context() as patch:
        patch.setattr("geosegsr.pipeline.block.render_block", give_up)
        assert_refused(command(scene), 1, "out of memory", "--block")
    assert command(scene).code == 0


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    from geosegsr.models.card import ModelCard
    from geosegsr.models.checkpoint import save_checkpoint
    from geosegsr.models.segsr.network import SeGSR, preset

    torch.manual_seed(0)
    small = {"width": 8, "depths": (1, 1), "modulation_width": 4, "tower_width": 16, "tower_layers": 1,
             "tower_heads": 2, "tower_grid": 2, "tower_output": 16, "prompt_heads": 2}  # fmt: skip
    model = SeGSR(preset("compact", scale=2, **small)).eval()
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_checkpoint(path, model, ModelCard.of(model.config, "small", tile=64, overlap=16))
    return path


@pytest.mark.parametrize(
    ("calls", "finishes"), [([0], True), ([3], True), ([2, 3, 7], True), (range(10_000), False)]
)
def test_a_device_out_of_memory_at_any_tile(
    calls: Any, finishes: bool, checkpoint: Path, tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    import torch

    from geosegsr.models.inference import TorchUpscaler

    source = factory.write_plain(tmp_path / "rgb.tif", size=(100, 120), dtype="uint8", photometric="rgb")
    model = ("--model", checkpoint, "--scale", 2, "--precision", "fp32", "-q")
    wanted = tmp_path / "wanted.tif"
    assert run_here(capfd, "upscale", source, "-o", wanted, *model).code == 0
    honest, done = TorchUpscaler._run, iter(range(10**6))

    def run(self: TorchUpscaler, *args: Any) -> Any:
        if next(done) in calls:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return honest(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(TorchUpscaler, "_run", run)
        outcome = run_here(capfd, "upscale", source, "-o", target, *model)
    if not finishes:
        assert_refused(outcome, 1, "out of memory", "--device cpu")
        assert not target.exists()
        return
    assert outcome.code == 0, outcome.err
    with rasterio.open(target) as a, rasterio.open(wanted) as b:
        assert np.abs(a.read().astype(int) - b.read().astype(int)).max() <= 12, (
            "halves of a tile see less context"
        )


# Locks.


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_is_refused(
    code: int, scene: Path, target: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock file in their place would outlive a run that was killed, and bar every later one."""
    fcntl = pytest.importorskip("fcntl")

    def missing(*args: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", missing)
    assert_refused(command(scene), 1, f"'{target}'", "has no locks", "Pass -o")
    assert not list(target.parent.iterdir())


def test_two_runs_that_no_lock_keeps_apart(
    scene: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on network drives whose locks hold on one host only: no half of one run ends in the other's result."""
    monkeypatch.setattr("geosegsr.pipeline.job_folder.JobFolder.lock", lambda self: None)
    options = {"model": "bicubic", "tile": 16, "overlap": 4, "block": 48}
    honest, others = RUN.verify_cog, iter([True])

    def verify_while_another_begins(*args: Any, **kwargs: Any) -> None:
        honest(*args, **kwargs)
        if next(others, False):
            with monkeypatch.context() as patch, pytest.raises(SceneError, match="Cannot go on"):
                patch.setattr(RUN, "verify_cog", stop)
                upscale(scene, target, **options)

    def stop(*args: object, **kwargs: object) -> None:
        raise SceneError("Cannot go on.")

    monkeypatch.setattr(RUN, "verify_cog", verify_while_another_begins)
    try:
        upscale(scene, target, **options)
    except GeoSegSRError:
        assert not target.exists()
        upscale(scene, target, **options)
    assert file_differences(target, undisturbed(scene, target)) == []
