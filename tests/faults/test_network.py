"""A source behind a server that fails: a right result or one line, in bounded time, and no secret anywhere."""

from __future__ import annotations

import json
import os
import traceback
import zipfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import rasterio
import scene_factory as factory
from command_line import Outcome, assert_refused, run_here
from faulty_server import Server, every, serving
from numpy.typing import NDArray

from geosegsr import upscale
from geosegsr.errors import SceneError, redacted
from geosegsr.pipeline.scene_list import name_results
from geosegsr.raster.identity import source_identity
from geosegsr.raster.network import NETWORK_DEFAULTS, network_options
from geosegsr.raster.scene import Scene
from geosegsr.raster.window import Window

RUN = import_module("geosegsr.pipeline.run")
SECRET = "S3CR3T"
QUERY = f"?X-Amz-Signature={SECRET}&Expires=1"
OPTIONS = ("--model", "bicubic", "--scale", 2, "--block", 256)
DATED = ("--stac", "--datetime", "2024-05-01")
MOST_REQUESTS = 12
"""With the time-outs of a request these bound the time, on a busy machine too."""
IMPATIENT = {
    "GDAL_HTTP_CONNECTTIMEOUT": "2",
    "GDAL_HTTP_TIMEOUT": "60",
    "GDAL_HTTP_LOW_SPEED_TIME": "1",
    "GDAL_HTTP_MAX_RETRY": "2",
    "GDAL_HTTP_RETRY_DELAY": "0.05",
}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server with one scene of some 1.6 MB in uncompressed tiles, so that reading it takes many requests."""
    for name, value in IMPATIENT.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "served"
    folder.mkdir()
    factory.write_plain(
        folder / "scene.tif", count=1, size=(512, 512), tiled=True, blockxsize=64, blockysize=64
    )
    with serving(folder) as running:
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out.tif"


def pixels(path: Path) -> NDArray[Any]:
    with rasterio.open(path) as source:
        values: NDArray[Any] = source.read()
    return values


def right(server: Server, target: Path) -> NDArray[Any]:
    """The result of the local file."""
    wanted = target.with_name("wanted.tif")
    upscale(server.folder / "scene.tif", wanted, 2, "bicubic", block=256)
    return pixels(wanted)


def command(capfd: pytest.CaptureFixture[str], server: Server, target: Path, *args: object) -> Outcome:
    return run_here(capfd, "upscale", server.url("scene.tif", QUERY), "-o", target, *OPTIONS, *args)


# What a server does.


@pytest.mark.parametrize(
    "kinds",
    [
        ("429", "right", "429", "right", "right"),
        ("500", "500", "right", "right", "right"),
        ("503", "right", "503", "right", "right"),
        ("right", "drop", "right", "right", "drop"),
        ("right", "truncate", "right", "right", "right", "right", "right"),
    ],
)
def test_some_requests_fail(
    kinds: tuple[str, ...], server: Server, target: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.fault = every(*kinds)
    outcome = command(capfd, server, target)
    assert outcome.code == 0, outcome.err
    assert np.array_equal(pixels(target), right(server, target))
    assert SECRET not in outcome.out + outcome.err


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("401", "HTTP response code: 401"),
        ("403", "Check the credentials. If the address has expired, repeat the command with a new one"),
        ("404", "HTTP response code: 404. Check the address"),
        ("429", "HTTP response code: 429"),
        ("500", "HTTP response code: 500"),
        ("503", "HTTP response code: 503. The server is busy or fails: repeat the command later"),
        ("drop", "Check the address and the connection"),
        ("stall", "Check the address and the connection"),
        ("no ranges", "Range downloading not supported"),
        ("wrong range", "bytes"),
        ("truncate", "Cannot"),
    ],
)
def test_all_requests_fail(
    kind: str, said: str, server: Server, target: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.fault = every(kind)
    outcome = command(capfd, server, target, "--json")
    assert len(server.requests) <= MOST_REQUESTS
    assert_refused(outcome, 1, server.address, said)
    assert SECRET not in outcome.out + outcome.err
    assert not target.exists()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("403", "HTTP response code: 403"),
        ("503", "HTTP response code: 503"),
        ("drop", "CURL error"),
        ("stall", "CURL error"),
        ("no ranges", "Range downloading not supported"),
        ("truncate", "damaged, incomplete or unreachable"),
    ],
)
def test_all_requests_fail_once_the_file_is_open(
    kind: str, said: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    scene = Scene.open(server.url("scene.tif", QUERY))
    server.fault = every(kind)
    before = len(server.requests)
    with pytest.raises(SceneError, match=r"^Cannot read .*rows 128-192") as caught:
        scene.read(Window(128, 128, 64, 64))
    assert len(server.requests) - before <= MOST_REQUESTS
    assert said in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("kind", ["404", "500", "drop", "stall", "no ranges", "truncate"])
def test_one_request_fails_once_the_file_is_open(kind: str, server: Server) -> None:
    scene = Scene.open(server.url("scene.tif", QUERY))
    asked = len(server.requests)
    server.fault = lambda request: kind if request == asked else "right"
    window = Window(128, 128, 64, 64)
    assert np.array_equal(scene.read(window)[0], Scene.open(server.folder / "scene.tif").read(window)[0])
    assert len(server.requests) > asked


# A source that changes.


@pytest.fixture
def break_off(
    capfd: pytest.CaptureFixture[str], server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Runs the command up to the COG stage, and not further."""

    def stop(*args: object, **kwargs: object) -> None:
        raise SceneError("Cannot go on.")

    def call(*args: object) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(RUN, "compute_cell", stop)
            assert command(capfd, server, target, *args).code == 1

    return call


