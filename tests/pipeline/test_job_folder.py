"""A job's folder: nothing of anybody else's is deleted, written or taken up, whatever lies under its name."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import rasterio
import scene_factory as factory
from command_line import Outcome, assert_refused, run_here
from once import once_before

import geosegsr
from geosegsr.errors import GeoSegSRError, GeoSegSRWarning, JobError, SceneError
from geosegsr.files import move_new, temporary_folder, whole_file
from geosegsr.pipeline import job_folder
from geosegsr.pipeline.job import Job
from geosegsr.raster.cog_block import block_bytes, is_block

Run = Callable[..., Outcome]
OPTIONS = ("-s", 2, "-m", "bicubic", "--tile", 16, "--overlap", 4, "--block", 48)
PRECIOUS = b"precious"
A_BLOCK = block_bytes(np.zeros((1, 4, 4), np.uint8), None, packed=False)
NEVER_OURS = [
    {"notes.txt": PRECIOUS},
    {"manifest.json": b'{"name": "a web page"}'},
    {"manifest.json": b'{"name": "a web page"}', "blocks/000000.tif": PRECIOUS},
    {"blocks/000000.tif": PRECIOUS, "blocks/000001.tif": PRECIOUS},
    {"blocks/photo.tif": PRECIOUS},
    {"lock": PRECIOUS},
    {"done.jsonl": PRECIOUS},
    {"result-final.tif": PRECIOUS},
    {"result-1a2b3c4d.tif": PRECIOUS},
    {"run-1a2b3c4d5e6f": PRECIOUS},
    {"photos/2026/a.jpg": PRECIOUS},
]


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return factory.write_plain(tmp_path / "scene.tif", size=(40, 50), count=1)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "results").mkdir()
    return tmp_path / "results" / "out.tif"


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], scene: Path, target: Path) -> Run:
    return lambda *options: run_here(capfd, "upscale", scene, "-o", target, *OPTIONS, *options)


@pytest.fixture
def unfinished(command: Run, target: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The job folder of a run whose blocks are all done."""

    def stop(*_: object, **__: object) -> None:
        raise SceneError("Cannot go on.")

    with monkeypatch.context() as patch:
        patch.setattr("geosegsr.pipeline.run.compute_cell", stop)
        assert command().code == 1
    return folder_of(target)


