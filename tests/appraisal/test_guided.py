"""The report of sharpened results: each input on its own grid, whether one guide or a product's bands made them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from guided_scenes import GuidedScene, write

from geosegsr import upscale
from geosegsr.appraisal.inputs import open_pairs
from geosegsr.appraisal.report import appraise, report
from geosegsr.appraisal.verdict import Verdict
from geosegsr.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore::geosegsr.errors.GeoSegSRWarning")


@pytest.fixture(scope="module")
def sharpened(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("guided")
    coarse, guide = GuidedScene.make(side=128).write(folder)
    upscale(coarse, folder / "out.tif", 1, guide=guide)
    return coarse, folder / "out.tif"


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of bands of two pixel sizes, and all of them on the finer grid."""
    top = tmp_path_factory.mktemp("product")
    folder = top / "bands"
    folder.mkdir()
    scene = GuidedScene.make(side=128)
    for name, band, pixel in (
        ("B03", scene.guide[0], 10.0),
        ("B04", scene.guide[1], 10.0),
        ("B11", scene.coarse[0], 20.0),
    ):
        write(folder / f"scene_2024_{name}.tif", np.rint(band[None]).astype(np.uint16), pixel)
    upscale(folder, top / "out.tif", 1)
    return folder, top / "out.tif"


def _verdict(source: Path, result: Path) -> Verdict:
    return appraise(open_pairs(source, result))[1]


def _changed(result: Path, path: Path, change: np.ndarray) -> Path:
    """The result with something added to its pixels, and all its tags."""
    with rasterio.open(result) as file:
        values, profile, tags = file.read(), file.profile, file.tags()
        bands = [(file.descriptions[n], file.tags(n + 1)) for n in range(file.count)]
    profile |= {"driver": "GTiff", "tiled": False}
    for name in ("blockxsize", "blockysize", "compress", "interleave"):
        profile.pop(name, None)
    with rasterio.open(path, "w", **profile) as out:
        out.write(np.clip(np.rint(values + change), 1, 65535).astype(values.dtype))
        out.update_tags(**tags)
        for number, (description, own) in enumerate(bands, 1):
            out.set_band_description(number, description)
            out.update_tags(number, **own)
    return path


def test_a_sharpened_result_agrees_with_its_coarse_input(sharpened: tuple[Path, Path]) -> None:
    [pair] = open_pairs(*sharpened)
    assert (pair.scale, pair.zoom, pair.corner) == (2, 1, (0, 0))
    verdict = _verdict(*sharpened)
    assert verdict.grade == "good", verdict
    [detail] = [found.text for found in verdict.findings if found.topic == "detail"]
    assert "predicted from the guide" in detail


def test_a_colour_shift_of_a_sharpened_band_is_found(sharpened: tuple[Path, Path], tmp_path: Path) -> None:
    spoiled = _changed(sharpened[1], tmp_path / "spoiled.tif", np.array([60, 0])[:, None, None])
    verdict = _verdict(sharpened[0], spoiled)
    [fault] = [found.text for found in verdict.findings if found.topic == "colour"]
    assert verdict.grade == "fault"
    assert "B11" in fault
    assert "B12" not in fault


def test_the_detail_of_other_ground_is_found(sharpened: tuple[Path, Path], tmp_path: Path) -> None:
    with rasterio.open(sharpened[1]) as file:
        values = file.read().astype(float)
    spoiled = _changed(sharpened[1], tmp_path / "spoiled.tif", values[:, ::-1] - values)
    assert "guide" in {
        found.topic for found in _verdict(sharpened[0], spoiled).findings if found.grade == "fault"
    }


def test_an_area_that_cuts_coarse_pixels_is_compared_where_they_are_whole(tmp_path: Path) -> None:
    coarse, guide = GuidedScene.make(side=128).write(tmp_path)
    upscale(coarse, tmp_path / "out.tif", 2, model="bicubic", guide=guide, window=(7, 5, 150, 160))
    [pair] = open_pairs(coarse, tmp_path / "out.tif")
    assert (pair.scale, pair.zoom) == (4, 2)
    assert (pair.window.col, pair.window.row, pair.window.width, pair.window.height) == (4, 3, 74, 79)
    assert pair.corner == (2, 2)
    assert all(found.grade != "fault" for found in _verdict(coarse, tmp_path / "out.tif").findings)


def test_a_grid_half_a_fine_pixel_off_is_compared_in_place(tmp_path: Path) -> None:
    scene = GuidedScene.make(side=128, half=True)
    guide = write(tmp_path / "guide.tif", np.rint(scene.guide).astype(np.uint16), 15.0)
    corner = (600000.0 - 7.5, 5900040.0 + 7.5)
    coarse = write(tmp_path / "coarse.tif", np.rint(scene.coarse).astype(np.uint16), 30.0, corner=corner)
    upscale(coarse, tmp_path / "out.tif", 1, guide=guide)
    surveys, verdict = appraise(open_pairs(coarse, tmp_path / "out.tif"))
    assert verdict.grade == "good", verdict
    assert surveys[0].agreement.shift == pytest.approx((0, 0), abs=0.05)


def test_each_input_of_a_product_has_its_own_grid(product: tuple[Path, Path], tmp_path: Path) -> None:
    pairs = open_pairs(*product)
    assert [(pair.name, pair.scale, pair.source.descriptions) for pair in pairs] == [
        ("10m", 1, ("B03", "B04")),
        ("20m", 2, ("B11",)),
    ]
    made = report(*product, tmp_path / "r.html")
    assert made.verdict.grade == "good", made.verdict
    assert {found.input for found in made.verdict.findings} == {"10m", "20m"}
    page = Path(made.path).read_text(encoding="utf-8")
    titles = [
        view["title"] for view in json.loads(re.search(r'id="views">(.*?)</script>', page, re.S).group(1))
    ]
    assert {"10m: Whole scene", "20m: Whole scene"} <= set(titles)
    assert len(titles) == made.places + 2
    for heading in ("Sharpening report", "Detail from the guide", "20m bands"):
        assert heading in page


def test_one_bad_band_of_a_product_is_named_with_its_input(
    product: tuple[Path, Path], tmp_path: Path
) -> None:
    spoiled = _changed(product[1], tmp_path / "spoiled.tif", np.array([0, 0, 60])[:, None, None])
    faults = [found for found in _verdict(product[0], spoiled).findings if found.grade == "fault"]
    assert [(found.input, found.topic) for found in faults] == [("20m", "colour")]


def test_a_product_of_other_bands_is_refused(product: tuple[Path, Path], tmp_path: Path) -> None:
    for name, pixel in (("B01", 10.0), ("B12", 20.0)):
        side = round(1280 / pixel)
        write(tmp_path / f"scene_2024_{name}.tif", np.full((1, side, side), 7, np.uint16), pixel)
    with pytest.raises(ConfigError, match="raster that the result was made of"):
        open_pairs(tmp_path, product[1])
