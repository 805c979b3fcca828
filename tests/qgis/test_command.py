"""The QGIS plugin: its arguments are the command's, and the command's progress reaches its bar."""

from __future__ import annotations

import configparser
import os
import sys
from pathlib import Path

import command_line
import pytest
import rasterio
import scene_factory as factory
from geosegsr_cli.commands.report import command as report
from geosegsr_cli.commands.upscale import command as upscale
from geosegsr_qgis import command

FOLDER = Path(__file__).resolve().parents[2] / "qgis" / "geosegsr_qgis"


@pytest.fixture
def program(tmp_path: Path) -> str:
    """The command line of this checkout, as QGIS would call an installed one: without PYTHONPATH."""
    path = tmp_path / "geosegsr"
    words = ", ".join(repr(folder) for folder in command_line.environment()["PYTHONPATH"].split(os.pathsep))
    path.write_text(
        f"#!{sys.executable}\nimport sys; sys.path[:0] = [{words}]\nfrom geosegsr_cli.main import main; main()\n"
    )
    path.chmod(0o755)
    return str(path)


def test_arguments_are_options_of_the_command() -> None:
    for arguments in (
        command.upscale_arguments(
            "-in.tif", "out.tif", scale=4, model="", options="--nodata 0 --aoi 'a b.gpkg'"
        ),
        command.sharpen_arguments("in.tif", "guide.tif", "out.tif"),
    ):
        context = upscale.make_context("upscale", arguments[1:])
        assert (
            context.params["dst"] == "out.tif" and context.params["overwrite"] and context.params["as_json"]
        )
        assert context.params["src"] == (arguments[-1],)
    assert context.params["scale"] == 1 and context.params["guide"] == Path("guide.tif")


def test_arguments_of_a_report_are_those_of_its_command() -> None:
    arguments = command.report_arguments("-in.tif", "sr.tif", "page.html")
    found = report.make_context("report", arguments[1:]).params
    assert (found["src"], found["result"], found["out"]) == ("-in.tif", "sr.tif", "page.html")
    assert found["overwrite"] and found["as_json"]


def test_more_options_are_read_as_a_shell_reads_them() -> None:
    arguments = command.upscale_arguments(
        "in.tif", "o.tif", scale=2, model="bicubic", options="--aoi 'a b.gpkg' --stac"
    )
    assert arguments[-5:] == ["--aoi", "a b.gpkg", "--stac", "--", "in.tif"]
    with pytest.raises(command.FailedError, match="quotation marks"):
        command.upscale_arguments("in.tif", "o.tif", scale=2, model="bicubic", options="--aoi 'a")


@pytest.mark.parametrize(
    ("line", "percent"),
    [
        ("2026-11-26 19:54:48 13/16 blocks, 50%, 0:00:34, 2.9 s to go", 45.0),
        ("2026-11-26 19:54:48 13/16 blocks (2 resumed), 100%, 0:00:34, 2.9 s to go", 90.0),
        ("2026-11-26 19:54:52 writing the COG, 0:00:38", 90.0),
        ("2026-11-26 19:54:55 verifying, 0:00:41", 95.0),
        ("2026-11-26 19:54:55 reading the scene, 0:00:41", None),
        ("Warning: 13/16 blocks, 50%", None),
        ("", None),
    ],
)
def test_progress_is_read_from_the_log(line: str, percent: float | None) -> None:
    assert command.percent_of(line) == percent


def test_the_python_of_qgis_does_not_reach_the_command() -> None:
    found = command.environment({"PYTHONHOME": "/q", "PYTHONPATH": "/q", "HOME": "/h"})
    assert found == {"HOME": "/h", "GEOSEGSR_LOG_EVERY": "1"}


def test_a_run_writes_the_raster_and_moves_the_bar(tmp_path: Path, program: str) -> None:
    scene = factory.write_plain(tmp_path / "in.tif", size=(60, 50))
    shares: list[float] = []
    arguments = command.upscale_arguments(str(scene), str(tmp_path / "out.tif"), scale=2, model="bicubic")
    found = command.run(program, arguments, tell=print, progress=shares.append, stopped=lambda: False)
    assert found["status"] == "done" and shares == sorted(shares) and shares[-1] == 95
    with rasterio.open(tmp_path / "out.tif") as result, rasterio.open(scene) as source:
        assert result.shape == (2 * source.height, 2 * source.width)


def test_errors_and_cancellation_are_said(tmp_path: Path, program: str) -> None:
    missing = command.upscale_arguments(
        str(tmp_path / "no.tif"), str(tmp_path / "o.tif"), scale=2, model="bicubic"
    )
    quiet = {"tell": lambda line: None, "progress": lambda share: None}
    with pytest.raises(command.FailedError, match=r"no\.tif"):
        command.run(program, missing, stopped=lambda: False, **quiet)
    with pytest.raises(command.FailedError, match="GEOSEGSR_COMMAND"):
        command.run(str(tmp_path / "absent"), missing, stopped=lambda: False, **quiet)
    with pytest.raises(command.FailedError):
        command.run(program, missing, stopped=lambda: True, **quiet)
    assert not (tmp_path / "o.tif").exists()


def test_the_plugin_says_what_qgis_asks_of_it() -> None:
    found = configparser.ConfigParser()
    found.read(FOLDER / "metadata.txt")
    wanted = ("name", "qgisMinimumVersion", "description", "about", "version", "author", "email")
    assert all(found.has_option("general", key) for key in wanted)
    assert found["general"]["hasProcessingProvider"] == "yes"
