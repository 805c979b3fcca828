"""One COG a band: the bands of the one COG, each under its name, made together or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import scene_factory as factory
from command_line import assert_refused, run_here
from fakes import Fake
from rasterio.enums import MaskFlags

import geosegsr
from geosegsr.errors import BandError, JobError, SceneError
from geosegsr.pipeline import run
from geosegsr.pipeline.job import Job
from geosegsr.pipeline.standing import Standing, standing
from geosegsr.pipeline.task import Request

NAMES = ("B02", "B8A", "SWIR 1/2")
STEMS = ("B02", "B8A", "SWIR_1_2")
KWARGS = {"scale": 2, "model": "bicubic", "tile": 16, "overlap": 4, "block": 48}
ITEM = {"stac": True, "acquired": "2024-05-01T10:00:00Z"}


def named_scene(path: Path, names: tuple[str, ...] = NAMES) -> Path:
    """Three bands with names, scales and units of their own, and nodata along an edge."""
    factory.write_nodata(path, nodata=0)
    with rasterio.open(path, "r+") as out:
        out.descriptions = names
        out.scales, out.offsets = (1e-4, 2e-4, 3e-4), (-0.1, 0.0, 0.2)
        out.units = ("1", "1", "K")
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return named_scene(tmp_path / "in.tif")


def bands_of(target: Path, stems: tuple[str, ...] = STEMS) -> list[Path]:
    return [target.with_stem(f"{target.stem}_{stem}") for stem in stems]


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_each_band_of_the_one_cog_is_a_cog(source: Path, tmp_path: Path) -> None:
    geosegsr.upscale(source, tmp_path / "one.tif", **KWARGS)
    report = geosegsr.upscale(source, tmp_path / "out.tif", separate=True, **KWARGS)
    made = bands_of(tmp_path / "out.tif")
    assert report.files == tuple(map(str, made))
    assert report.bytes == sum(path.stat().st_size for path in made)
    assert not (tmp_path / "out.tif").exists() and not list(tmp_path.glob("*.geosegsr"))
    with rasterio.open(tmp_path / "one.tif") as one:
        for number, path in enumerate(made, 1):
            with rasterio.open(path) as band:
                np.testing.assert_array_equal(band.read(1), one.read(number))
                assert band.count == 1 and band.nodata == one.nodata and band.transform == one.transform
                for what in ("descriptions", "scales", "offsets", "units", "dtypes"):
                    assert getattr(band, what) == (getattr(one, what)[number - 1],)
                assert band.tags(1) == one.tags(number)
                assert band.tags()["GEOSEGSR_MODEL"] == "bicubic"
        valid = tuple(int(np.count_nonzero(one.read_masks(number))) for number in (1, 2, 3))
    assert report.valid_pixels == valid


def test_a_mask_and_an_area_come_with_each_band(tmp_path: Path) -> None:
    source = factory.write_internal_mask(tmp_path / "in.tif")
    geosegsr.upscale(source, tmp_path / "one.tif", **KWARGS)
    report = geosegsr.upscale(source, tmp_path / "out.tif", separate=True, **KWARGS)
    with rasterio.open(tmp_path / "one.tif") as one:
        for number, path in enumerate(report.files, 1):
            with rasterio.open(path) as band:
                assert band.mask_flag_enums[0] == [MaskFlags.per_dataset]
                np.testing.assert_array_equal(band.read_masks(1), one.read_masks(number))


def test_bands_without_distinct_names_are_numbered(tmp_path: Path) -> None:
    source = named_scene(tmp_path / "in.tif", ("red", "Red", "nir"))
    report = geosegsr.upscale(source, tmp_path / "out.tif", separate=True, bands=[3, 2, 1], **KWARGS)
    assert [Path(path).name for path in report.files] == ["out_b3.tif", "out_b2.tif", "out_b1.tif"]
    with rasterio.open(report.files[0]) as band:
        assert band.descriptions == ("nir",)


def test_what_is_finished_stays_and_a_missing_band_is_made_again(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.tif"
    geosegsr.upscale(source, target, separate=True, **KWARGS)
    before = files_in(tmp_path)
    assert geosegsr.upscale(source, target, separate=True, **KWARGS).status == "skipped"
    assert files_in(tmp_path) == before
    first, second, _ = bands_of(target)
    second.unlink()
    assert geosegsr.upscale(source, target, separate=True, **KWARGS).status == "done"
    assert files_in(tmp_path) == before
    first.write_bytes(second.read_bytes())  # another band of the same run
    with pytest.raises(JobError, match=r"out_B02\.tif': it exists, and was made from another source"):
        geosegsr.upscale(source, target, separate=True, **KWARGS)
    geosegsr.upscale(source, target, separate=True, overwrite=True, **KWARGS)
    assert files_in(tmp_path) == before


def test_anothers_file_under_the_name_of_a_band_is_kept(source: Path, tmp_path: Path) -> None:
    factory.write_plain(bands_of(tmp_path / "out.tif")[1], size=(4, 5), count=1)
    before = files_in(tmp_path)
    with pytest.raises(JobError, match=r"out_B8A\.tif': it exists\. Pass --overwrite"):
        geosegsr.upscale(source, tmp_path / "out.tif", separate=True, **KWARGS)
    assert files_in(tmp_path) == before


def test_a_source_with_the_name_of_its_own_band_is_kept(tmp_path: Path) -> None:
    source = named_scene(tmp_path / "in_B02.tif")
    with pytest.raises(JobError, match=r"in_B02\.tif': it is the source itself"):
        geosegsr.upscale(source, tmp_path / "in.tif", separate=True, overwrite=True, **KWARGS)


@pytest.mark.parametrize("placed", [0, 1, 2])
def test_a_run_killed_between_two_files_is_finished_by_the_same_command(
    placed: int, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, place, calls = tmp_path / "out.tif", Job._place, []

    def killed(*args: object) -> None:
        calls.append(args)
        if len(calls) > placed:
            raise KeyboardInterrupt
        place(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Job, "_place", killed)
        with pytest.raises(KeyboardInterrupt):
            geosegsr.upscale(source, target, separate=True, **KWARGS)
    assert len([path for path in bands_of(target) if path.exists()]) == placed
    task = Request(2, "bicubic", {"tile": 16, "overlap": 4, "block": 48, "separate": True}).prepare(
        str(source), target
    )
    assert standing(task) is Standing.UNFINISHED
    report = geosegsr.upscale(source, target, separate=True, **KWARGS)
    assert report.blocks_resumed == report.blocks > 1
    geosegsr.upscale(source, tmp_path / "one.tif", **KWARGS)
    with rasterio.open(tmp_path / "one.tif") as one:
        for number, path in enumerate(bands_of(target), 1):
            with rasterio.open(path) as band:
                np.testing.assert_array_equal(band.read(1), one.read(number))


def test_a_band_that_cannot_be_verified_keeps_all_from_their_places(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, calls = run.verify_cog, []

    def refuse(path: Path, *args: object, **kwargs: object) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise SceneError("Cannot accept it.")
        honest(path, *args, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(run, "verify_cog", refuse)
        with pytest.raises(SceneError):
            geosegsr.upscale(source, tmp_path / "out.tif", separate=True, **KWARGS)
    assert not any(path.exists() for path in bands_of(tmp_path / "out.tif"))
    with pytest.raises(JobError, match="separate was true, now null"):
        geosegsr.upscale(source, tmp_path / "out.tif", **KWARGS)
    assert geosegsr.upscale(source, tmp_path / "out.tif", separate=True, **KWARGS).blocks_resumed


def test_the_item_lists_the_bands(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.tif"
    geosegsr.upscale(source, target, separate=True, **ITEM, **KWARGS)
    item = json.loads((tmp_path / "out.json").read_text())
    assets = {name: asset for name, asset in item["assets"].items() if asset["roles"] == ["data"]}
    assert {name: asset["href"] for name, asset in assets.items()} == {
        stem: f"./{path.name}" for stem, path in zip(STEMS, bands_of(target), strict=True)
    }
    assert [asset["bands"][0]["name"] for asset in assets.values()] == list(NAMES)
    before = files_in(tmp_path)
    assert geosegsr.upscale(source, target, separate=True, **ITEM, **KWARGS).status == "skipped"
    assert files_in(tmp_path) == before
    (tmp_path / "out.json").write_text("{}")
    with pytest.raises(JobError, match="a file that is none"):
        geosegsr.upscale(source, target, separate=True, **ITEM, **KWARGS)


def test_an_uncertainty_has_all_bands(source: Path, tmp_path: Path) -> None:
    report = geosegsr.upscale(
        source, tmp_path / "out.tif", 2, Fake(), separate=True, ensemble=True, uncertainty=tmp_path / "sd.tif"
    )
    with rasterio.open(tmp_path / "sd.tif") as sd:
        assert sd.count == len(report.files) == 3


def test_an_alpha_band_belongs_to_all(tmp_path: Path) -> None:
    source = factory.write_alpha(tmp_path / "in.tif")
    with pytest.raises(BandError, match="Pass --bands without it"):
        geosegsr.upscale(source, tmp_path / "out.tif", separate=True, **KWARGS)
    report = geosegsr.upscale(source, tmp_path / "out.tif", separate=True, bands=[1, 2, 3], **KWARGS)
    with rasterio.open(source) as alpha, rasterio.open(report.files[1]) as band:
        np.testing.assert_array_equal(band.read_masks(1)[::2, ::2] > 0, alpha.read(4) > 0)


def test_results_beside_the_sources_are_no_scenes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("a.tif", "b.tif"):
        named_scene(tmp_path / name)
    command = ("upscale", f"{tmp_path}/*.tif", "-o", tmp_path, "-s", 2, "-m", "bicubic", "--separate")
    first = run_here(capfd, *command, "--json")
    assert first.code == 0, first
    outcomes = [json.loads(line) for line in first.out.splitlines()]
    assert sorted(Path(outcome["source"]).name for outcome in outcomes) == ["a.tif", "b.tif"]
    assert all(len(outcome["files"]) == 3 and outcome["sha256"] is None for outcome in outcomes)
    before = files_in(tmp_path)
    assert set(before) == {
        "a.tif", "b.tif", *(f"{stem}_x2_{band}.tif" for stem in "ab" for band in STEMS)
    }  # fmt: skip
    again = run_here(capfd, *command, "--json")
    assert [json.loads(line)["status"] for line in again.out.splitlines()] == ["skipped", "skipped"]
    assert run_here(capfd, *command, "--dry-run").out.startswith("scenes   0 to do; 2 finished")
    assert files_in(tmp_path) == before


def test_a_source_that_a_band_could_replace_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.tif", "a_B02.tif"):
        named_scene(tmp_path / name)
    before = files_in(tmp_path)
    command = ("upscale", f"{tmp_path}/*.tif", "-o", tmp_path, "--name", "{stem}.tif", "-s", 2)
    done = run_here(capfd, *command, "-m", "bicubic", "--separate", "--overwrite")
    assert_refused(done, 1, "it is a source of this batch, too")
    assert files_in(tmp_path) == before


def test_dry_run_writes_nothing(source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = files_in(tmp_path)
    command = ("upscale", source, "-o", tmp_path / "out.tif", "-s", 2, "-m", "bicubic", "--separate")
    done = run_here(capfd, *command, "--dry-run")
    assert done.code == 0 and "3 bands uint16" in done.out
    assert files_in(tmp_path) == before
