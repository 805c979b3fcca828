"""Names that a result may have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import rasterio
import scene_factory as factory
from command_line import assert_refused, run_here

from geosegsr.errors import SceneError
from geosegsr.pipeline.targets import check_name

OPTIONS = ("--model", "bicubic", "--scale", 2)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return factory.write_plain(tmp_path / "in.tif")


@pytest.mark.parametrize(
    "name",
    ["a.tif", "a.TIF", "a.tiff", "a", "b.d/a.tif", "s3/a.tif", "s3://b/a.tif", "gs://b/a", "/vsiaz/b/a.tif"],
)
def test_names_of_results(name: str) -> None:
    check_name(Path(name))


@pytest.mark.parametrize(
    ("name", "better"),
    [("x.png", "x.tif"), ("x.JP2", "x.tif"), ("x.vrt", "x.tif"), ("in.d/x.nc", "in.d/x.tif"), ("x.5 m", "x.5 m.tif"), ("a.1", "a.1.tif")],
)  # fmt: skip
def test_another_suffix_is_refused_with_the_right_name(name: str, better: str) -> None:
    with pytest.raises(SceneError, match="GeoTIFF") as caught:
        check_name(Path(name))
    assert f"Name it '{better}'." in str(caught.value)


def test_standard_output_is_no_place_for_a_cog() -> None:
    with pytest.raises(SceneError, match=r"standard output. Pass -o with a file's name"):
        check_name(Path("-"))


@pytest.mark.parametrize(
    "name",
    ["https://a.org/x.tif?sig=S", "ftp://a.org/x.tif", "/vsicurl/https://a.org/x.tif", "/vsimem/x.tif"],
)
def test_a_remote_name_is_refused(name: str) -> None:
    with pytest.raises(SceneError, match="local folders and to object stores") as caught:
        check_name(Path(name))
    assert f"'{name.partition('?')[0]}'" in str(caught.value)


def test_a_local_folder_may_look_remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:").mkdir()
    check_name(Path("s3:/x.tif"))


@pytest.mark.parametrize(
    "output", ["x.png", "s3://bucket/x.png", "s3://bucket/a//x.tif", "https://a.org/x.tif", "/vsimem/new/"]
)
def test_nothing_is_created_where_a_name_is_refused(
    output: str,
    scene: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for more in ((), ("--dry-run",)):
        outcome = run_here(capfd, "upscale", scene, "-o", output, *OPTIONS, *more)
        assert_refused(outcome, 1, output.rstrip("/"))
        assert "mkdir" not in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["in.tif"]


def test_names_in_a_folder_are_checked_once(
    scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    outcome = run_here(capfd, "upscale", scene, "-o", f"{tmp_path}/out/", "--name", "{stem}.png", *OPTIONS)
    assert_refused(outcome, 1, "in.png", "in.tif")


def test_model_device_and_precision_are_stated(
    scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.tif"
    outcome = run_here(capfd, "upscale", scene, "-o", target, *OPTIONS, "--json", "-v")
    report = json.loads(outcome.out)
    assert (report["model"], report["device"], report["precision"]) == ("bicubic", "cpu", "fp32")
    assert "by bicubic on cpu in fp32" in outcome.err
    with rasterio.open(target) as source:
        tags = source.tags()
    assert (tags["GEOSEGSR_DEVICE"], tags["GEOSEGSR_PRECISION"]) == ("cpu", "fp32")
