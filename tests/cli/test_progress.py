"""Progress on a terminal, in a log and in a notebook."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import time
from itertools import groupby
from pathlib import Path

import click
import command_line
import pytest
import scene_factory as factory
from geosegsr_cli.parts import screen
from geosegsr_cli.parts.progress import BatchProgress, ProgressBar
from geosegsr_cli.parts.screen import Row, Screen

import geosegsr
from geosegsr.pipeline.report import Progress

TIMED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S")


def loaded_by(*args: object) -> set[str]:
    """Modules that a command has loaded at its end, of those that draw on terminals."""
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: print(sorted(m for m in sys.modules if m.split('.')[0] == 'rich'), file=sys.__stderr__))\n"
        "from geosegsr_cli.main import main\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        capture_output=True, text=True, env=command_line.environment(), check=True,
    )  # fmt: skip
    return set(re.findall(r"'(rich[\w.]*)'", done.stderr.splitlines()[-1]))


def test_help_and_logs_load_nothing_that_draws(tmp_path: Path) -> None:
    scene = factory.write_plain(tmp_path / "in.tif", size=(40, 40))
    assert loaded_by("upscale", "--help") == set()
    assert loaded_by("upscale", scene, "-m", "bicubic", "-o", tmp_path / "out.tif", "--json") == set()


def test_progress_counts_tiles_within_a_block(tmp_path: Path) -> None:
    scene = factory.write_plain(tmp_path / "in.tif", size=(300, 200))
    events: list[Progress] = []
    geosegsr.upscale(
        scene, tmp_path / "out.tif", 2, "bicubic", tile=64, overlap=8, block=4096, progress=events.append
    )
    before = [event.stage for event in events if event.total == 0]
    assert before == ["reading the scene", "loading the model", "identifying the source"]
    events = events[len(before) :]
    blocks = [event for event in events if event.stage == "blocks"]
    shares = [event.share for event in blocks]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1
    assert len([event for event in blocks if event.done == 0]) > 10  # tiles of the only block
    later = events[len(blocks) :]
    assert [stage for stage, _ in groupby(later, lambda event: event.stage)] == [
        "source",
        "cog",
        "verify",
        "commit",
    ]
    for stage in ("cog", "verify"):
        shares = [event.share for event in later if event.stage == stage and event.share is not None]
        assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1


def test_bytes_are_told_where_gdal_writes_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geosegsr.raster.cog_gdal._LOOK_S", 0.001)
    scene = factory.write_plain(tmp_path / "in.tif", size=(700, 700))
    events: list[Progress] = []
    creation = {"OVERVIEW_RESAMPLING": "CUBIC"}
    geosegsr.upscale(
        scene, tmp_path / "out.tif", 2, "nearest", block=512, creation=creation, progress=events.append
    )
    written = [event.written for event in events if event.stage == "cog" and event.written]
    assert written and written == sorted(written)
    shares = [event.share for event in events if event.stage == "verify" and event.share is not None]
    assert len(shares) > 2 and shares == sorted(shares) and shares[-1] == 1


def test_a_message_appears_above_the_rows_and_breaks_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(screen, "_own_standard_error", lambda: stream)
    monkeypatch.setattr(screen, "_close", lambda _: None)
    monkeypatch.setenv("COLUMNS", "60")
    usual = sys.stderr
    terminal = screen._Terminal()
    terminal.show("", "working")
    click.echo("Warning: " + "telling " * 20, err=True)
    terminal.close()
    assert sys.stderr is usual
    told = stream.getvalue().split("Warning:")
    assert told[0].endswith("\x1b[2K")  # the row is gone before
    lines = told[1].split("\x1b")[0].splitlines()
    assert len(lines) > 2 and all(set(line.split()) == {"telling"} for line in lines if line.strip())


@pytest.mark.parametrize("options", [(), ("--window", "0", "0", "150", "90")])
def test_a_terminal_shows_rows_no_wider_than_itself_and_clears_them(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    scene = factory.write_plain(tmp_path / f"{'long' * 30}.tif", size=(200, 200))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*command_line.PROGRAM, "upscale", str(scene), "-m", "bicubic", "-o", f"{tmp_path}/out/", *options],
        stdout=subprocess.PIPE, stderr=theirs, text=True,
        env={**command_line.environment(), "TERM": "xterm", "COLUMNS": "60"},
    )  # fmt: skip
    os.close(theirs)
    text = b""
    try:
        while data := os.read(ours, 65536):
            text += data
    except OSError:  # the other side is closed
        pass
    os.close(ours)
    out, _ = process.communicate()
    assert process.returncode == 0
    assert out.count("\n") == 1 and "400 x 400" not in text.decode()
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", text.decode()).replace("\r", "\n")
    rows = [line for line in plain.splitlines() if "scenes" in line or "blocks" in line]
    assert rows and all(len(row) <= 60 for row in rows if "1 scene in" not in row)


def test_what_is_printed_between_rows_is_not_drawn_over(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(screen, "_own_standard_error", lambda: stream)
    monkeypatch.setattr(screen, "_close", lambda _: None)
    terminal = screen._Terminal()
    for key in ("", "a.tif"):
        terminal.show(key, f"row {key}")
    deadline = time.monotonic() + 60
    while "row a.tif" not in stream.getvalue():
        assert time.monotonic() < deadline, "the rows are not drawn"
        time.sleep(0.01)
    with terminal.paused():
        stream.write("printed\n")
    terminal.close()
    after = stream.getvalue().split("printed\n")[1]
    assert "row" in after.split("\x1b[1A")[0]  # the cursor goes up over rows only


def test_a_log_has_a_line_every_so_often_even_if_nothing_happens(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(screen, "_LOG_EVERY_S", 0.0)
    monkeypatch.setattr(screen, "_TICK_S", 0.01)
    found = screen._Log()
    found.show("", "thinking")
    deadline, lines = time.monotonic() + 60, []
    while len(lines) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
        lines += capfd.readouterr().err.splitlines()
    found.close()
    assert len(lines) >= 3
    assert all(TIMED.match(line) and "thinking, 0:00:" in line for line in lines)


def test_a_row_estimates_what_is_left_from_what_this_run_did() -> None:
    row = Row("blocks", None)
    row.update("blocks", 0.5)  # resumed
    assert "to go" not in row.clock()
    row.update("blocks", 0.75)
    row.began -= 3725
    row.first = (row.first[0] - 10, 0.5) if row.first else None
    assert re.fullmatch(r"75%, 1:02:05, (9\.9|10\.\d) s to go", row.clock())
    row.update("writing", None)
    assert row.clock() == "1:02:05"


class Recorded(Screen):
    """Keeps what is shown."""

    def __init__(self) -> None:
        self.rows: dict[str, str] = {}
        self.told: list[str] = []

    def show(self, key: str, text: str, share: float | None = None, *, now: bool = False) -> None:
        self.rows[key] = text
        if now:
            self.told.append(text)

    def drop(self, key: str) -> None:
        del self.rows[key]


def test_a_log_hears_of_each_stage_and_of_the_last_block_once() -> None:
    found = Recorded()
    with ProgressBar(found) as bar:
        for done, share in ((1, 0.5), (1, 0.7), (2, 1.0)):
            bar(Progress(done, 2, 1, "blocks", share))
        for stage in ("cog", "cog", "verify"):
            bar(Progress(2, 2, 1, stage))
    assert found.told == [
        "1/2 blocks (1 resumed)", "2/2 blocks (1 resumed)", "writing the COG", "verifying",
    ]  # fmt: skip


def test_a_batch_has_a_row_for_each_active_scene(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Recorded()
    monkeypatch.setattr("geosegsr_cli.parts.progress.open_screen", lambda **_: found)
    batch = BatchProgress(3, quiet=False, as_json=False)
    batch("in/a.tif", Progress(1, 4, 0, "blocks", 0.3))
    batch("in/b.tif", Progress(4, 4, 0, "verify"))
    assert list(found.rows.values()) == ["0/3 scenes", "a.tif: 1/4 blocks", "b.tif: verifying"]
    with batch.ended("in/b.tif", "failed"):
        pass
    assert list(found.rows.values()) == ["1/3 scenes (1 failed)", "a.tif: 1/4 blocks"]


def test_a_screen_for_which_there_is_no_standard_error_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with screen.shown("working") as found:
        assert isinstance(found, screen._Log)
