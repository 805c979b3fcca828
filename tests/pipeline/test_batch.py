"""Many scenes in one call: each as if it were alone, none in the way of another, nothing done twice."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import scene_factory as factory
from command_line import PATIENCE_S, Outcome, assert_refused, finish, run_here, run_in_shell, start

import geosegsr
from geosegsr.errors import Cancelled, ConfigError, JobError, SceneError
from geosegsr.models import catalogue
from geosegsr.pipeline import batch
from geosegsr.pipeline.scene_list import find_scenes, name_results
from geosegsr.pipeline.task import Request, Task
from geosegsr.pipeline.turns import Turns

NAMES = ("a.tif", "b c.tif", "früh—雪.tif", "d.TIFF", "e.tif")
OPTIONS = ("-s", 2, "-m", "bicubic", "--tile", 16, "--overlap", 4, "--block", 48)
"""Several blocks a scene."""
SAME_OPTIONS = {"tile": 16, "overlap": 4, "block": 48}


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of scenes, and of files that are none."""
    folder = tmp_path_factory.mktemp("originals")
    for number, name in enumerate(NAMES):
        factory.write_scene(folder / name, factory.pixels(2, (30 + number, 40), "uint8", number))
    (folder / "readme.txt").write_text("no raster")
    (folder / "a.tif.aux.xml").write_text("<PAMDataset/>")
    (folder / ".hidden.tif").write_text("no raster")
    (folder / "folder.tif").mkdir()
    return folder


