"""A run that is killed, interrupted or damaged goes on, and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import rasterio
import scene_factory as factory
from command_line import PATIENCE_S, Outcome, assert_refused, finish, run, run_here, start
from filelock import FileLock
from metadata_oracle import metadata_differences

import geosegsr
from geosegsr.errors import SceneError

RUN = import_module("geosegsr.pipeline.run")
"""Where tests replace the steps of a run."""
MANY_BLOCKS = ("--model", "bicubic", "--tile", 16, "--overlap", 4, "--block", 48)
"""Some 250 blocks of the scene below."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return factory.write_nodata(tmp_path_factory.mktemp("scene") / "scene.tif", size=(180, 200))


@pytest.fixture(scope="module")
def small_scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty blocks."""
    return factory.write_nodata(tmp_path_factory.mktemp("scene") / "small.tif")


@pytest.fixture(scope="module")
def undisturbed(
    scene: Path, small_scene: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Path], Path]:
    """The result of a run that nothing happened to, by its source."""
    folder = tmp_path_factory.mktemp("undisturbed")
    results = {}
    for source in (scene, small_scene):
        results[source] = folder / source.name
        outcome = run("upscale", source, "-o", results[source], *MANY_BLOCKS)
        assert outcome.code == 0, outcome.err
    return results.__getitem__


def job_of(target: Path) -> Path:
    return target.with_name(target.name + ".geosegsr")


def wait_for_blocks(process: subprocess.Popen[str], target: Path, count: int) -> None:
    """Return once a running command has finished that many blocks."""
    journal = job_of(target) / "done.jsonl"
    deadline = time.monotonic() + PATIENCE_S
    while not journal.exists() or journal.read_bytes().count(b"\n") < count:
        assert process.poll() is None, f"ended before {count} blocks: {process.communicate()}"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def same_command_again(source: Path, target: Path, *options: object) -> dict[str, object]:
    outcome = run("upscale", source, "-o", target, *MANY_BLOCKS, "--json", *options)
    assert outcome.code == 0, outcome.err
    report: dict[str, object] = json.loads(outcome.out)
    return report


def assert_equal_files(found: Path, wanted: Path, source: Path) -> None:
    """Same pixels, validity and metadata; and the metadata are those that the source asks for."""
    with rasterio.open(found) as a, rasterio.open(wanted) as b:
        assert np.array_equal(a.read(), b.read())
        assert np.array_equal(a.read_masks(), b.read_masks())
        assert a.profile == b.profile
        assert a.tags() == b.tags()
    assert metadata_differences(source, found, 4) == []
    assert not job_of(found).exists()


@pytest.mark.parametrize("blocks", [1, 120])
def test_killed_and_resumed(
    blocks: int, scene: Path, undisturbed: Callable[[Path], Path], tmp_path: Path
) -> None:
    target = tmp_path / "out.tif"
    process = start("upscale", scene, "-o", target, *MANY_BLOCKS)
    wait_for_blocks(process, target, blocks)
    process.kill()
    assert finish(process).code == -signal.SIGKILL
    assert not target.exists()

    report = same_command_again(scene, target)
    assert blocks <= int(str(report["blocks_resumed"])) < int(str(report["blocks"]))
    assert_equal_files(target, undisturbed(scene), scene)


def test_killed_again_and_again(scene: Path, undisturbed: Callable[[Path], Path], tmp_path: Path) -> None:
    target = tmp_path / "out.tif"
    for blocks in (20, 80, 140):
        process = start("upscale", scene, "-o", target, *MANY_BLOCKS)
        wait_for_blocks(process, target, blocks)
        process.kill()
        finish(process)
    report = same_command_again(scene, target)
    assert int(str(report["blocks_resumed"])) >= 140
    assert_equal_files(target, undisturbed(scene), scene)


@pytest.mark.parametrize(
    ("number", "workers"),
    [(signal.SIGINT, ()), (signal.SIGTERM, ()), (signal.SIGINT, ("--workers", 1))],
    ids=["INT", "TERM", "INT with workers"],
)
def test_interrupted(
    number: signal.Signals,
    workers: tuple[object, ...],
    scene: Path,
    undisturbed: Callable[[Path], Path],
    tmp_path: Path,
) -> None:
    target = tmp_path / "out.tif"
    process = start("upscale", scene, "-o", target, *MANY_BLOCKS, *workers)
    wait_for_blocks(process, target, 20)
    process.send_signal(number)
    outcome = finish(process)
    assert outcome.code == 130
    assert [line for line in outcome.said if line] == ["Interrupted."]
    assert not target.exists()

    assert int(str(same_command_again(scene, target)["blocks_resumed"])) >= 20
    assert_equal_files(target, undisturbed(scene), scene)


@pytest.fixture
def unfinished(
    small_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Path:
    """The target of a run of the small scene that broke off with all blocks done."""
    target = tmp_path / "out.tif"
    with monkeypatch.context() as patch:
        patch.setattr(RUN, "compute_cell", interrupt)
        outcome = upscale(capfd, small_scene, target)
    assert outcome.code == 1
    assert not target.exists()
    return target


def interrupt(*args: object, **kwargs: object) -> None:
    raise SceneError("Cannot go on.")


def upscale(capfd: pytest.CaptureFixture[str], source: Path, target: Path, *options: object) -> Outcome:
    return run_here(capfd, "upscale", source, "-o", target, *MANY_BLOCKS, "--json", *options)


def resumed(outcome: Outcome) -> int:
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    return int(report["blocks_resumed"]) - int(report["blocks"])


def drop(block: Path) -> None:
    block.unlink()


def truncate(block: Path) -> None:
    block.write_bytes(block.read_bytes()[:-10])


def empty(block: Path) -> None:
    block.write_bytes(b"")


def damage(block: Path) -> None:
    content = bytearray(block.read_bytes())
    content[len(content) // 2] ^= 255
    block.write_bytes(content)


def grow(block: Path) -> None:
    block.write_bytes(block.read_bytes() + b"more")


@pytest.mark.parametrize("harm", [drop, truncate, empty, damage, grow])
def test_a_harmed_block_is_computed_again(
    harm: Callable[[Path], None],
    unfinished: Path,
    small_scene: Path,
    undisturbed: Callable[[Path], Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    harm(job_of(unfinished) / "blocks" / "000003.tif")
    outcome = upscale(capfd, small_scene, unfinished)
    assert resumed(outcome) == -1
    assert outcome.warned == [
        "Warning: block 3 of the earlier run is missing or damaged, and is computed again."
    ]
    assert_equal_files(unfinished, undisturbed(small_scene), small_scene)


def tear(journal: Path) -> None:
    journal.write_bytes(journal.read_bytes()[:-40])


def cut_inside_a_character(journal: Path) -> None:
    journal.write_bytes(journal.read_bytes().rstrip(b"\n")[:-1] + b"\xc3")


def lose_the_line_break(journal: Path) -> None:
    journal.write_bytes(journal.read_bytes().rstrip(b"\n"))


def fill_with_zeros(journal: Path) -> None:
    """As some file systems leave a file after a power cut."""
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]) + bytes(len(lines[-1])))


@pytest.mark.parametrize(
    ("harm", "lost"),
    [
        (tear, 1),
        (cut_inside_a_character, 1),
        (lose_the_line_break, 0),
        (fill_with_zeros, 1),
        (Path.unlink, None),
    ],
)
def test_a_torn_journal(
    harm: Callable[[Path], None],
    lost: int | None,
    unfinished: Path,
    small_scene: Path,
    undisturbed: Callable[[Path], Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    journal = job_of(unfinished) / "done.jsonl"
    blocks = len(journal.read_bytes().splitlines())
    harm(journal)
    assert resumed(upscale(capfd, small_scene, unfinished)) == -(blocks if lost is None else lost)
    assert_equal_files(unfinished, undisturbed(small_scene), small_scene)


def test_half_written_files_of_a_killed_run_do_no_harm(
    unfinished: Path,
    small_scene: Path,
    undisturbed: Callable[[Path], Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    job = job_of(unfinished)
    (job / "blocks" / "000001.tif.4711.part").write_bytes(b"half")
    (job / "result.tif").write_bytes(b"half")
    (job / "result.tif.ovr.tmp").write_bytes(b"half")
    assert resumed(upscale(capfd, small_scene, unfinished)) == 0
    assert_equal_files(unfinished, undisturbed(small_scene), small_scene)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--scale", 2), "scale was 4, now 2"),
        (("--model", "nearest"), "model was"),
        (("--bands", "1,2"), "bands was"),
        (("--nodata", 7), 'nodata was "0.0", now "7.0"'),
        (("--window", 0, 0, 30, 30), "window was"),
        (("--overlap", 6), "overlap was [4, 4], now [6, 6]"),
        (("--block", 96), "block was [12, 0], now [24, 0]"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_other_options_on_an_old_job_are_refused(
    options: tuple[object, ...],
    part: str,
    unfinished: Path,
    small_scene: Path,
    undisturbed: Callable[[Path], Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    outcome = upscale(capfd, small_scene, unfinished, *options)
    assert_refused(outcome, 1, f"'{job_of(unfinished)}'", part, "--no-resume")
    assert not unfinished.exists()
    assert resumed(upscale(capfd, small_scene, unfinished)) == 0, "the old job must have stayed whole"
    assert_equal_files(unfinished, undisturbed(small_scene), small_scene)


def test_a_damaged_manifest_is_refused(
    unfinished: Path, small_scene: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (job_of(unfinished) / "manifest.json").write_text("{")
    outcome = upscale(capfd, small_scene, unfinished)
    assert_refused(outcome, 1, f"'{job_of(unfinished)}'", "its manifest is damaged", "--no-resume")


def test_what_decides_no_pixel_may_change(
    unfinished: Path, small_scene: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert resumed(upscale(capfd, small_scene, unfinished, "--co", "BIGTIFF=YES", "--workers", 1)) == 0


def test_no_resume_starts_anew(
    unfinished: Path,
    small_scene: Path,
    undisturbed: Callable[[Path], Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    blocks = len((job_of(unfinished) / "done.jsonl").read_bytes().splitlines())
    assert resumed(upscale(capfd, small_scene, unfinished, "--no-resume")) == -blocks
    assert_equal_files(unfinished, undisturbed(small_scene), small_scene)


def test_no_resume_discards_a_job_of_other_options(
    unfinished: Path, small_scene: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert upscale(capfd, small_scene, unfinished, "--no-resume", "--scale", 2).code == 0
    with rasterio.open(unfinished) as result:
        assert result.shape == (2 * factory.SIZE[0], 2 * factory.SIZE[1])
    assert not job_of(unfinished).exists()


def test_a_source_that_changed_between_the_runs(
    small_scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "source.tif", tmp_path / "out.tif"
    shutil.copy(small_scene, source)
    with monkeypatch.context() as patch:
        patch.setattr(RUN, "compute_cell", interrupt)
        upscale(capfd, source, target)
    factory.write_nodata(source, seed=1)
    assert_refused(upscale(capfd, source, target), 1, f"'{job_of(target)}'", "source was", "--no-resume")
    assert not target.exists()
    assert upscale(capfd, source, target, "--no-resume").code == 0


def test_a_source_that_changes_during_the_run(
    small_scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "source.tif", tmp_path / "out.tif"
    shutil.copy(small_scene, source)
    honest = RUN.compute_block

    def compute_and_touch(planned: object, folder: Path, *args: object) -> object:
        os.utime(source, ns=(1, time.time_ns()))
        return honest(planned, folder, *args)

    monkeypatch.setattr(RUN, "compute_block", compute_and_touch)
    assert_refused(upscale(capfd, source, target), 1, f"'{source}' changed while it was read", "--no-resume")
    assert not target.exists()


def test_a_second_run_is_locked_out(
    unfinished: Path, small_scene: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with FileLock(job_of(unfinished) / "lock"):
        for options in ((), ("--overwrite",), ("--no-resume",)):
            outcome = upscale(capfd, small_scene, unfinished, *options)
            assert_refused(outcome, 1, f"'{unfinished}'", "another run is writing it now", "another -o")
    assert resumed(upscale(capfd, small_scene, unfinished)) == 0, "the first run's job must have stayed whole"


def test_two_processes_at_once(scene: Path, undisturbed: Callable[[Path], Path], tmp_path: Path) -> None:
    target = tmp_path / "out.tif"
    first = start("upscale", scene, "-o", target, *MANY_BLOCKS)
    wait_for_blocks(first, target, 10)
    first.send_signal(signal.SIGSTOP)  # so that it surely still runs when the second one looks
    try:
        second = run("upscale", scene, "-o", target, *MANY_BLOCKS)
    finally:
        first.send_signal(signal.SIGCONT)
    assert_refused(second, 1, f"'{target}'", "another run is writing it now")
    assert finish(first).code == 0
    assert_equal_files(target, undisturbed(scene), scene)


@pytest.fixture
def in_place(
    small_scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A result whose run was killed before it cleared its job away."""
    target = tmp_path / "out.tif"
    with monkeypatch.context() as patch:
        patch.setattr("geosegsr.pipeline.job.Job.remove", lambda self: None)
        assert upscale(capfd, small_scene, target).code == 0
    assert (job_of(target) / "manifest.json").read_text()
    return target