def folder_of(target: Path) -> Path:
    return target.with_name(target.name + ".geosegsr")


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def tree(folder: Path) -> dict[str, object]:
    """Everything in a folder, with what it holds."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        held = path.readlink() if path.is_symlink() else None if path.is_dir() else path.read_bytes()
        found[str(path.relative_to(folder))] = held
    return found


def resumed(outcome: Outcome) -> int:
    assert outcome.code == 0, outcome.err
    return int(json.loads(outcome.out)["blocks_resumed"])


# What is no job's folder.

WAYS = [(), ("--overwrite", "--no-resume"), ("--dry-run",)]


@pytest.mark.parametrize("options", WAYS, ids=" ".join)
@pytest.mark.parametrize("files", NEVER_OURS, ids=lambda files: " ".join(files))
def test_a_foreign_folder_is_refused_and_untouched(
    files: dict[str, bytes], options: tuple[str, ...], target: Path, command: Run
) -> None:
    fill(folder_of(target), files)
    before = tree(target.parent)
    assert_refused(command(*options), 1, f"'{folder_of(target)}'", "elsewhere, or pass another -o")
    assert tree(target.parent) == before


@pytest.mark.parametrize("options", WAYS, ids=" ".join)
@pytest.mark.parametrize("to", ["a folder", "a job", "nothing", "a file", "an empty folder"])
def test_a_link_is_refused_and_what_it_leads_to_untouched(
    to: str, options: tuple[str, ...], tmp_path: Path, target: Path, command: Run, unfinished: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    if to == "a job":
        unfinished.rename(elsewhere)
    elif to == "a file":
        elsewhere.write_bytes(PRECIOUS)
    elif to != "nothing":
        fill(elsewhere, {"notes.txt": PRECIOUS} if to == "a folder" else {}).mkdir(exist_ok=True)
    for old in () if to == "a job" else (unfinished,):
        old.rename(tmp_path / "old")
    unfinished.symlink_to(elsewhere)
    before = tree(tmp_path)
    assert_refused(command(*options), 1, f"'{unfinished}'", "is a symbolic link", "another -o")
    assert tree(tmp_path) == before


def test_a_file_under_the_folders_name_is_refused(target: Path, command: Run) -> None:
    folder_of(target).write_bytes(PRECIOUS)
    assert_refused(command("--no-resume"), 1, f"'{folder_of(target)}'", "it is no folder")
    assert folder_of(target).read_bytes() == PRECIOUS


@pytest.mark.parametrize(
    "name", ["holiday.jpg", "blocks/holiday.tif", "blocks/deep/x", "result-final.tif", "deep/x"]
)
@pytest.mark.parametrize("options", WAYS, ids=" ".join)
def test_a_foreign_file_in_a_job_folder_is_kept(
    name: str, options: tuple[str, ...], target: Path, command: Run, unfinished: Path
) -> None:
    fill(unfinished, {name: PRECIOUS})
    before = tree(target.parent)
    assert_refused(
        command(*options), 1, f"'{unfinished}'", f"'{name.removesuffix('/x')}'", "Move it elsewhere"
    )
    assert tree(target.parent) == before


def test_a_foreign_file_once_moved_is_no_obstacle(command: Run, unfinished: Path, tmp_path: Path) -> None:
    fill(unfinished, {"holiday.jpg": PRECIOUS})
    assert command().code == 1
    (unfinished / "holiday.jpg").rename(tmp_path / "holiday.jpg")
    assert resumed(command("--json")) > 1
    assert not unfinished.exists()


@pytest.mark.parametrize("name", ["blocks", "manifest.json", "done.jsonl", "blocks/000000.tif"])
def test_a_link_in_a_job_folder_is_not_followed(
    name: str, tmp_path: Path, command: Run, unfinished: Path
) -> None:
    (unfinished / name).rename(tmp_path / "moved")
    (unfinished / name).symlink_to(tmp_path / "moved")
    before = tree(tmp_path)
    assert_refused(command("--no-resume"), 1, f"'{unfinished}'", f"'{name}'")
    assert tree(tmp_path) == before


def test_a_finished_result_needs_no_folder(target: Path, command: Run) -> None:
    """What lies under the folder's name does not matter where there is nothing to do."""
    assert command().code == 0
    fill(folder_of(target), {"notes.txt": PRECIOUS})
    before = tree(target.parent)
    for options in ((), ("--dry-run",)):
        assert command(*options).code == 0
    assert tree(target.parent) == before
    assert_refused(command("--overwrite", "--no-resume"), 1, f"'{folder_of(target)}'")
    assert tree(target.parent) == before


@pytest.mark.parametrize("files", [{}, {"lock": b""}, {"manifest.json.1a2b3c4d.part": b"{"}])
def test_what_a_run_leaves_that_ended_at_its_start_is_used(
    files: dict[str, bytes], target: Path, command: Run
) -> None:
    fill(folder_of(target), files).mkdir(exist_ok=True)
    assert command().code == 0
    assert not folder_of(target).exists()