def change(server: Server, **kwargs: Any) -> None:
    """Another scene of the same size, with the time of the first."""
    path = server.folder / "scene.tif"
    status = path.stat()
    factory.write_plain(
        path, count=1, size=(512, 512), tiled=True, blockxsize=64, blockysize=64, seed=1, **kwargs
    )
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("by", ["time", "etag"])
def test_a_source_that_changed_between_two_runs_is_refused(
    by: str,
    server: Server,
    target: Path,
    capfd: pytest.CaptureFixture[str],
    break_off: Callable[..., None],
) -> None:
    server.etags["scene.tif"] = '"first"'
    break_off()
    change(server)
    if by == "time":
        os.utime(server.folder / "scene.tif", (0, 0))
    else:
        server.etags["scene.tif"] = '"second"'
    assert_refused(command(capfd, server, target), 1, "source was", "--no-resume")
    assert command(capfd, server, target, "--no-resume").code == 0
    # GDAL has read the first version in this process, and must not remember it.
    assert np.array_equal(pixels(target), right(server, target))


def test_a_source_that_changes_during_a_run_is_refused(
    server: Server, target: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = RUN._compute

    def then_change(*args: object) -> None:
        compute(*args)
        server.etags["scene.tif"] = '"second"'

    server.etags["scene.tif"] = '"first"'
    monkeypatch.setattr(RUN, "_compute", then_change)
    assert_refused(command(capfd, server, target), 1, "changed while it was read")
    assert not target.exists()


def test_a_server_that_is_gone_at_the_end_is_no_change(
    server: Server, target: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = RUN._compute

    def then_fail(*args: object) -> None:
        compute(*args)
        server.fault = every("503")

    with monkeypatch.context() as patch:
        patch.setattr(RUN, "_compute", then_fail)
        assert_refused(command(capfd, server, target), 1, "HTTP response code: 503")
    server.fault = every("right")
    outcome = command(capfd, server, target, "--json")
    assert json.loads(outcome.out)["blocks_resumed"] > 0


def test_a_new_signature_resumes_the_run(
    server: Server, target: Path, capfd: pytest.CaptureFixture[str], break_off: Callable[..., None]
) -> None:
    break_off()
    outcome = run_here(
        capfd, "upscale", server.url("scene.tif", "?X-Amz-Signature=N3W"), "-o", target, *OPTIONS, "--json"
    )
    assert json.loads(outcome.out)["blocks_resumed"] > 0


def test_files_of_a_local_vrt_count(server: Server, tmp_path: Path) -> None:
    vrt = tmp_path / "mosaic.vrt"
    vrt.write_text(
        '<VRTDataset rasterXSize="512" rasterYSize="512"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
        f"<SourceFilename>/vsicurl/{server.url('scene.tif')}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    scene = Scene.open(vrt)
    before = source_identity(scene.path, scene.files)
    os.utime(server.folder / "scene.tif", (0, 0))
    assert source_identity(scene.path, scene.files) != before


def test_an_archive_counts(tmp_path: Path) -> None:
    scene, archive = factory.write_plain(tmp_path / "a.tif"), tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(scene, "a.tif")
    inside = Scene.open(f"/vsizip/{archive}/a.tif")
    before = source_identity(inside.path, inside.files)
    assert source_identity(inside.path, inside.files) == before
    os.utime(archive, (0, 0))
    assert source_identity(inside.path, inside.files) != before


# Options.


def test_nothing_is_looked_for_beside_a_signed_address(
    server: Server, target: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No folder is listed either: its address would carry the signature."""
    assert command(capfd, server, target).code == 0
    assert set(server.requests) == {f"/scene.tif{QUERY}"}


def test_options_of_the_user_count(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NETWORK_DEFAULTS:
        monkeypatch.delenv(name, raising=False)
    assert network_options() == NETWORK_DEFAULTS
    monkeypatch.setenv("GDAL_HTTP_TIMEOUT", "7")
    with rasterio.Env(GDAL_HTTP_MAX_RETRY=9):
        left = network_options()
    assert set(NETWORK_DEFAULTS) - set(left) == {"GDAL_HTTP_TIMEOUT", "GDAL_HTTP_MAX_RETRY"}


# Secrets.


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (f"https://a.org/b.tif{QUERY}", "https://a.org/b.tif"),
        (f"Cannot open 'https://a.org/b.tif{QUERY}': no.", "Cannot open 'https://a.org/b.tif': no."),
        (f"HTTP response code on https://a.org/b.tif{QUERY}: 403", "HTTP response code on https://a.org/b.tif: 403"),
        (f"/vsizip//vsicurl/https://a.org/b.zip{QUERY}/c.tif", "/vsizip//vsicurl/https://a.org/b.zip"),
        (f"https://user:{SECRET}@a.org/b.tif", "https://a.org/b.tif"),
        (f"b.tif{QUERY}, band 1: IReadBlock failed", "b.tif, band 1: IReadBlock failed"),
        (f"/vsicurl?header.Auth={SECRET}&url=https%3A%2F%2Fa.org%2Fb.tif%3Fsig%3D{SECRET}", "/vsicurl/https://a.org/b.tif"),
        (f"https://a.org/b.tif#access_token={SECRET}", "https://a.org/b.tif#access_token=***"),
        (f"PG:host=h password={SECRET} dbname=d", "PG:host=h password=*** dbname=d"),
        ("Is it a raster? Pass another -o.", "Is it a raster? Pass another -o."),
        ("in/a?.tif, in/*.tif and a@b.tif", "in/a?.tif, in/*.tif and a@b.tif"),
    ],
)  # fmt: skip
def test_redacted(text: str, wanted: str) -> None:
    assert redacted(text) == wanted
    assert redacted(wanted) == wanted


def test_names_of_results_hold_no_secret() -> None:
    scenes = [
        f"https://user:{SECRET}@a.org/b.tif{QUERY}",
        f"/vsicurl?url=https://a.org/c.tif&header.X={SECRET}",
    ]
    named = name_results(scenes, Path("out"), scale=2, model="bicubic", pattern="{parent}_{stem}.tif")
    assert named == [Path("out/a.org_b.tif"), Path("out/a.org_c.tif")]


def test_no_output_holds_a_secret(server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Every command, with all that it prints and writes, where it succeeds and where it fails."""
    folder = tmp_path / "all"
    folder.mkdir()
    factory.write_plain(server.folder / "small.tif", count=1, size=(64, 64))
    here = server.url("scene.tif", QUERY).replace("http://", f"http://user:{SECRET}@")
    gone = server.url("gone.tif", QUERY)
    options = f"/vsicurl?url={quote(server.url('small.tif', QUERY), safe='')}&header.X={SECRET}"
    single, many = folder / "out.tif", f"{folder}/many/"
    evaluate = ("evaluate", "--model", "bicubic", "--scale", 2, "--hr")
    outcomes = [
        run_here(capfd, *args)
        for args in (
            ("upscale", here, "-o", single, *OPTIONS, *DATED, "-vv"),
            ("upscale", here, "-o", single, *OPTIONS, "--json"),
            ("upscale", here, "-o", folder / "dry.tif", *OPTIONS, "--dry-run", "--json"),
            ("upscale", options, here, gone, "-o", many, *OPTIONS, *DATED, "--json", "-vv"),
            ("upscale", gone, "-o", folder / "gone.tif", *OPTIONS, "-vv"),
            ("info", here),
            ("info", here, "--json"),
            ("info", gone, "--json"),
            (*evaluate, here.replace("scene", "small"), "--by-band", "--json"),
            (*evaluate, gone),
        )
    ]
    said = "".join(outcome.out + outcome.err for outcome in outcomes)
    assert [outcome.code for outcome in outcomes] == [0, 0, 0, 1, 1, 0, 0, 1, 0, 1], said
    assert SECRET not in said
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert len(written) >= 5
    assert not [path for path in written if SECRET.encode() in path.read_bytes() or SECRET in str(path)]
