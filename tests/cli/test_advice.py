"""What a message advises is what helps, and a slip of the hand is no file's name."""

from __future__ import annotations

import os
import shlex
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import scene_factory as factory
from command_line import Outcome, assert_refused, run, run_here

Run = Callable[..., Outcome]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a scene."""
    monkeypatch.chdir(tmp_path)
    factory.write_plain(tmp_path / "in.tif", size=(32, 32))
    return tmp_path


@pytest.fixture
def upscale(here: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    return lambda *args: run_here(capfd, "upscale", *args, "-m", "nearest", "-s", 2)


def advised(outcome: Outcome, mark: str) -> str:
    """The word in quotes after a mark of the message."""
    return shlex.split(outcome.err.partition(mark)[2])[0].rstrip(".")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("--preview", "--report", "a.html"), "Option '--preview' requires a value, and '--report' is another option"),
        (("-o", "-q"), "Option '-o' requires a value, and '-q' is another option. Pass -o VALUE -q."),
        (("--range", "0", "--json"), "Option '--range' requires a value, and '--json' is another option"),
        (("--preview",), "See `geosegsr upscale --help`"),
        (("--", "in.tif", "-o", "out.tif", "-q"), "Missing option '-o'. Pass -o FILE.tif"),
    ],
)  # fmt: skip
def test_an_option_is_no_value(
    typed: tuple[str, ...], said: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert_refused(run_here(capfd, "upscale", "in.tif", *typed), 2, said)
    assert [path.name for path in here.iterdir()] == ["in.tif"]


def test_what_begins_with_a_dash_may_still_be_a_value(here: Path, upscale: Run) -> None:
    assert upscale("in.tif", "-o", "-z.tif", "--nodata", "-9999", "--bands", "1").code == 1  # of uint16
    assert upscale("in.tif", "-o", "-z.tif").code == 0
    assert upscale("in.tif", "-o=--json.tif", "--preview=--report.png").code == 0


def test_a_file_whose_name_begins_with_a_dash(here: Path, upscale: Run) -> None:
    (here / "in.tif").rename("-dash.tif")
    refused = upscale("-dash.tif", "-o", "out.tif")
    assert_refused(refused, 2, "No such option '-d'. To pass the file of that name, type './-dash.tif'.")
    assert upscale(advised(refused, "type "), "-o", "out.tif").code == 0


def test_train_names_its_folder_otherwise(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said = "No such option '-o'. The folder of the result is --run."
    assert_refused(run_here(capfd, "train", "--hr", "in.tif", "-o", "out"), 2, said)


def test_a_quoted_home(
    here: Path,
    upscale: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    capfd: pytest.CaptureFixture[str],
) -> None:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    factory.write_plain(home / "at home.tif", size=(32, 32))
    refused = upscale("~/at home.tif", "-o", "out.tif")
    assert_refused(refused, 1, "nothing has replaced its '~'")
    assert upscale(advised(refused, "Pass "), "-o", "out.tif").code == 0
    refused = upscale("in.tif", "-o", "~/out.tif")
    assert upscale("in.tif", "-o", advised(refused, "Pass ")).code == 0
    assert (home / "out.tif").exists() and not (here / "~").exists()
    said = run_here(capfd, "evaluate", "--hr", "~/none.tif", "-m", "bicubic", "-s", 2)
    assert_refused(said, 1, "nothing has replaced its '~'")
    (here / "~").mkdir()
    assert upscale("in.tif", "-o", "~/out.tif").code == 0, "a folder may have that name"


@pytest.mark.parametrize("length", [252, 300])
def test_a_name_that_is_too_long(length: int, here: Path, upscale: Run) -> None:
    assert_refused(upscale("in.tif", "-o", "x" * (length - 4) + ".tif"), 1, "Pass a shorter name.")


def test_a_locale_that_is_not_utf_8(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are UTF-8 all the same, and Python can be told so."""
    (here / "in.tif").rename("schön.tif")
    typed = ("upscale", "schön.tif", "-o", "größer.tif", "-m", "nearest", "-s", 2)
    for name, value in {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}.items():
        monkeypatch.setenv(name, value)
    assert_refused(run(*typed), 1, "the locale of this process says", "PYTHONUTF8=1")
    monkeypatch.setenv("PYTHONUTF8", "1")
    assert run(*typed).code == 0
    assert (here / "größer.tif").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="file systems elsewhere take UTF-8 only")
