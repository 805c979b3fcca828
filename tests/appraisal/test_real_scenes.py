"""Real scenes, upscaled by the bundled model, are judged rightly; the same results with a spoil are not praised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import spoils
from rasterio.windows import Window

from geosegsr import upscale
from geosegsr.appraisal.inputs import open_pair, open_pairs
from geosegsr.appraisal.survey import Survey
from geosegsr.appraisal.verdict import Verdict, judge, judge_all

pytestmark = pytest.mark.filterwarnings("ignore::geosegsr.errors.GeoSegSRWarning")

SCENES = {
    "aerial": ("ortho_25cm_1000.tif", (300, 300), [1, 2, 3]),
    "sentinel2": ("sentinel2_l2a_tapajos_uint16_scaled.tif", (40, 40), [4, 3, 2]),
    "landsat": ("landsat7_2181x1917_nodata0.tif", (1200, 600), [1, 2, 3]),
}
_SIDE = 136


@pytest.fixture(scope="module", params=SCENES)
def made(
    request: pytest.FixtureRequest, real_scenes: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A crop of a scene, and its result."""
    name, (row, col), bands = SCENES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    window = Window(col, row, _SIDE, _SIDE)
    with rasterio.open(real_scenes / name) as source:
        profile = {
            "driver": "GTiff", "width": _SIDE, "height": _SIDE, "count": len(bands), "dtype": source.dtypes[0],
            "crs": source.crs, "transform": source.window_transform(window), "nodata": source.nodata,
        }  # fmt: skip
        values = source.read(bands, window=window)
        scales, offsets = source.scales[0], source.offsets[0]
    with rasterio.open(folder / "in.tif", "w", **profile) as out:
        out.write(values)
        out.scales, out.offsets = [scales] * len(bands), [offsets] * len(bands)
    upscale(folder / "in.tif", folder / "out.tif", 4)
    return folder / "in.tif", folder / "out.tif"


def _verdict(source: Path, result: Path) -> Verdict:
    return judge(Survey.of(open_pair(source, result)))


def test_a_real_result_has_no_fault(made: tuple[Path, Path]) -> None:
    verdict = _verdict(*made)
    assert verdict.grade == "good", verdict
    assert {"seams", "colour", "model", "noise"} <= {found.topic for found in verdict.findings}


@pytest.mark.parametrize("topic", spoils.SPOILS)
def test_a_spoil_of_a_real_result_is_found(made: tuple[Path, Path], tmp_path: Path, topic: str) -> None:
    pair = open_pair(*made)
    low, high = pair.span
    with rasterio.open(made[1]) as source:
        profile, tags, values = source.profile, source.tags(), source.read()
        scales, offsets = source.scales, source.offsets
    valid = values != (profile["nodata"] if profile["nodata"] is not None else -1)
    levels = (values - low) / (high - low) * 255
    strength = 3 if topic == "noise" else 1  # fainter strokes are lost among the texture of the Landsat scene
    change = strength * (spoils.SPOILS[topic](levels) - levels)
    spoiled = np.where(valid, (levels + change) / 255 * (high - low) + low, values)
    limits = np.iinfo(values.dtype)
    whole = np.clip(np.rint(spoiled), limits.min + 1, limits.max).astype(values.dtype)
    profile |= {"driver": "GTiff", "tiled": False}
    for name in ("blockxsize", "blockysize", "compress", "interleave"):
        profile.pop(name, None)
    with rasterio.open(tmp_path / "spoiled.tif", "w", **profile) as out:
        out.write(np.where(valid, whole, values))
        out.update_tags(**tags)
        out.scales, out.offsets = scales, offsets
    verdict = _verdict(made[0], tmp_path / "spoiled.tif")
    assert topic in {found.topic for found in verdict.findings if found.grade == "fault"}, verdict
    assert topic not in {found.topic for found in verdict.findings if found.grade == "good"}


def test_the_bands_of_a_small_product_have_no_fault(tmp_path: Path) -> None:
    """120 x 120 pixels of 10 m; coarser bands are plain means, and 20 x 20 pixels of 60 m show little."""
    product = next((Path(__file__).parents[3] / "shared/field").glob("S2A_MSIL1C_*.zip"), None)
    if product is None:
        pytest.skip("needs ../shared/field")
    upscale(product, tmp_path / "out.tif", 1)
    pairs = open_pairs(product, tmp_path / "out.tif")
    verdict = judge_all([Survey.of(pair) for pair in pairs])
    assert len(pairs) == 3
    assert verdict.grade == "good", verdict
    assert "noise of 60m" in verdict.headline
