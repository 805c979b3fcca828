"""`rio upscale` is geosegsr upscale."""

from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path

import click
import pytest
import rasterio
import scene_factory as factory
from command_line import _own_state

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def rio() -> click.Group:
    """A group with the commands of this package that rasterio would load."""
    group = click.Group("rio")
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][
        "rasterio.rio_plugins"
    ]
    for name, place in points.items():
        module, _, command = place.partition(":")
        group.add_command(getattr(import_module(module), command), name)
    return group


def ended(rio: click.Group, *args: object) -> int:
    with _own_state(), pytest.raises(SystemExit) as stop:
        rio.main([str(arg) for arg in args], prog_name="rio")
    return int(stop.value.code or 0)


def test_its_options_are_those_of_the_command(rio: click.Group, capfd: pytest.CaptureFixture[str]) -> None:
    assert ended(rio, "upscale", "--help") == 0
    out = capfd.readouterr().out
    assert out.startswith("Usage: rio upscale [OPTIONS]") and "--consistency" in out


def test_it_upscales_and_tells_errors_in_one_line(
    rio: click.Group, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    scene = factory.write_plain(tmp_path / "in.tif", size=(30, 20))
    assert ended(rio, "upscale", scene, "-m", "bicubic", "-s", 2, "-o", tmp_path / "out.tif") == 0
    with rasterio.open(tmp_path / "out.tif") as result, rasterio.open(scene) as source:
        assert result.shape == (2 * source.height, 2 * source.width)
    capfd.readouterr()
    assert ended(rio, "upscale", scene, "-o", tmp_path / "x.tif", "--scale", "5") == 2
    assert "rio upscale --help" in capfd.readouterr().err
