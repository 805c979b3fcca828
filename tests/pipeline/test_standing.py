"""What exists at a target decides alike for a scene that is named as a file and one that comes with its folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import scene_factory as factory
from command_line import Outcome, run_here
from fakes import Fake
from filelock import FileLock

import geosegsr
from geosegsr.errors import JobError, SceneError
from geosegsr.pipeline.job import Job
from geosegsr.pipeline.standing import Standing, needs_run, standing
from geosegsr.pipeline.task import Request

OPTIONS = ("-s", 2, "-m", "bicubic", "--tile", 16, "--overlap", 4, "--block", 48)
LANCZOS = ("-m", "lanczos")


@dataclass
class Place:
    """A scene and its result, and how a command names them."""

    source: Path
    target: Path
    arguments: tuple[object, ...]
    is_folder: bool
    capfd: pytest.CaptureFixture[str]

    def run(self, *options: object) -> Outcome:
        return run_here(self.capfd, "upscale", *self.arguments, *OPTIONS, "--json", *options)

    def answer(self, *options: object) -> tuple[str, str]:
        """What the command says of the scene, and why: "done", "skipped", "failed", "to do" or "finished"."""
        outcome = self.run(*options)
        found = json.loads(outcome.out)
        if "--dry-run" in options:
            found = self._of_dry_run(found)
        assert outcome.code == (1 if found["status"] == "failed" else 0)
        return found["status"], found.get("error") or ""

    def _of_dry_run(self, found: dict[str, Any]) -> dict[str, Any]:
        if found.get("failures"):
            return {"status": "failed", "error": found["failures"][str(self.source)]}
        if found.get("status") == "failed":
            return found
        assert (found["memory_bytes"] == 0) is bool(found["finished"])
        return {"status": "finished" if found["finished"] else "to do"}

    def state(self) -> dict[str, tuple[int, int]]:
        """All files at the target, with inode and time of change."""
        paths = [path for path in self.target.parent.rglob("*") if path.is_file() and path.name != "lock"]
        return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


@pytest.fixture(params=["file", "folder"])
def place(request: pytest.FixtureRequest, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Place:
    (tmp_path / "in").mkdir()
    source = factory.write_plain(tmp_path / "in" / "a.tif", size=(40, 50), count=1)
    target = tmp_path / "out" / "a_x2.tif"
    target.parent.mkdir()
    is_folder = request.param == "folder"
    named = (source.parent, "-o", target.parent) if is_folder else (source, "-o", target)
    return Place(source, target, named, is_folder, capfd)


def finished(place: Place) -> None:
    assert place.answer()[0] == "done"


def interrupted(place: Place, *options: object) -> None:
    """All blocks are done, and the COG is not written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geosegsr.pipeline.run.compute_cell", _break_off)
        assert place.answer(*options)[0] == "failed"
    assert Job(place.target).begun


def _break_off(*_: object, **__: object) -> None:
    raise SceneError("Cannot write it.")


def foreign(place: Place) -> None:
    """A raster that someone else made."""
    factory.write_plain(place.target, size=(4, 5), count=1)


Before = Callable[[Place], None]
EXISTS = "it exists. Pass --overwrite"
OTHERWISE = "it exists, and was made from another source, with another model or with other options. Pass"
RESUME = "Cannot resume the unfinished run in"


@pytest.mark.parametrize(
    ("before", "options", "status", "reason"),
    [
        # The same command again.
        (finished, (), "skipped", ""),
        (finished, ("--dry-run",), "finished", ""),
        # --overwrite: a finished result of this command is no reason to work.
        (finished, ("--overwrite",), "skipped", ""),
        (finished, ("--overwrite", "--dry-run"), "finished", ""),
        (foreign, ("--overwrite",), "done", ""),
        (foreign, ("--overwrite", "--dry-run"), "to do", ""),
        # --no-resume: discards an unfinished run, and no finished one.
        (finished, ("--no-resume",), "skipped", ""),
        (finished, ("--no-resume", "--dry-run"), "finished", ""),
        (finished, ("--no-resume", "--overwrite"), "done", ""),
        (finished, ("--no-resume", "--overwrite", "--dry-run"), "to do", ""),
        # Another model.
        (finished, LANCZOS, "failed", OTHERWISE),
        (finished, (*LANCZOS, "--dry-run"), "failed", OTHERWISE),
        (finished, (*LANCZOS, "--no-resume"), "failed", OTHERWISE),
        (finished, (*LANCZOS, "--overwrite"), "done", ""),
        (finished, (*LANCZOS, "--overwrite", "--dry-run"), "to do", ""),
        (foreign, (), "failed", EXISTS),
        (foreign, ("--dry-run",), "failed", EXISTS),
        # An unfinished run.
        (interrupted, (), "done", ""),
        (interrupted, ("--dry-run",), "to do", ""),
        (interrupted, ("--overwrite",), "done", ""),
        (interrupted, ("--no-resume",), "done", ""),
        (interrupted, LANCZOS, "failed", RESUME),
        (interrupted, (*LANCZOS, "--dry-run"), "failed", RESUME),
        (interrupted, (*LANCZOS, "--overwrite"), "failed", RESUME),
        (interrupted, (*LANCZOS, "--no-resume"), "done", ""),
        (interrupted, (*LANCZOS, "--no-resume", "--dry-run"), "to do", ""),
    ],
)
def test_same_scene_as_file_and_as_folder(
    before: Before, options: tuple[object, ...], status: str, reason: str, place: Place
) -> None:
    before(place)
    state = place.state()
    found, why = place.answer(*options)
    assert found == status
    assert reason in why
    assert bool(why) is bool(reason)
    if status == "done":
        assert place.state().keys() == {str(place.target)}
        assert place.state() != state
    else:
        assert place.state() == state


