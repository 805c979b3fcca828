"""Eight orientations: their mean, and how far they lie apart, in a COG of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import rasterio
import scene_factory as factory
from fakes import Fake
from rio_cogeo.cogeo import cog_validate

import geosegsr
from geosegsr import files
from geosegsr.errors import ConfigError, GeoSegSRWarning, JobError
from geosegsr.models.contract import FloatArray
from geosegsr.models.ensemble import Ensemble, mean_and_spread
from geosegsr.pipeline.job import Job
from geosegsr.pipeline.plan import plan

RUN = import_module("geosegsr.pipeline.run")
"""Where tests replace the steps of a run."""


@dataclass(frozen=True)
class Wry(Fake):
    """A model that sees one corner of a tile brighter: no two orientations agree."""

    tilt: float = 0.05

    def __call__(self, lr: FloatArray, guide: FloatArray | None = None) -> FloatArray:
        out = super().__call__(lr, guide)
        return out + self.tilt / 3 * np.linspace(0, 1, out.shape[2], dtype=np.float32)[:, None]


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return factory.write_nodata(tmp_path / "in.tif")


def lr(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).random(shape).astype(np.float32)


@pytest.mark.parametrize("size", [(8, 8), (8, 13)])
def test_the_ensemble_of_a_model_that_knows_no_direction_is_the_model(size: tuple[int, int]) -> None:
    model, tile = Fake(), lr((2, 3, *size))
    ensemble = Ensemble.of(model)
    np.testing.assert_array_equal(ensemble(tile, tile), model(tile, tile))
    assert not mean_and_spread(ensemble.members(tile))[1].any()


@pytest.mark.parametrize("size", [(8, 8), (8, 13)])
def test_mean_and_spread_are_those_of_all_eight_orientations(size: tuple[int, int]) -> None:
    model, tile = Wry(), lr((1, 3, *size))
    members = []
    for axes in ((), (2,), (3,), (2, 3)):  # the flips, and the same of the transposed tile
        members.append(np.flip(model(np.flip(tile, axes)), axes))
        members.append(np.flip(model(np.flip(tile, axes).swapaxes(2, 3)).swapaxes(2, 3), axes))
    mean, spread = mean_and_spread(Ensemble.of(model).members(tile))
    np.testing.assert_allclose(mean, np.mean(members, axis=0), atol=1e-6)
    np.testing.assert_allclose(spread, np.std(members, axis=0), atol=1e-6)
    assert spread.max() > 0.01


def test_a_turned_tile_gives_the_turned_result() -> None:
    ensemble, tile = Ensemble.of(Wry()), lr((1, 3, 8, 13))
    straight, turned = ensemble(tile), ensemble(np.ascontiguousarray(np.rot90(tile, 1, (2, 3))))
    np.testing.assert_allclose(np.rot90(straight, 1, (2, 3)), turned, atol=1e-6)


def test_an_interpolation_has_no_ensemble(scene: Path) -> None:
    with pytest.raises(ConfigError, match="interpolation gives the same in every orientation"):
        plan(scene, 2, "bicubic", ensemble=True)


def test_uncertainty_needs_an_ensemble(scene: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="without --ensemble"):
        geosegsr.upscale(scene, tmp_path / "out.tif", 2, Wry(), uncertainty=tmp_path / "sd.tif")


def both(scene: Path, folder: Path, model: Fake = Wry(), **options: object) -> tuple[Path, Path]:
    folder.mkdir(exist_ok=True)
    image, spread = folder / "out.tif", folder / "sd.tif"
    geosegsr.upscale(
        scene, image, 2, model, ensemble=True, uncertainty=spread, overlap=8, **{"block": 40} | options  # type: ignore[arg-type]
    )  # fmt: skip
    return image, spread


def test_the_spread_lies_on_the_same_ground_and_is_marked_where_there_is_no_data(
    scene: Path, tmp_path: Path
) -> None:
    image_path, spread_path = both(scene, tmp_path / "both")
    with rasterio.open(image_path) as image, rasterio.open(spread_path) as spread:
        assert (spread.shape, spread.count, spread.crs) == (image.shape, image.count, image.crs)
        assert spread.transform == image.transform
        assert set(spread.dtypes) == {"float32"} and np.isnan(spread.nodata)
        valid, deviation = image.read_masks() > 0, spread.read()
        np.testing.assert_array_equal(np.isfinite(deviation), valid)
        assert deviation[valid].min() >= 0 and deviation[valid].max() > 0.5  # DN
        assert "no calibrated error" in spread.tags()["GEOSEGSR_NOTE"]
        assert spread.descriptions[0].startswith("standard deviation of")
        assert json.loads(image.tags()["GEOSEGSR_OPTIONS"])["ensemble"] is True
    assert cog_validate(str(spread_path), strict=True, quiet=True)[0]
    assert not list(tmp_path.glob("both/*.geosegsr"))


def test_no_spread_where_a_model_knows_no_direction(scene: Path, tmp_path: Path) -> None:
    image, spread = both(scene, tmp_path / "both", Fake())
    geosegsr.upscale(scene, tmp_path / "plain.tif", 2, Fake(), overlap=8, block=40)
    with (
        rasterio.open(image) as found,
        rasterio.open(tmp_path / "plain.tif") as plain,
        rasterio.open(spread) as out,
    ):
        np.testing.assert_array_equal(found.read(), plain.read())
        assert np.nanmax(out.read()) == 0


def test_spread_and_image_do_not_depend_on_the_blocks(scene: Path, tmp_path: Path) -> None:
    first, second = (
        [rasterio.open(path).read() for path in both(scene, tmp_path / str(block), block=block)]
        for block in (33, 5000)
    )
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_worker_processes_make_the_same_two_files(scene: Path, tmp_path: Path) -> None:
    here, there = (
        [rasterio.open(path).read() for path in both(scene, tmp_path / name, consistency=True, **how)]
        for name, how in (("here", {}), ("there", {"workers": 1}))
    )
    for a, b in zip(here, there, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("stage", ["blocks", "between the two"])
def test_stopped_and_given_again_both_are_as_if_nothing_had_happened(
    stage: str, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = [rasterio.open(path).read() for path in both(scene, tmp_path / "undisturbed")]
    image, spread = tmp_path / "out" / "out.tif", tmp_path / "out" / "sd.tif"
    with monkeypatch.context() as patch:
        if stage == "blocks":
            patch.setattr(Job, "record", _stop_after(3))
        else:
            patch.setattr("geosegsr.pipeline.job.move_new", _stop_at(image))
        with pytest.raises(RuntimeError, match="stopped"):
            both(scene, tmp_path / "out")
    assert not image.exists()
    assert spread.exists() == (stage != "blocks")
    both(scene, tmp_path / "out")
    for path, wanted in zip((image, spread), undisturbed, strict=True):
        with rasterio.open(path) as found:
            np.testing.assert_array_equal(found.read(), wanted)
    assert not Job(image).folder.exists()


def _stop_after(count: int) -> object:
    record = Job.record
    seen: list[object] = []

    def stopping(job: Job, block: object) -> None:
        record(job, block)  # type: ignore[arg-type]
        seen.append(block)
        if len(seen) == count:
            raise RuntimeError("stopped")

    return stopping


def _stop_at(target: Path) -> object:
    move = files.move_new

    def stopping(source: Path, destination: Path) -> None:
        if Path(destination) == target:
            raise RuntimeError("stopped")
        move(source, destination)

    return stopping


def test_a_damaged_spread_block_is_computed_again(scene: Path, tmp_path: Path) -> None:
    wanted = rasterio.open(both(scene, tmp_path / "undisturbed")[1]).read()
    image = tmp_path / "out" / "out.tif"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Job, "record", _stop_after(3))
        with pytest.raises(RuntimeError):
            both(scene, tmp_path / "out")
    damaged = sorted(Job(image).blocks.glob("*.uncertainty.tif"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-100] + bytes(100))
    with pytest.warns(GeoSegSRWarning, match="block 0 of the earlier run is missing or damaged"):
        _, spread = both(scene, tmp_path / "out")
    np.testing.assert_array_equal(rasterio.open(spread).read(), wanted)


def test_an_existing_uncertainty_is_not_replaced_unasked(scene: Path, tmp_path: Path) -> None:
    (tmp_path / "both").mkdir()
    precious = tmp_path / "both" / "sd.tif"
    precious.write_bytes(b"precious")
    with pytest.raises(JobError, match="--overwrite"):
        both(scene, tmp_path / "both")
    assert precious.read_bytes() == b"precious" and not (tmp_path / "both" / "out.tif").exists()
    both(scene, tmp_path / "both", overwrite=True)
    assert rasterio.open(precious).count == rasterio.open(scene).count


def test_the_two_need_names_of_their_own(scene: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.tif"
    with pytest.raises(ConfigError, match="to one file"):
        geosegsr.upscale(scene, target, 2, Wry(), ensemble=True, uncertainty=target)


def test_each_option_makes_another_run(scene: Path) -> None:
    options = [{}, {"consistency": True}, {"ensemble": True}, {"ensemble": True, "uncertainty": True}]
    runs = [json.dumps(plan(scene, 2, Wry(), **o).identity()) for o in options]  # type: ignore[arg-type]
    assert len(set(runs)) == len(runs)


def test_the_report_tells_agreement_also_of_a_result_that_was_left_alone(scene: Path, tmp_path: Path) -> None:
    model = replace(Wry(), tilt=0.3)
    alone = geosegsr.upscale(scene, tmp_path / "alone.tif", 2, model, overlap=8)
    agreeing = geosegsr.upscale(scene, tmp_path / "agreeing.tif", 2, model, overlap=8, consistency=True)
    assert geosegsr.upscale(scene, tmp_path / "plain.tif", 2, "bicubic").consistency == ()
    for before, after in zip(alone.consistency, agreeing.consistency, strict=True):
        assert before["pixels"] == after["pixels"] > 0
        assert after["rms"] < 1 < before["rms"]  # what is left is rounding, and a few pixels clipped at 0
        assert abs(after["mean"]) < 0.05 < abs(before["mean"])
    assert (
        json.loads(json.dumps(agreeing.to_dict()))["consistency"][0]["rms"] == agreeing.consistency[0]["rms"]
    )
