"""The report: one file with everything inside, of any scene that upscale takes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
import spoils
from command_line import run, run_here

from geosegsr import upscale
from geosegsr.appraisal.inputs import open_pair
from geosegsr.appraisal.places import choose
from geosegsr.appraisal.report import report
from geosegsr.appraisal.survey import Survey
from geosegsr.errors import ConfigError, JobError
from geosegsr.models.catalogue import bundled_checkpoint


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return spoils.sound_pair(tmp_path_factory.mktemp("pair"), nodata=True)


def test_the_page_holds_everything_and_asks_nothing_of_the_network(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    shares: list[float] = []
    made = report(*pair, tmp_path / "r.html", truth=pair[1], progress=shares.append)
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1
    page = Path(made.path).read_text(encoding="utf-8")
    assert made.bytes == len(page.encode()) < 15_000_000
    assert made.verdict.headline in page
    for heading in (
        "Agreement",
        "Spectra",
        "Seams",
        "Sensor",
        "Values by band",
        "Provenance",
        "Against the truth",
    ):
        assert f"<h2>{heading}" in page
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", page)
    assert "Permission is hereby granted" in page
    views = json.loads(re.search(r'id="views">(.*?)</script>', page, re.S).group(1))
    assert 6 <= len(views) <= 13
    assert {"Most changed", "Most typical", "Edge of nodata"} <= {view["title"] for view in views}
    assert views[0]["whole"]
    assert (views[0]["width"], views[0]["height"]) == (spoils.SIDE * spoils.SCALE,) * 2


def test_seams_are_places_to_look_at(tmp_path: Path) -> None:
    source, _ = spoils.sound_pair(tmp_path)
    survey = Survey.of(open_pair(source, spoils.spoiled(source, tmp_path, "seams")))
    [first, *_] = choose(survey.cells, survey.steps.worst, survey.pair)
    assert first.title == "Seam"
    inside = [
        row
        for row in range(80, survey.pair.height, 80)
        if first.window.row <= row <= first.window.row_stop
        or first.window.col <= row <= first.window.col_stop
    ]
    assert inside


def test_the_guidance_of_the_bundled_model_is_shown(tmp_path: Path) -> None:
    source = tmp_path / "scene.tif"
    spoils.write(source, spoils.ground(side=16), 2.0)
    upscale(source, tmp_path / "out.tif", 2)
    page = Path(report(source, tmp_path / "out.tif").path).read_text(encoding="utf-8")
    assert "<h2>Guidance" in page
    assert page.count("Unit ") == 2 * 2  # a name and a description each


def test_the_guidance_of_another_model_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another model"):
        report(*pair, tmp_path / "r.html", model=bundled_checkpoint(4))


def test_a_file_that_is_no_report_is_kept(pair: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "mine.html"
    other.write_text("mine")
    with pytest.raises(JobError, match="--overwrite"):
        report(*pair, other)
    with pytest.raises(JobError, match="one of the rasters"):
        report(*pair, pair[0])
    assert other.read_text() == "mine"


def test_hostile_names_stay_text(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with rasterio.open(pair[1]) as file:
        values = file.read()
    tags = spoils.tags() | {"GEOSEGSR_MODEL": "</script><script>alert(1)</script>"}
    result = spoils.write(tmp_path / "named.tif", values, 0.5, 0.0, **tags)
    page = Path(report(pair[0], result, tmp_path / "r.html").path).read_text(encoding="utf-8")
    assert "<script>alert" not in page


def test_the_command_writes_a_report_beside_the_result(pair: tuple[Path, Path]) -> None:
    done = run("report", pair[0], pair[1])
    assert done.code == 0, done.err
    assert done.out.startswith("No fault found")
    assert pair[1].with_suffix(".html").is_file()
    again = run("report", pair[0], pair[1], "--json")
    assert json.loads(again.out)["grade"] == "good"


def test_one_band_and_an_area_of_a_scene(tmp_path: Path) -> None:
    """A result of a part, with its window in the tags, beside the whole input."""
    hr = spoils.ground()[:1]
    source = spoils.write(tmp_path / "scene.tif", spoils.imresize_down(hr, spoils.SCALE), 2.0)
    part = hr[:, 64:512, 128:640]
    options = json.dumps({"tile": [96, 96], "overlap": 16, "bands": [1], "window": [32, 16, 128, 112]})
    tags = spoils.tags() | {"GEOSEGSR_OPTIONS": options}
    result = spoils.write(tmp_path / "part.tif", part, 0.5, **tags)
    made = report(source, result)
    assert made.verdict.grade == "good", made.verdict
    assert np.isfinite(made.bytes)


def test_upscale_writes_a_preview_and_a_report(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = spoils.write(tmp_path / "a.tif", spoils.ground(side=24), 2.0)
    options = (
        "-m",
        "bicubic",
        "--scale",
        2,
        "--preview",
        tmp_path / "p.png",
        "--report",
        tmp_path / "r.html",
        "--json",
    )
    done = run_here(capfd, "upscale", source, "-o", tmp_path / "out.tif", *options)
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert said["preview"] == str(tmp_path / "p.png")
    assert said["appraisal"]["path"] == str(tmp_path / "r.html")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "p.png").write_bytes(b"mine")
    again = run_here(capfd, "upscale", source, "-o", tmp_path / "other.tif", *options)
    assert again.code == 1 and "another file has that name" in again.err
    assert not (tmp_path / "other.tif").exists()
    assert (tmp_path / "p.png").read_bytes() == b"mine"


def test_a_batch_has_one_of_each(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sources = [spoils.write(tmp_path / f"{name}.tif", spoils.ground(side=24), 2.0) for name in "ab"]
    command = ("upscale", *sources, "-o", f"{tmp_path}/out/", "-m", "bicubic", "--scale", 2)
    refused = run_here(capfd, *command, "--preview", "p.png")
    assert refused.code == 2 and "{stem}" in refused.err
    done = run_here(capfd, *command, "--preview", "{stem}.png", "--report", "{stem}.html")
    assert done.code == 0, done.err
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert made == {f"{name}_x2.{kind}" for name in "ab" for kind in ("tif", "png", "html")}


def test_evaluate_measures_a_result_by_its_input_alone(
    pair: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    text = run_here(capfd, "evaluate", pair[1], "--lr", pair[0])
    assert text.code == 0, text.err
    assert "No fault found" in text.out and "without a truth" in text.out
    found = json.loads(run_here(capfd, "evaluate", pair[1], "--lr", pair[0], "--json").out)
    assert found["grade"] == "good"
    assert [band["name"] for band in found["bands"]] == ["red", "green", "blue"]
    refused = run_here(capfd, "evaluate", "--model", "bicubic", "--lr", pair[0])
    assert refused.code == 2 and "--hr" in refused.err


def test_a_file_that_is_its_own_truth_is_said(
    pair: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    said = run_here(capfd, "evaluate", pair[1], "--hr", pair[1])
    assert "the same file: these scores say nothing" in said.out