def test_an_unfinished_run_is_resumed_or_discarded_alike(place: Place) -> None:
    interrupted(place)
    report = json.loads(place.run().out)
    assert (report["blocks_resumed"], report["tiles_computed"] > 0) == (report["blocks"], True)
    place.target.unlink()
    interrupted(place)
    report = json.loads(place.run("--no-resume").out)
    assert report["blocks_resumed"] == 0 and report["blocks"] > 1


def test_a_skipped_result_is_described_alike(place: Place) -> None:
    made = json.loads(place.run().out)
    again = json.loads(place.run().out)
    for key in ("path", "width", "height", "bands", "dtype", "scale", "model", "bytes"):
        assert again[key] == made[key]
    people = run_here(place.capfd, "upscale", *place.arguments, *OPTIONS)
    assert people.out == f"{place.target}: skipped, it is finished\n"


def test_what_a_dry_run_refuses_is_what_the_run_refuses(place: Place) -> None:
    def check(part: str, *options: object) -> None:
        before = place.state()
        said = [place.answer(*options, *dry) for dry in ((), ("--dry-run",))]
        assert said[0] == said[1]
        assert said[0][0] == "failed" and part in said[0][1]
        assert place.state() == before

    aside = place.target.with_name("a_x2.tif.aux.xml")
    aside.write_text("<PAMDataset/>")
    check("belongs to an earlier file of that name")
    aside.unlink()
    place.target.with_suffix(".json").write_text("{}")
    check("a file that is none is there", "--stac")
    place.target.with_suffix(".json").unlink()
    interrupted(place)
    with FileLock(Job(place.target).folder / "lock"):
        check("another run is writing it now")
    finished(place)


def test_a_dry_run_writes_nothing_and_makes_no_folder(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    source = factory.write_plain(tmp_path / "in" / "a.tif", size=(40, 50), count=1)
    outcome = run_here(
        capfd, "upscale", source, "-o", f"{tmp_path}/new/deep/", *OPTIONS, "--dry-run", "--json"
    )
    assert json.loads(outcome.out)["scenes"] == 1
    (tmp_path / "file").touch()
    outcome = run_here(
        capfd, "upscale", source, "-o", f"{tmp_path}/file/deep/", *OPTIONS, "--dry-run", "--json"
    )
    assert outcome.code == 1
    assert "is not a folder" in json.loads(outcome.out)["failures"][str(source)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "in"]


def test_the_unfinished_run_of_another_command_outlives_a_skip(place: Place) -> None:
    finished(place)
    interrupted(place, *LANCZOS, "--overwrite")
    assert place.answer()[0] == "skipped"
    assert Job(place.target).begun, "its blocks are still worth something"
    outcome = json.loads(place.run(*LANCZOS, "--overwrite").out)
    assert outcome["status"] == "done" and outcome["blocks_resumed"] == outcome["blocks"]


def test_a_result_needs_its_uncertainty(tmp_path: Path) -> None:
    """Both files are what was asked for; one of them alone is not the result."""
    source = factory.write_plain(tmp_path / "in.tif", size=(20, 24))
    image, first, second = (tmp_path / name for name in ("out.tif", "first.tif", "second.tif"))

    def request(**how: bool) -> Request:
        return Request(2, Fake(), {"ensemble": True}, **how)

    def run(uncertainty: Path, **how: bool) -> geosegsr.Report:
        return geosegsr.upscale(source, image, 2, Fake(), ensemble=True, uncertainty=uncertainty, **how)

    assert standing(request().prepare(str(source), image, first)) is Standing.ABSENT
    assert run(first).status == "done"
    assert standing(request().prepare(str(source), image, first)) is Standing.OURS
    assert run(first).status == "skipped"
    elsewhere = request().prepare(str(source), image, second)
    assert standing(elsewhere) is Standing.ANOTHERS
    with pytest.raises(JobError, match=f"Cannot write '{second}': the image .* exists already"):
        needs_run(elsewhere)
    assert run(second, overwrite=True).status == "done"
    with rasterio.open(first) as one, rasterio.open(second) as other:
        np.testing.assert_array_equal(one.read(), other.read())
    shutil.copy(source, first)
    with pytest.raises(JobError, match=f"Cannot write '{first}': it exists. .* another --uncertainty"):
        run(first)
