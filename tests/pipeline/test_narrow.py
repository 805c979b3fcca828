"""Scenes of a few pixels in 16 bits: the pixels of 32 bits, and the same in every run.

`benchmarks/quality/narrow.py` tries all widths up to 40.
"""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from scipy import ndimage

import geosegsr
from geosegsr.models.catalogue import bundled_checkpoint, load_upscaler
from geosegsr.models.contract import fitted
from geosegsr.tiling.grid import TileGrid, Tiling

FIELD = Path(__file__).parents[3] / "shared" / "field"


def scene(rows: int, cols: int) -> xr.DataArray:
    noise = np.random.default_rng(rows * 1000 + cols).normal(size=(3, rows + 8, cols + 8))
    smooth = ndimage.gaussian_filter(noise, (0, 1.5, 1.5))[:, 4:-4, 4:-4]
    return xr.DataArray(np.clip(128 + 120 * smooth, 0, 255).astype(np.uint8), dims=("band", "y", "x"))


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_every_tile_of_a_narrow_scene_is_computed_in_32_bits(scale: int) -> None:
    """Of each width up to 40 with each length from 16 to 320, lying and standing: so both precisions are one network."""
    model = load_upscaler(bundled_checkpoint(scale), device="cpu", precision="bf16")
    facts = model.facts
    tiling = Tiling(facts.tile, facts.overlap, facts.halo, facts.multiple_of, facts.min_size)

    def sides(size: int) -> set[int]:
        """Of the tiles along a side, padded as the model takes them; the other side makes no difference."""
        grid = TileGrid.plan(size, size, tiling, block=1024)
        seen = {grid.tile_window(row, 0).height for row in range(len(grid.rows.origins))}
        return {fitted(side, facts.multiple_of, facts.min_size) for side in seen}

    widths = {side for width in range(1, 41) for side in sides(width)}
    lengths = {side for length in range(16, 321) for side in sides(length)}
    assert {model._computes_in(w, n) for w in widths for n in lengths} == {"fp32"}
    assert {model._computes_in(n, w) for w in widths for n in lengths} == {"fp32"}
    assert model.in_float32().precision == "fp32"
    assert model._computes_in(41, 41) == "bf16"


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_sixteen_bits_have_the_pixels_of_thirty_two(scale: int) -> None:
    models = {
        name: load_upscaler(bundled_checkpoint(scale), device="cpu", precision=name)
        for name in ("bf16", "fp32")
    }
    for shape in ((200, 8), (97, 1), (2, 80), (40, 44)):
        narrow = scene(*shape)
        rough, fine = (
            geosegsr.super_resolve(narrow, scale, models[p]).values.astype(int) for p in ("bf16", "fp32")
        )
        np.testing.assert_array_equal(rough, fine)
        np.testing.assert_array_equal(geosegsr.super_resolve(narrow, scale, models["bf16"]).values, rough)


@pytest.mark.skipif(not FIELD.exists(), reason="needs the field inputs")
@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_a_file_of_eight_columns_has_the_same_bytes_in_every_run(tmp_path: Path, scale: int) -> None:
    for name, precision in (("first", "bf16"), ("second", "bf16"), ("exact", "fp32")):
        geosegsr.upscale(FIELD / "narrow_8x200.tif", tmp_path / f"{name}.tif", scale, precision=precision)
    assert (tmp_path / "first.tif").read_bytes() == (tmp_path / "second.tif").read_bytes()
    with rasterio.open(tmp_path / "first.tif") as rough, rasterio.open(tmp_path / "exact.tif") as exact:
        off = np.abs(rough.read().astype(int) - exact.read())
    assert off.max() <= 1 and off.mean() < 0.1