def test_a_file_put_into_the_folder_during_the_run_is_kept(
    scene: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Job.record

    def put(job: Job, block: object) -> None:
        fill(job.folder, {"notes.txt": PRECIOUS, "blocks/notes.txt": PRECIOUS})
        record(job, block)  # type: ignore[arg-type]

    monkeypatch.setattr(Job, "record", put)
    with pytest.warns(
        GeoSegSRWarning, match="is kept: it holds 'blocks/notes.txt', 'notes.txt', which no run"
    ):
        geosegsr.upscale(scene, target, 2, "nearest")
    assert tree(folder_of(target)) == {
        "blocks": None,
        "blocks/notes.txt": PRECIOUS,
        "notes.txt": PRECIOUS,
    }


# Forged blocks.


def forge(folder: Path) -> bytes:
    """Other pixels for a block, with a checksum in the journal and the seal of the run."""
    block = folder / "blocks" / "000000.tif"
    with rasterio.open(block) as source:
        pixels = np.full_like(source.read(), 77)
    forged = block_bytes(pixels, None, packed=False)
    block.write_bytes(forged)
    key = json.loads((folder / "manifest.json").read_text())["key"]
    lines = []
    for line in (folder / "done.jsonl").read_text().splitlines():
        text = json.loads(line)["block"]
        entry = json.loads(text)
        if entry["index"] == 0:
            entry["files"]["image"] |= {"size": len(forged), "sha256": hashlib.sha256(forged).hexdigest()}
            text = json.dumps(entry)
        seal = hashlib.sha256(f"{key}\n{text}".encode()).hexdigest()[:16]
        lines.append(json.dumps({"seal": seal, "block": text}))
    (folder / "done.jsonl").write_text("\n".join(lines) + "\n")
    return forged


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o702, 0o1777])
def test_blocks_that_others_could_have_forged_are_not_taken_up(
    mode: int, target: Path, command: Run, unfinished: Path
) -> None:
    forge(unfinished)
    unfinished.chmod(mode)
    before = tree(target.parent)
    assert_refused(command(), 1, f"'{unfinished}'", f"mode {mode:o}", f"chmod 700 '{unfinished}'")
    assert tree(target.parent) == before and not target.exists()


def test_typing_what_the_message_says_helps(command: Run, unfinished: Path) -> None:
    unfinished.chmod(0o775)
    assert command().code == 1
    unfinished.chmod(0o700)
    assert resumed(command("--json")) > 1


@pytest.mark.parametrize("name", ["blocks", "done.jsonl", "blocks/000000.tif", "manifest.json"])
def test_a_folder_that_others_may_enter_holds_nothing_that_they_may_write(
    name: str, command: Run, unfinished: Path
) -> None:
    unfinished.chmod(0o755)
    (unfinished / name).chmod(0o777)
    assert_refused(command(), 1, f"'{unfinished}'", f"'{name}'")
    (unfinished / name).chmod(0o755)
    assert resumed(command("--json")) > 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("options", WAYS, ids=" ".join)
def test_the_folder_of_another_user_is_refused(
    options: tuple[str, ...], target: Path, command: Run, unfinished: Path
) -> None:
    forge(unfinished)
    for path in (unfinished, *unfinished.rglob("*")):
        os.chown(path, 12345, 12345)
    before = tree(target.parent)
    assert_refused(command(*options), 1, f"'{unfinished}'", "another user, number 12345", "another -o")
    assert tree(target.parent) == before and not target.exists()


