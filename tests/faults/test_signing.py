"""Addresses whose signatures expire: a command renews them, or one line says what to do; and no signature anywhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import scene_factory as factory
from command_line import assert_refused, run_here
from faulty_server import Server, serving

from geosegsr import upscale
from geosegsr.errors import SceneError
from geosegsr.raster import signing
from geosegsr.raster.gdal import read_pixels, rio_window
from geosegsr.raster.scene import Scene
from geosegsr.raster.signing import VARIABLE
from geosegsr.raster.window import Window

SECRET = "S3CR3T"
OPTIONS = ("--model", "bicubic", "--scale", 2, "--block", 256)
SIGN = """
import sys
from pathlib import Path
count = Path(sys.argv[1])
number = int(count.read_text()) + 1
count.write_text(str(number))
print(f"{sys.argv[2]}?a=1&sig=S3CR3T{number}")
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that refuses all addresses but those with a signature that is younger than eight requests."""
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    monkeypatch.setattr(signing, "_links", {})
    folder = tmp_path / "served"
    folder.mkdir()
    factory.write_plain(
        folder / "scene.tif", count=1, size=(512, 512), tiled=True, blockxsize=64, blockysize=64
    )
    with serving(folder) as running:

        def refuse(request: int) -> str:
            asked = running.requests[request]
            used = sum(path == asked for path in running.requests[: request + 1])
            return "right" if f"sig={SECRET}" in asked and used <= 8 else "403"

        running.fault = refuse
        yield running


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which the command counts how often it ran."""
    script, count = tmp_path / "sign.py", tmp_path / "count"
    script.write_text(SIGN)
    count.write_text("0")
    monkeypatch.setenv(VARIABLE, f"{sys.executable} '{script}' '{count}'")
    return count


def test_a_link_that_expires_is_renewed(
    server: Server, command: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.tif"
    outcome = run_here(
        capfd, "upscale", server.url("scene.tif", f"?sig={SECRET}"), "-o", target, *OPTIONS, "--json", "-vv"
    )
    assert outcome.code == 0, outcome.err
    upscale(server.folder / "scene.tif", tmp_path / "wanted.tif", 2, "bicubic", block=256)
    with rasterio.open(target) as made, rasterio.open(tmp_path / "wanted.tif") as wanted:
        assert np.array_equal(made.read(), wanted.read())
        assert SECRET not in str(made.tags())
    assert SECRET not in outcome.out + outcome.err
    assert 1 < int(command.read_text()) < 30
    assert json.loads(outcome.out)["status"] == "done"


def test_nothing_is_looked_for_beside_an_address_that_is_signed(server: Server, command: Path) -> None:
    """GDAL would list its folder, with the signature."""
    assert Scene.open(server.url("scene.tif")).height == 512
    asked = [path for path in server.requests if SECRET in path]
    assert asked and all(path.startswith("/scene.tif?") for path in asked)


def test_links_inside_a_vrt_document_are_renewed(server: Server, command: Path) -> None:
    document = (
        '<VRTDataset rasterXSize="512" rasterYSize="512"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
        f"<SourceFilename>/vsicurl/{server.url('scene.tif')}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    assert signing.signed(document).count(f"scene.tif?a=1&amp;sig={SECRET}1</SourceFilename>") == 1
    here = Scene.open(server.folder / "scene.tif")
    for number in reversed(range(64)):
        window = Window(64 * (number // 8), 64 * (number % 8), 64, 64)
        found = read_pixels(document, window, "a product", lambda file: file.read(window=rio_window(window)))  # noqa: B023
        assert np.array_equal(found, here.read(window)[0])
    assert 1 < int(command.read_text()) < 30


def test_without_a_command_one_line_says_what_to_do(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    outcome = run_here(
        capfd, "upscale", server.url("scene.tif", f"?sig={SECRET}"), "-o", tmp_path / "out.tif", *OPTIONS
    )
    assert_refused(outcome, 1, "repeat the command with a new one, which resumes the run", VARIABLE)
    assert SECRET not in outcome.out + outcome.err


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("raise SystemExit(3)", "ended with exit code 3"),
        ("print('no address')", "printed no address"),
        (None, "cannot be run (No such file or directory)"),
    ],
)
def test_a_command_that_fails_is_one_line(
    server: Server, monkeypatch: pytest.MonkeyPatch, program: str | None, reason: str
) -> None:
    monkeypatch.setenv(
        VARIABLE, "/no/such/program" if program is None else f'{sys.executable} -c "{program}"'
    )
    with pytest.raises(SceneError) as caught:
        Scene.open(server.url("scene.tif", f"?sig={SECRET}"))
    assert f"the command of {VARIABLE} {reason}" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert server.requests == []


def test_what_is_no_address_is_not_signed(command: Path) -> None:
    for path in (
        "in.tif",
        "s3://bucket/in.tif",
        "/vsizip//vsicurl/https://a.org/b.zip/c.tif",
        "/vsicurl?url=https://a.org/b.tif",
    ):
        assert signing.signed(path) == path
        assert not signing.expire("in.tif", 0)
    assert command.read_text() == "0"