@pytest.fixture(scope="module")
def alone(originals: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result of each scene in a run of its own."""
    folder = tmp_path_factory.mktemp("alone")
    for name in NAMES:
        geosegsr.upscale(originals / name, folder / result(name), 2, "bicubic", **SAME_OPTIONS)
    return folder


@pytest.fixture
def scenes(originals: Path, tmp_path: Path) -> Path:
    """A copy of the folder, to change things in."""
    return Path(shutil.copytree(originals, tmp_path / "scenes"))


@pytest.fixture
def upscale(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    def call(*args: object) -> Outcome:
        return run_here(capfd, "upscale", *args, *OPTIONS)

    return call


def result(name: str) -> str:
    return f"{Path(name).stem}_x2.tif"


def lines(outcome: Outcome) -> dict[str, dict[str, Any]]:
    """What --json said of each scene, by the file's name."""
    found = [json.loads(line) for line in outcome.out.splitlines()]
    assert len({item["source"] for item in found}) == len(found)
    return {Path(item["source"]).name: item for item in found}


def statuses(outcome: Outcome) -> dict[str, str]:
    return {name: item["status"] for name, item in lines(outcome).items()}


def all_are(status: str, names: Sequence[str] = NAMES) -> dict[str, str]:
    return dict.fromkeys(names, status)


def assert_same(found: Path, wanted: Path) -> None:
    with rasterio.open(found) as a, rasterio.open(wanted) as b:
        assert np.array_equal(a.read(), b.read())
        assert np.array_equal(a.read_masks(), b.read_masks())
        assert a.profile == b.profile


# What comes out.


def test_each_scene_comes_out_as_if_it_were_alone(
    scenes: Path, alone: Path, tmp_path: Path, upscale: Callable[..., Outcome]
) -> None:
    out = tmp_path / "out"
    outcome = upscale(scenes, "-o", f"{out}/", "--json")
    assert outcome.code == 0, outcome.err
    assert statuses(outcome) == all_are("done")
    assert sorted(path.name for path in out.iterdir()) == sorted(map(result, NAMES))
    for name, item in lines(outcome).items():
        target = out / result(name)
        assert item["output"] == str(target)
        assert item["sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()
        assert item["bytes"] == target.stat().st_size
        assert item["error"] is None
        assert {"plan", "blocks", "cog", "verify", "total"} <= set(item["seconds"])
        assert_same(target, alone / result(name))
    assert [line.split() for line in outcome.said[1:]] == [["done", "5"]]
    assert outcome.said[0].startswith("5 scenes in ")


def test_what_is_said_to_people(scenes: Path, tmp_path: Path, upscale: Callable[..., Outcome]) -> None:
    (scenes / "a.tif").write_text("no raster any more")
    args = (scenes / "a.tif", scenes / "e.tif", "-o", f"{tmp_path}/out/")
    outcome = upscale(*args)
    assert outcome.code == 1
    assert outcome.out.startswith(f"{tmp_path}/out/e_x2.tif: 80 x 68 pixels, 2 bands uint8")
    first, *summary = outcome.said
    assert first.startswith(f"Error: Cannot open '{scenes / 'a.tif'}' as a raster")
    assert [line.split() for line in summary[1:]] == [["done", "1"], ["failed", "1"]]
    again = upscale(*args)
    assert again.out == f"{tmp_path}/out/e_x2.tif: skipped, it is finished\n"
    quiet = upscale(*args, "-q")
    assert (quiet.code, quiet.out, quiet.said) == (1, "", [first])


def test_a_single_scene_may_go_to_a_folder_too(
    scenes: Path, alone: Path, tmp_path: Path, upscale: Callable[..., Outcome]
) -> None:
    assert upscale(scenes / "a.tif", "-o", tmp_path).code == 0
    assert_same(tmp_path / "a_x2.tif", alone / "a_x2.tif")


# Nothing is done twice, and nothing is lost.


def test_finished_scenes_are_known_by_what_made_them(
    scenes: Path, tmp_path: Path, upscale: Callable[..., Outcome]
) -> None:
    args = (scenes, "-o", f"{tmp_path}/out/", "--json")
    assert upscale(*args).code == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    again = upscale(*args)
    assert again.code == 0
    assert statuses(again) == all_are("skipped")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before

    factory.write_scene(scenes / "a.tif", factory.pixels(2, (30, 40), "uint8", 99))
    changed = upscale(*args)
    assert changed.code == 1
    assert statuses(changed) == all_are("skipped") | {"a.tif": "failed"}
    assert "was made from another source" in lines(changed)["a.tif"]["error"]
    assert "--overwrite" in lines(changed)["a.tif"]["error"]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before

    replaced = upscale(*args, "--overwrite")
    assert replaced.code == 0
    assert statuses(replaced) == all_are("skipped") | {"a.tif": "done"}
    geosegsr.upscale(scenes / "a.tif", tmp_path / "a.tif", 2, "bicubic", **SAME_OPTIONS)
    assert_same(tmp_path / "out" / "a_x2.tif", tmp_path / "a.tif")


@pytest.mark.parametrize("other", [("--bands", "1"), ("--co", "COMPRESS=ZSTD"), ("-m", "lanczos")])
def test_other_options_are_no_reason_to_skip(
    other: tuple[object, ...], scenes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    args = ("upscale", scenes / "a.tif", "-o", tmp_path, "--json", *OPTIONS)
    assert run_here(capfd, *args).code == 0
    assert statuses(run_here(capfd, *args)) == {"a.tif": "skipped"}
    assert statuses(run_here(capfd, *args, *other)) == {"a.tif": "failed"}


def test_a_run_of_one_scene_is_known_to_a_batch(
    scenes: Path, alone: Path, tmp_path: Path, upscale: Callable[..., Outcome]
) -> None:
    assert upscale(scenes / "a.tif", "-o", tmp_path / "a_x2.tif").code == 0
    outcome = upscale(scenes / "a.tif", scenes / "e.tif", "-o", tmp_path, "--json")
    assert statuses(outcome) == {"a.tif": "skipped", "e.tif": "done"}


def test_a_file_of_someone_else_is_never_replaced_unasked(
    scenes: Path, tmp_path: Path, upscale: Callable[..., Outcome]
) -> None:
    (tmp_path / "a_x2.tif").write_text("precious")
    outcome = upscale(scenes / "a.tif", "-o", tmp_path, "--json")
    assert outcome.code == 1
    assert "it exists" in lines(outcome)["a.tif"]["error"]
    assert (tmp_path / "a_x2.tif").read_text() == "precious"


def test_results_beside_their_sources_are_no_sources_the_next_time(
    scenes: Path, upscale: Callable[..., Outcome]
) -> None:
    assert statuses(upscale(scenes, "-o", scenes, "--json")) == all_are("done")
    assert statuses(upscale(scenes, "-o", scenes, "--json")) == all_are("skipped")
    assert statuses(upscale(f"{scenes}/**/*.[tT][iI][fF]*", "-o", scenes, "--json"))["a.tif"] == "skipped"


def test_a_source_that_a_result_would_replace_is_refused(
    scenes: Path, upscale: Callable[..., Outcome]
) -> None:
    factory.write_plain(scenes / "a_x2.tif")
    before = (scenes / "a_x2.tif").read_bytes()
    outcome = upscale(scenes, "-o", scenes, "--overwrite")
    assert_refused(outcome, 1, f"'{scenes / 'a.tif'}'", "is a source of this batch, too", "--name")
    assert (scenes / "a_x2.tif").read_bytes() == before
    assert not list(scenes.glob("*_x2.tif.geosegsr"))


def test_interrupted_and_given_again(scenes: Path, tmp_path: Path) -> None:
    for number in range(40):
        shutil.copy(scenes / "a.tif", scenes / f"{number:02d}.tif")
    out = tmp_path / "out"
    args = ("upscale", scenes, "-o", f"{out}/", "--json", *OPTIONS)
    process = start(*args)
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    interrupted = finish(process)
    assert interrupted.code == 130, interrupted.err
    assert "Interrupted." in interrupted.err
    *others, last = [json.loads(line) for line in interrupted.out.splitlines()]
    ended = [first, *others]
    assert last["status"] == "interrupted"
    assert {item["status"] for item in ended} == {"done"}
    for item in ended:
        assert hashlib.sha256(Path(item["output"]).read_bytes()).hexdigest() == item["sha256"]
    assert len(list(out.glob("*.tif"))) < 45

    again = finish(start(*args))
    assert again.code == 0, again.err
    counts = list(statuses(again).values())
    assert counts.count("skipped") >= len(ended)
    assert counts.count("skipped") + counts.count("done") == 45
    assert len(list(out.glob("*.tif"))) == 45
    assert not list(out.glob("*.geosegsr"))


# Which scenes, and where to.


def test_a_folder_is_its_rasters(originals: Path) -> None:
    assert sorted(Path(scene).name for scene in find_scenes([str(originals)])) == sorted(NAMES)


def test_patterns_are_expanded_and_every_scene_counts_once(scenes: Path) -> None:
    deep = scenes / "x" / "y"
    deep.mkdir(parents=True)
    factory.write_plain(deep / "deep.tif")
    blocks = scenes / "a_x2.tif.geosegsr" / "blocks"
    blocks.mkdir(parents=True)
    factory.write_plain(blocks / "000000.tif")
    factory.write_plain(scenes / "[1].tif")
    found = find_scenes(
        [f"{scenes}/*.tif", str(scenes / "a.tif"), f"{scenes}/**/*.tif", str(scenes / "[1].tif")]
    )
    names = [Path(scene).name for scene in found]
    assert sorted(names) == sorted(["[1].tif", "a.tif", "b c.tif", "deep.tif", "e.tif", "früh—雪.tif"])


@pytest.mark.parametrize("nothing", ["", "none/*.tif"])
def test_a_folder_or_pattern_without_scenes_is_told(nothing: str, tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="there are none"):
        find_scenes([str(tmp_path / nothing)])


def test_a_list_has_comments_and_blank_lines_and_its_paths_are_no_patterns() -> None:
    text = "# tonight\n\n  \na b.tif\r\nx/out.tif.geosegsr/blocks/000000.tif\n*.tif\n /vsimem/x.tif\n  # that is all\na b.tif\nlast.tif"
    assert find_scenes([], io.StringIO(text, newline="")) == [
        "a b.tif",
        "*.tif",
        " /vsimem/x.tif",
        "last.tif",
    ]


def test_a_list_on_standard_input(
    scenes: Path, tmp_path: Path, upscale: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"# two and one that is not there\n{scenes}/früh—雪.tif\n\n{scenes}/gone.tif\n{scenes}/a.tif\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8"))
    outcome = upscale("--from-file", "-", "-o", f"{tmp_path}/out/", "--json")
    assert outcome.code == 1
    assert statuses(outcome) == {"früh—雪.tif": "done", "gone.tif": "failed", "a.tif": "done"}
    assert "no such file" in lines(outcome)["gone.tif"]["error"]
    assert lines(outcome)["gone.tif"]["kind"] == "SceneError"


def test_an_empty_list_is_a_quiet_night(tmp_path: Path, upscale: Callable[..., Outcome]) -> None:
    (tmp_path / "list.txt").write_text("# nothing new\n")
    outcome = upscale("--from-file", tmp_path / "list.txt", "-o", f"{tmp_path}/out/", "--json")
    assert (outcome.code, outcome.out) == (0, "")
    assert len(outcome.said) == 1
    assert outcome.said[0].startswith("0 scenes in ")


def test_fields_of_a_name(scenes: Path, tmp_path: Path, upscale: Callable[..., Outcome]) -> None:
    outcome = upscale(
        scenes / "a.tif", "-o", f"{tmp_path}/out/", "--name", "{parent}/{stem}.{model}.{scale}.tif"
    )
    assert outcome.code == 0, outcome.err
    assert [str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.tif")] == [
        "scenes/a.bicubic.2.tif"
    ]


def test_names_of_addresses_and_of_checkpoints() -> None:
    found = name_results(
        ["https://host/tiles/T32/B04.jp2?sig=a/b.c", "/vsizip/in.zip/x.tif"], Path("out"), scale=4,
        model="models/my model.safetensors", pattern="{parent}_{stem}_{model}.tif",
    )  # fmt: skip
    assert found == [Path("out/T32_B04_my model.tif"), Path("out/in.zip_x_my model.tif")]


@pytest.mark.parametrize(
    ("pattern", "part"),
    [
        ("{name}.tif", "no field {name}"),
        ("{stem!r}.tif", "no field {stem!r}"),
        ("{stem:>9}.tif", "no field {stem:>9}"),
        ("{stem.__class__}.tif", "no field {stem.__class__}"),
        ("{0}.tif", "no field {0}"),
        ("{}.tif", "no field {}"),
        ("{stem", "Write fields as {stem}"),
        ("../{stem}.tif", "the name of a file inside 'out'"),
        ("x/../../{stem}.tif", "the name of a file inside 'out'"),
        ("/tmp/{stem}.tif", "the name of a file inside 'out'"),
        ("{stem}/", "the name of a file inside 'out'"),
        ("", "the name of a file inside 'out'"),
        ("all.tif", "both 'in/a.tif' and 'in/b.tif' to 'out/all.tif'"),
    ],
)
def test_names_that_cannot_be(pattern: str, part: str) -> None:
    with pytest.raises(ConfigError) as refused:
        name_results(["in/a.tif", "in/b.tif"], Path("out"), scale=4, model="bicubic", pattern=pattern)
    assert part in str(refused.value)


def test_a_scheduler_that_is_not_there_is_waited_for_once(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    @contextmanager
    def nobody_there(*_: object) -> Iterator[None]:
        tries.append(1)
        raise JobError("Cannot reach a Dask scheduler.")
        yield

    monkeypatch.setattr("geosegsr.workers.engine._client", nobody_there)
    pairs = [(str(scenes / name), tmp_path / name) for name in NAMES]
    outcomes = list(batch.upscale_batch(pairs, 2, "nearest", scheduler="tcp://127.0.0.1:9"))
    assert {outcome.error for outcome in outcomes} == {"Cannot reach a Dask scheduler."}
    assert len(tries) == 1


def test_two_scenes_of_one_name_are_refused_before_any_work(
    scenes: Path, tmp_path: Path, upscale: Callable[..., Outcome]
) -> None:
    (scenes / "other").mkdir()
    shutil.copy(scenes / "e.tif", scenes / "other" / "e.tif")
    sources = (scenes / "a.tif", scenes / "e.tif", scenes / "other" / "e.tif")
    outcome = upscale(*sources, "-o", f"{tmp_path}/out/")
    assert_refused(outcome, 1, *map(str, sources[1:]), "{parent}_{stem}")
    assert not (tmp_path / "out").exists()
    assert upscale(*sources, "-o", f"{tmp_path}/out/", "--name", "{parent}_{stem}.tif").code == 0


# What goes wrong.


def test_after_a_failure_the_others_go_on_or_not(
    scenes: Path, tmp_path: Path, upscale: Callable[..., Outcome]
) -> None:
    names = ["bad.tif", *(f"{number}.tif" for number in range(12))]
    (scenes / "bad.tif").write_text("no raster")
    for name in names[1:]:
        shutil.copy(scenes / "a.tif", scenes / name)
    args = [*(scenes / name for name in names), "-o", f"{tmp_path}/out/", "--json"]
    stopped = upscale(*args, "--on-error", "stop")
    assert stopped.code == 1
    found = statuses(stopped)
    assert set(found) == set(names), "each scene has its line"
    assert found["bad.tif"] == "failed"
    assert list(found.values()).count("stopped") >= len(names) - 6
    assert not list((tmp_path / "out").glob("*.geosegsr/blocks/*.part"))

    skipped = upscale(*args)
    assert skipped.code == 1
    ended = {name for name, status in found.items() if status == "done"}
    wanted = all_are("done", names) | all_are("skipped", sorted(ended)) | {"bad.tif": "failed"}
    assert statuses(skipped) == wanted
    assert not list((tmp_path / "out").glob("*.geosegsr"))


def test_unsuitable_scenes_fail_or_are_left_out(
    scenes: Path, tmp_path: Path, upscale: Callable[..., Outcome]
) -> None:
    palette = factory.write_palette(scenes / "palette.tif")
    args = (scenes / "a.tif", palette, "-o", f"{tmp_path}/out/", "--json")
    strict = upscale(*args)
    assert strict.code == 1
    assert statuses(strict) == {"a.tif": "done", "palette.tif": "failed"}
    lenient = upscale(*args, "--unsuitable", "skip")
    assert lenient.code == 0
    assert statuses(lenient) == {"a.tif": "skipped", "palette.tif": "unsuitable"}
    assert lines(lenient)["palette.tif"]["kind"] == "UnsuitableError"
    assert "Error" not in lenient.err and "Left out: " in lenient.err
    for options, code in (((), 1), (("--unsuitable", "skip"), 0)):
        expected = upscale(
            scenes / "e.tif", palette, "-o", f"{tmp_path}/out/", "--json", "--dry-run", *options
        )
        assert expected.code == code
        found = json.loads(expected.out)
        assert list(found["failures" if code else "unsuitable"]) == [str(palette)]


def test_excluded_scenes_are_left_out(scenes: Path, tmp_path: Path, upscale: Callable[..., Outcome]) -> None:
    (scenes / "old").mkdir()
    shutil.copy(scenes / "a.tif", scenes / "old" / "z.tif")
    patterns = ("--exclude", "[ab].tif", "--exclude", "old/*")
    outcome = upscale(f"{scenes}/**", *patterns, "-o", f"{tmp_path}/out/", "--json")
    assert set(statuses(outcome)) == set(NAMES) - {"a.tif", "b.tif"}
    everything = upscale(scenes, "--exclude", "*", "-o", f"{tmp_path}/out/", "--json")
    assert (everything.code, everything.out) == (0, "")


def test_a_bug_in_one_scene_costs_that_scene_alone(
    scenes: Path, tmp_path: Path, upscale: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Request.prepare

    def prepare(self: Request, source: str, target: Path) -> Task:
        if Path(source).name == "a.tif":
            raise TypeError("not what\nit seems")
        return honest(self, source, target)

    monkeypatch.setattr(Request, "prepare", prepare)
    outcome = upscale(scenes, "-o", f"{tmp_path}/out/", "--json")
    assert outcome.code == 1
    assert statuses(outcome) == all_are("done") | {"a.tif": "failed"}
    assert lines(outcome)["a.tif"]["error"].endswith("a bug, TypeError: not what it seems.")
    assert "Traceback" in outcome.err


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("-m", "no-such-model"), "'no-such-model'"),
        (("--co", "FROB=1"), "FROB"),
        (("--workers", 1, "--scheduler", "tcp://host:1"), "--workers"),
    ],
)
def test_what_is_wrong_for_every_scene_is_said_once(
    options: tuple[object, ...], part: str, scenes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    outcome = run_here(capfd, "upscale", scenes, "-o", f"{tmp_path}/out/", *options, "-q")
    assert_refused(outcome, 1, part)
    assert not list(tmp_path.glob("out/*"))


def test_a_raster_is_no_list(scenes: Path, tmp_path: Path, upscale: Callable[..., Outcome]) -> None:
    outcome = upscale("--from-file", scenes / "a.tif", "-o", f"{tmp_path}/out/")
    assert_refused(outcome, 2, "--from-file: it begins with binary data", "one path a line")


def test_a_path_that_cannot_be_followed_costs_its_scene_alone(
    scenes: Path, tmp_path: Path, upscale: Callable[..., Outcome]
) -> None:
    (tmp_path / "circle.tif").symlink_to(tmp_path / "circle.tif")
    long, circle, nul = "n" * 300 + ".tif", f"{tmp_path}/circle.tif", "n\0l.tif"
    broken = os.fsdecode(bytes(tmp_path) + b"/bad\xff.tif")
    shutil.copy(scenes / "a.tif", broken)
    listed = tmp_path / "list.txt"
    listed.write_bytes(
        b"\n".join(os.fsencode(str(path)) for path in (long, circle, nul, broken, scenes / "a.tif"))
    )
    outcome = upscale("--from-file", listed, "-o", f"{tmp_path}/out/", "--json")
    assert outcome.code == 1
    found = {item["source"]: item for item in map(json.loads, outcome.out.splitlines())}
    reasons = {
        long: "File name too long",
        circle: "Too many levels of symbolic links",
        nul: "embedded null byte",
        broken: "is not UTF-8. Rename it",
    }
    assert {source: item["status"] for source, item in found.items()} == {
        **dict.fromkeys(reasons, "failed"),
        str(scenes / "a.tif"): "done",
    }
    for source, reason in reasons.items():
        assert found[source]["kind"] == "SceneError"
        assert found[source]["error"].startswith("Cannot open '")
        assert reason in found[source]["error"]
    assert "Traceback" not in outcome.err
    expected = upscale("--from-file", listed, "-o", tmp_path / "out", "--dry-run", "--json")
    assert set(json.loads(expected.out)["failures"]) == set(reasons)


def test_a_closed_folder_costs_its_scenes_alone(
    scenes: Path,
    tmp_path: Path,
    upscale: Callable[..., Outcome],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed = tmp_path / "closed"
    honest = os.stat

    def stat(path: Any, **options: Any) -> os.stat_result:
        if str(path).startswith(f"{closed}/"):
            raise PermissionError(13, "Permission denied", str(path))
        return honest(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    outcome = upscale(closed / "x.tif", scenes / "a.tif", "-o", f"{tmp_path}/out/", "--json")
    assert statuses(outcome) == {"x.tif": "failed", "a.tif": "done"}
    assert lines(outcome)["x.tif"]["error"].startswith(f"Cannot open '{closed}/x.tif': Permission denied")
    assert_refused(upscale(closed, "-o", f"{tmp_path}/out/", "-q"), 1, "Cannot open", str(closed))
    model = ("--model", closed / "m.safetensors")
    refused = run_here(capfd, "upscale", scenes, "-o", f"{tmp_path}/out/", "-q", *model)
    assert_refused(refused, 1, "Cannot read checkpoint", f"{closed}/m.safetensors", "Permission denied")


@pytest.mark.parametrize("length", [245, 250])
def test_a_result_whose_name_is_too_long_costs_its_scene_alone(
    length: int, scenes: Path, tmp_path: Path, upscale: Callable[..., Outcome]
) -> None:
    name = "n" * length + ".tif"
    shutil.copy(scenes / "a.tif", scenes / name)
    outcome = upscale(scenes / name, scenes / "a.tif", "-o", f"{tmp_path}/out/", "--json")
    assert statuses(outcome) == {name: "failed", "a.tif": "done"}
    assert lines(outcome)[name]["error"].startswith(f"Cannot write '{tmp_path}/out/nnn")


def test_a_folder_of_one_result_that_cannot_be_made_costs_its_scene_alone(
    scenes: Path, tmp_path: Path, upscale: Callable[..., Outcome]
) -> None:
    (scenes / "p").mkdir()
    shutil.copy(scenes / "a.tif", scenes / "p" / "p.tif")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "p").touch()
    outcome = upscale(
        scenes / "p" / "p.tif", scenes / "a.tif", "-o", tmp_path / "out", "--json",
        "--name", "{parent}/{stem}.tif",
    )  # fmt: skip
    assert outcome.code == 1
    assert statuses(outcome) == {"p.tif": "failed", "a.tif": "done"}
    assert "its folder cannot be created (File exists)" in lines(outcome)["p.tif"]["error"]


def test_names_do_not_reach_the_terminal_with_control_characters(
    scenes: Path, tmp_path: Path, upscale: Callable[..., Outcome]
) -> None:
    ill = ["\x1b[31mred.tif", "two\nlines.tif", "\u202eback.tif", "clear\x1b[2J.tif"]
    for name in ill[:-1]:
        factory.write_no_crs(scenes / name)
    (scenes / ill[-1]).write_text("no raster")
    args = (*(scenes / name for name in ill), "-o", f"{tmp_path}/out/")
    for outcome in (upscale(*args, "-vv"), upscale(*args)):
        assert outcome.code == 1
        text = (outcome.out + outcome.err).replace("\n", "")
        assert text.isprintable()
        assert not [line for line in (outcome.out + outcome.err).split("\n") if line.startswith("lines")]


def test_an_empty_name_for_the_results_is_wrong_usage(
    scenes: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scenes)
    assert_refused(run_here(capfd, "upscale", "a.tif", "-o", ""), 2, "-o is empty")


def test_a_list_on_a_closed_standard_input(tmp_path: Path) -> None:
    outcome = run_in_shell("<&-", "upscale", "--from-file", "-", "-o", f"{tmp_path}/out/")
    assert_refused(outcome, 2, "Cannot read the list of --from-file: Bad file descriptor")


def test_a_batch_whose_reader_goes_ends_quietly(scenes: Path, tmp_path: Path) -> None:
    outcome = run_in_shell("| head -1", "upscale", scenes, "-o", f"{tmp_path}/out/", "--json", "-q", *OPTIONS)
    assert outcome.code == 1
    assert json.loads(outcome.out)["status"] == "done"
    assert outcome.said == []


def test_the_folder_for_results_cannot_be_made(
    scenes: Path, tmp_path: Path, upscale: Callable[..., Outcome]
) -> None:
    (tmp_path / "file").touch()
    outcome = upscale(scenes, "-o", f"{tmp_path}/file/out/", "-q")
    assert_refused(outcome, 1, f"'{tmp_path}/file/out/", "its folder cannot be created")


def test_warnings_belong_to_their_scene(
    scenes: Path, tmp_path: Path, upscale: Callable[..., Outcome]
) -> None:
    for number in range(8):
        factory.write_no_crs(scenes / f"{number}.tif")
    found = lines(upscale(scenes, "-o", f"{tmp_path}/out/", "--json"))
    for name, item in found.items():
        expected = [f"'{scenes / name}' has no coordinate"] if name[0].isdigit() else []
        assert (
            [text[: len(expected[0])] for text in item["warnings"]] == expected
            if expected
            else not item["warnings"]
        )


# What it takes.


def test_dry_run_adds_up_and_writes_nothing(
    scenes: Path, tmp_path: Path, upscale: Callable[..., Outcome]
) -> None:
    assert upscale(scenes / "a.tif", "-o", f"{tmp_path}/out/").code == 0
    (scenes / "bad.tif").write_text("no raster")
    before = sorted(path.name for path in (tmp_path / "out").iterdir())
    outcome = upscale(scenes, "-o", f"{tmp_path}/out/", "--dry-run", "--json")
    expected = json.loads(outcome.out)
    assert outcome.code == 1
    assert (expected["scenes"], expected["finished"]) == (4, 1)
    assert list(expected["failures"]) == [str(scenes / "bad.tif")]
    assert expected["output_bytes"] == sum(2 * (60 + 2 * n) * 80 for n in (1, 2, 3, 4))
    assert expected["disk_bytes"] > 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == before
    for_people = upscale(scenes, "-o", f"{tmp_path}/out/", "--dry-run")
    assert for_people.out.splitlines()[0] == "scenes   4 to do; 1 finished; 1 cannot be done"


def test_the_model_is_loaded_once(
    scenes: Path, tmp_path: Path, upscale: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:

    loads: list[object] = []
    honest = catalogue.resolve_upscaler

    def count(*args: Any, **options: Any) -> Any:
        loads.append(args)
        return honest(*args, **options)

    monkeypatch.setattr(catalogue, "resolve_upscaler", count)
    monkeypatch.setattr(catalogue, "_loaded", {})
    assert upscale(scenes, "-o", f"{tmp_path}/out/").code == 0
    assert len(loads) == 1


def test_a_cluster_is_started_once(
    scenes: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import distributed

    started: list[object] = []

    class Counted(distributed.LocalCluster):
        def __init__(self, *args: Any, **options: Any) -> None:
            started.append(self)
            super().__init__(*args, **options)

    monkeypatch.setattr(distributed, "LocalCluster", Counted)
    pairs = [(str(scenes / name), tmp_path / result(name)) for name in NAMES]
    outcomes = list(batch.upscale_batch(pairs, 2, "bicubic", workers=1, **SAME_OPTIONS))
    assert [outcome.status for outcome in outcomes] == ["done"] * len(NAMES), outcomes
    assert len(started) == 1
    for name in NAMES:
        assert_same(tmp_path / result(name), alone / result(name))


def test_hundreds_of_scenes_are_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most, lock = 0, 0, threading.Lock()

    @contextmanager
    def counted() -> Iterator[None]:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        yield
        with lock:
            inside -= 1

    honest = batch.carry_out

    def carry_out(*args: Any, **options: Any) -> Any:
        with counted():
            return honest(*args, **options)

    monkeypatch.setattr(batch, "carry_out", carry_out)
    array = factory.pixels(1, (3, 4), "uint8")
    pairs = []
    for number in range(150):
        values = array.copy()
        values[0, 0, 0] = number
        pairs.append(
            (str(factory.write_scene(tmp_path / f"{number}.tif", values)), tmp_path / "out" / f"{number}.tif")
        )
    outcomes = list(batch.upscale_batch(pairs, 2, "nearest"))
    assert {outcome.status for outcome in outcomes} == {"done"}
    assert {outcome.output for outcome in outcomes} == {str(target) for _, target in pairs}
    assert 1 < most <= batch.default_threads() + 1
    for number, (_, target) in enumerate(pairs):
        with rasterio.open(target) as found:
            assert found.read(1)[0, 0] == number


class Recorder:
    """An engine whose blocks end when they are let go."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.let_go = threading.Semaphore(0)
        self.cancelled = threading.Event()

    def run(
        self, work: Any, indices: Sequence[int], on_done: Callable[[int], None], *, name: str, together: int
    ) -> None:
        self.together = together
        self.begun.append(name)
        for index in indices:
            self.let_go.acquire()
            if self.cancelled.is_set():
                raise Cancelled("The run was asked to stop.")
            on_done(index)

    def cancel(self) -> None:
        self.cancelled.set()
        self.let_go.release(1000)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_scenes_that_fill_the_machine_take_turns() -> None:
    engine = Recorder()
    turns = Turns(engine, 2)  # type: ignore[arg-type]
    ended: list[str] = []

    def run(name: str, blocks: int) -> None:
        turns.run(abs, range(blocks), lambda _: None, name=name)
        ended.append(name)

    threads = [threading.Thread(target=run, args=job) for job in (("large", 5), ("small", 1), ("next", 3))]
    for number, thread in enumerate(threads, 1):
        thread.start()
        until(lambda number=number: len(engine.begun) + len(turns._queue) == number)
    assert engine.together == 2  # blocks of the other scenes count
    assert engine.begun == ["large"]
    engine.let_go.release(3)
    until(lambda: turns._left == 2)
    assert engine.begun == ["large"], "as many blocks as are computed at a time are still to come"
    engine.let_go.release(1)
    until(lambda: len(engine.begun) == 2)
    assert engine.begun == ["large", "small"], "the last block of one leaves room for the first of another"
    engine.let_go.release(5)
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sorted(ended) == ["large", "next", "small"]
    assert turns._left == 0


def test_those_who_wait_for_their_turn_can_be_stopped() -> None:
    engine = Recorder()
    turns = Turns(engine, 1)  # type: ignore[arg-type]
    ends: list[type[BaseException] | None] = []

    def run(name: str) -> None:
        try:
            turns.run(abs, range(2), lambda _: None, name=name)
        except Cancelled as error:
            ends.append(type(error))

    threads = [threading.Thread(target=run, args=(name,)) for name in ("first", "second", "third")]
    for thread in threads:
        thread.start()
    until(lambda: len(engine.begun) + len(turns._queue) == 3)
    turns.cancel()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert ends == [Cancelled] * 3
    assert len(engine.begun) == 1


@pytest.mark.filterwarnings("ignore:.*declares no nodata, but")  # the collar of gcps_110_uint16.tif
def test_real_scenes(real_scenes: Path, tmp_path: Path) -> None:
    names = ("rgba.tif", "rpcs.tif", "scale_offset.tif", "gcps_110_uint16.tif")
    pairs = [(str(real_scenes / name), tmp_path / "out" / name) for name in names]
    outcomes = list(batch.upscale_batch(pairs, 2, "bicubic"))
    assert [outcome.status for outcome in outcomes] == ["done"] * len(names), outcomes
    for name in names:
        geosegsr.upscale(real_scenes / name, tmp_path / name, 2, "bicubic")
        assert_same(tmp_path / "out" / name, tmp_path / name)