def test_a_file_system_that_gives_all_files_one_owner(
    command: Run, unfinished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As network drives do: a new folder there belongs to somebody else, too."""
    honest = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: honest + 1)
    assert resumed(command("--json")) > 1


def test_a_job_folder_is_its_owners_alone(target: Path) -> None:
    with Job(target) as job:
        assert job.folder.stat().st_mode & 0o777 == 0o700


def test_a_block_swapped_before_the_cog_is_noticed(
    scene: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geosegsr.pipeline import run

    step = once_before(run.compute_cell, lambda: forge(folder_of(target)))
    monkeypatch.setattr(run, "compute_cell", step)
    with pytest.raises(GeoSegSRError, match="are not those computed") as refused:
        geosegsr.upscale(scene, target, 2, "bicubic", tile=16, overlap=4, block=48)
    assert str(folder_of(target)) in str(refused.value) and "/proc/" not in str(refused.value)
    assert not target.exists()


@pytest.mark.parametrize("name", ["blocks/000000.tif", "blocks"])
def test_a_worker_writes_over_blocks_only(name: str, tmp_path: Path) -> None:
    """Also in a folder of the same user that was moved to the name."""
    folder = fill(tmp_path / "folder", {"elsewhere/000000.tif": A_BLOCK, "blocks/000000.tif": PRECIOUS})
    if name == "blocks":
        (folder / "blocks").rename(folder / "moved")
        (folder / "blocks").symlink_to(folder / "elsewhere")
    before = tree(folder)
    with pytest.raises(JobError, match=r"'blocks/000000\.tif' in it is no block"):
        write_a_block(folder)
    assert tree(folder) == before


def test_a_damaged_block_is_written_anew(command: Run, unfinished: Path) -> None:
    (unfinished / "blocks" / "000000.tif").write_bytes(b"")
    outcome = command("--json")
    assert resumed(outcome) > 1
    assert "block 0 of the earlier run is missing or damaged" in outcome.err


# Races.


class Swapper(threading.Thread):
    """Puts a link in place of the folder, and takes it away again, as fast as it can."""

    def __init__(self, folder: Path, precious: Path, times: int) -> None:
        super().__init__(daemon=True)
        self.folder, self.precious, self.times = folder, precious, times
        self.swapped = 0

    def run(self) -> None:
        away = self.folder.with_name("away")
        while self.swapped < self.times:
            with suppress(OSError):
                self.folder.rename(away)
            with suppress(OSError):
                self.folder.symlink_to(self.precious)
                self.swapped += 1
            with suppress(OSError):
                self.folder.unlink()
            with suppress(OSError):
                away.rename(self.folder)


def write_a_block(folder: Path) -> None:
    """As a worker does."""
    job_folder.write_block(folder, 0, job_folder.IMAGE, A_BLOCK)


@pytest.mark.parametrize("manifest", [False, True])
def test_a_folder_swapped_for_a_link_at_any_moment(manifest: bool, tmp_path: Path, target: Path) -> None:
    """The link leads to files with the very names of a job's; none is deleted, written, or added to."""
    names = [
        "lock",
        "done.jsonl",
        "blocks/000000.tif",
        "blocks/result.vrt",
        "result-1a2b3c4d.tif",
        "notes.txt",
    ]
    precious = fill(tmp_path / "precious", dict.fromkeys(names, PRECIOUS))
    if manifest:
        identity = {"of": "another run"}
        text = json.dumps({**identity, "key": job_folder.job_key(identity)})
        fill(precious, {"manifest.json": text.encode()})
    before = tree(precious)
    swapper = Swapper(folder_of(target), precious, 1000)
    swapper.start()
    while swapper.is_alive():
        with suppress(GeoSegSRError, OSError), Job(target) as job:
            job.start({"of": "a test"}, resume=False)
            with suppress(GeoSegSRError, OSError):
                write_a_block(job.folder)
            job.remove()
    swapper.join()
    assert swapper.swapped == 1000
    assert tree(precious) == before
    assert {path.name for path in target.parent.iterdir()} <= {"out.tif.geosegsr", "away"}


@pytest.mark.parametrize("stage", ["blocks", "cells", "cog", "verify", "commit"])
def test_a_folder_swapped_during_a_run(
    stage: str, tmp_path: Path, scene: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geosegsr.pipeline import run

    precious = fill(tmp_path / "precious", {"notes.txt": PRECIOUS, "blocks/000000.tif": PRECIOUS})
    before = tree(precious)
    owner: object = Job if stage == "commit" else run
    name = {
        "blocks": "compute_block",
        "cells": "compute_cell",
        "cog": "write_cog",
        "verify": "verify_cog",
    }.get(stage, stage)

    def swap() -> None:
        folder_of(target).rename(tmp_path / "away")
        folder_of(target).symlink_to(precious)

    monkeypatch.setattr(owner, name, once_before(getattr(owner, name), swap))
    with pytest.raises(
        GeoSegSRError, match=r"symbolic link|was moved or replaced|Cannot read the finished block"
    ):
        geosegsr.upscale(scene, target, 2, "bicubic", tile=16, overlap=4, block=48)
    assert tree(precious) == before and not target.exists()


# The target.


def appearing(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a file of somebody else appear at the target just before the result is moved there."""
    commit = Job.commit

    def late(job: Job, *args: object) -> None:
        target.write_bytes(PRECIOUS)
        commit(job, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Job, "commit", late)


def test_a_file_that_appears_during_the_run_is_not_replaced(
    target: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        appearing(target, patch)
        assert_refused(command(), 1, f"'{target}'", "has appeared since the run began", "--overwrite")
    assert target.read_bytes() == PRECIOUS
    assert_refused(command(), 1, f"'{target}'", "it exists")
    assert resumed(command("--overwrite", "--json")) > 1


def test_a_file_that_appears_is_replaced_where_that_was_asked_for(
    target: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    appearing(target, monkeypatch)
    assert command("--overwrite").code == 0
    assert rasterio.open(target).width == 100


@pytest.mark.parametrize("to", ["nothing", "a file"])
def test_a_link_at_the_target_is_only_replaced_if_asked_for(
    to: str, tmp_path: Path, target: Path, command: Run
) -> None:
    if to == "a file":
        (tmp_path / "elsewhere").write_bytes(PRECIOUS)
    target.symlink_to(tmp_path / "elsewhere")
    assert_refused(command(), 1, f"'{target}'", "it exists", "--overwrite")
    assert target.is_symlink()
    assert command("--overwrite").code == 0
    assert not target.is_symlink()


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_moves_to_a_free_name_only(
    has_links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not has_links:
        monkeypatch.setattr(os, "link", refuse)
    fill(tmp_path, {"part": b"new", "taken": PRECIOUS})
    with pytest.raises(FileExistsError):
        move_new(tmp_path / "part", tmp_path / "taken")
    assert tree(tmp_path) == {"part": b"new", "taken": PRECIOUS}
    move_new(tmp_path / "part", tmp_path / "free")
    assert tree(tmp_path) == {"free": b"new", "taken": PRECIOUS}


def test_a_temporary_name_that_is_taken_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fixed:
        hex = "1a2b3c4d5e6f"

    monkeypatch.setattr("geosegsr.files.uuid.uuid4", Fixed)
    fill(tmp_path, {"x.1a2b3c4d.part": PRECIOUS})
    with pytest.raises(FileExistsError), whole_file(tmp_path / "x"):
        pass
    assert tree(tmp_path) == {"x.1a2b3c4d.part": PRECIOUS}


@pytest.mark.parametrize("swapped", ["for a link", "for a folder", "no"])
def test_a_temporary_folder_beside_the_results_deletes_what_it_held(
    swapped: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> str:
        raise FileNotFoundError

    precious = fill(tmp_path / "precious", {"notes.txt": PRECIOUS, "deep/notes.txt": PRECIOUS})
    beside = fill(tmp_path / "results", {"out.tif": PRECIOUS})
    before = tree(precious)
    monkeypatch.setattr("geosegsr.files.tempfile.gettempdir", missing)
    monkeypatch.setenv("TMPDIR", "/nowhere")
    with temporary_folder(beside):
        folder = fill(Path(os.environ["TMPDIR"]), {"a/b": b"temporary", "c": b"temporary"})
        (folder / "link").symlink_to(precious)
        if swapped != "no":
            folder.rename(tmp_path / "away")
        if swapped == "for a link":
            folder.symlink_to(precious)
        elif swapped == "for a folder":
            precious = precious.rename(folder)
    assert os.environ["TMPDIR"] == "/nowhere"
    assert tree(precious) == before
    assert not list((tmp_path / "away").glob("*"))
    assert swapped != "no" or tree(beside) == {"out.tif": PRECIOUS}


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("side", [1, 16, 600])
@pytest.mark.parametrize("bands", [1, 4])
def test_a_block_is_recognised(packed: bool, side: int, bands: int, tmp_path: Path) -> None:
    pixels = np.zeros((bands, side, side + 3), np.uint16)
    mask = np.ones(pixels.shape[1:], bool)
    block = fill(tmp_path, {"block": block_bytes(pixels, mask, packed=packed)}) / "block"
    assert is_block(block)
    assert not is_block(factory.write_plain(tmp_path / "other.tif"))
    assert not is_block(tmp_path / "absent")


def test_job_errors_are_job_errors(target: Path) -> None:
    fill(folder_of(target), {"notes.txt": PRECIOUS})
    with pytest.raises(JobError, match=r"it holds 'notes\.txt', which no run wrote"), Job(target):
        pass