@pytest.mark.parametrize("options", [(), ("--overwrite",), ("--no-resume", "--overwrite")])
def test_killed_after_the_rename(
    options: tuple[object, ...],
    in_place: Path,
    small_scene: Path,
    undisturbed: Callable[[Path], Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    outcome = upscale(capfd, small_scene, in_place, *options)
    assert outcome.code == 0
    assert outcome.said == []
    assert_equal_files(in_place, undisturbed(small_scene), small_scene)


@pytest.mark.parametrize(
    "left", [("manifest.json",), ("manifest.json", "blocks"), ("blocks",), ("lock",), ()]
)
def test_killed_while_the_job_was_cleared_away(
    left: tuple[str, ...],
    in_place: Path,
    small_scene: Path,
    undisturbed: Callable[[Path], Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    for entry in job_of(in_place).iterdir():
        if entry.name not in left:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    assert upscale(capfd, small_scene, in_place).code == 0
    assert_equal_files(in_place, undisturbed(small_scene), small_scene)
    assert list(in_place.parent.iterdir()) == [in_place]
    before = in_place.stat()
    assert upscale(capfd, small_scene, in_place).code == 0  # stopped after all was done, or given twice
    assert in_place.stat() == before


def test_interrupted_while_the_job_is_cleared_away(
    small_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.tif"
    with monkeypatch.context() as patch:

        def interrupted(*_: object, **__: object) -> None:
            patch.undo()
            raise KeyboardInterrupt

        patch.setattr(Path, "rmdir", interrupted)
        with pytest.raises(KeyboardInterrupt):
            geosegsr.upscale(small_scene, target, 2, "nearest")
    made = target.read_bytes()
    geosegsr.upscale(small_scene, target, 2, "nearest")
    assert target.read_bytes() == made
    assert list(tmp_path.iterdir()) == [target]


def test_an_old_target_does_not_pass_for_a_result_that_never_replaced_it(
    small_scene: Path,
    undisturbed: Callable[[Path], Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """First the result could not be moved into place, then it could not even be written again."""

    def refused(*_: object, **__: object) -> None:
        raise SceneError("Cannot write it.")

    target, replace = tmp_path / "out.tif", os.replace
    assert upscale(capfd, small_scene, target, "--model", "nearest").code == 0
    for module, name, instead in (
        (os, "replace", lambda old, new: refused() if Path(new) == target else replace(old, new)),
        (RUN, "write_cog", refused),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, instead)
            assert upscale(capfd, small_scene, target, "--overwrite").code == 1
    assert upscale(capfd, small_scene, target, "--overwrite").code == 0
    assert_equal_files(target, undisturbed(small_scene), small_scene)


def test_a_finished_job_of_other_options_does_not_stand_in_for_this_one(
    in_place: Path, small_scene: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = in_place.read_bytes()
    assert_refused(upscale(capfd, small_scene, in_place, "--scale", 2), 1, f"'{in_place}'", "--overwrite")
    assert in_place.read_bytes() == before