def test_a_name_that_is_not_utf_8(here: Path, upscale: Run) -> None:
    (here / "in.tif").rename(os.fsdecode(b"latin\xe9.tif"))
    assert_refused(
        upscale(os.fsdecode(b"latin\xe9.tif"), "-o", "out.tif"), 1, "its path is not UTF-8. Rename it."
    )


def test_an_empty_file_and_a_format_without_a_driver(here: Path, upscale: Run) -> None:
    (here / "empty.tif").touch()
    assert_refused(upscale("empty.tif", "-o", "out.tif"), 1, "the file is empty. Copy or download it again.")
    with rasterio.Env() as env:
        known = env.drivers()
    for name, driver in (("a.sid", "MrSID"), ("a.hdf", "HDF4"), ("a.jp2", "JP2OpenJPEG")):
        (here / name).write_bytes(b"\x0e\x03\x13\x01" + bytes(64))
        said = upscale(name, "-o", "out.tif").err
        assert ("driver" in said) == (driver not in known and not (driver == "HDF4" and "HDF5" in known)), (
            said
        )


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz"])
def test_an_archive_of_a_raster(ending: str, here: Path, upscale: Run) -> None:
    if ending == "zip":
        with zipfile.ZipFile("a.zip", "w") as packed:
            packed.write("in.tif", "deep/in a folder.tif")
    else:
        with tarfile.open(f"a.{ending}", "w:gz" if ending == "tar.gz" else "w") as tar:
            tar.add("in.tif", "deep/in a folder.tif")
    refused = upscale(f"a.{ending}", "-o", "out.tif")
    assert_refused(refused, 1, "It is an archive: pass a raster in it")
    assert upscale(advised(refused, "such as "), "-o", "out.tif").code == 0
    with zipfile.ZipFile("none.zip", "w") as packed:
        packed.writestr("read me.txt", "")
    assert_refused(upscale("none.zip", "-o", "no.tif"), 1, "an archive that holds no raster")


@pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes")
def test_a_pipe_is_refused_at_once(here: Path, upscale: Run, capfd: pytest.CaptureFixture[str]) -> None:
    """Opening one would wait for whoever writes into it."""
    os.mkfifo("pipe.tif")
    assert_refused(upscale("pipe.tif", "-o", "out.tif"), 1, "it is a pipe", "Write it to a file first")
    assert_refused(run_here(capfd, "info", "pipe.tif"), 1, "it is a pipe")
    assert_refused(upscale("-", "-o", "out.tif"), 1, "Write standard input to a file first")


@pytest.mark.parametrize("line", ['"a b.tif"', "'a b.tif'", "a b.tif  "])
def test_lines_of_a_list_are_plain_names(line: str, here: Path, upscale: Run) -> None:
    (here / "in.tif").rename("a b.tif")
    (here / "list.txt").write_text(line + "\n")
    refused = upscale("--from-file", "list.txt", "-o", "out/")
    assert refused.code == 1 and "Did you mean 'a b.tif'?" in refused.err


def test_a_model_and_a_band_that_are_not_there(
    here: Path, upscale: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    assert_refused(
        run_here(capfd, "upscale", "in.tif", "-o", "o.tif", "-m", "bicubc"), 1, "Did you mean 'bicubic'?"
    )
    assert_refused(upscale("in.tif", "-o", "o.tif", "--bands", "red"), 1, "its bands have no names")


def test_info_of_one_band_of_one_value(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Near 2**60 the next whole number is no other float."""
    factory.write_scene(here / "flat.tif", np.full((1, 20, 20), 2**60, np.uint64))
    said = run_here(capfd, "info", "flat.tif").out
    assert "1 band uint64" in said and "unknown" not in said
    outcome = run_here(capfd, "upscale", "flat.tif", "-o", "out.tif", "-s", 2)
    assert outcome.code == 0, outcome.err
    with rasterio.open("out.tif") as result:
        assert (result.read() == 2**60).all()


def test_white_as_zero_is_told(here: Path, upscale: Run, capfd: pytest.CaptureFixture[str]) -> None:
    with rasterio.open(
        "scan.tif", "w", driver="GTiff", count=1, height=20, width=20, dtype="uint8", photometric="miniswhite",
        transform=factory.TRANSFORM, crs=factory.CRS,
    ) as target:  # fmt: skip
        target.write(factory.pixels(1, (20, 20), "uint8", 0))
    assert "0 is shown as white (MINISWHITE)" in run_here(capfd, "info", "scan.tif").out
    outcome = upscale("scan.tif", "-o", "out.tif")
    assert outcome.code == 0 and len(outcome.warned) == 1
    assert "shows 0 as white (MINISWHITE), and the result shows it as black" in outcome.warned[0]
