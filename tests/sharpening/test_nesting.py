"""Which grids nest, and where a guide lies on the fine grid."""

import numpy as np
import pytest
from affine import Affine

from geosegsr.errors import SceneError
from geosegsr.raster.window import Window
from geosegsr.sharpening.nesting import Grid, Nesting

CRS = "EPSG:32633"
COARSE = Grid("coarse", 20, 30, Affine(20, 0, 600000, 0, -20, 5900000), CRS)


def guide(pixel: float = 10, x: float = 600000, y: float = 5900000, size: tuple[int, int] = (40, 60)) -> Grid:
    return Grid("guide", *size, Affine(pixel, 0, x, 0, -pixel, y), CRS)


def test_the_same_ground() -> None:
    nesting = Nesting.of(COARSE, guide())
    assert (nesting.ratio, nesting.row, nesting.col) == (2, 0, 0)


def test_a_guide_that_covers_more_or_less() -> None:
    nesting = Nesting.of(COARSE, guide(x=600000 - 30, y=5900000 - 10, size=(39, 70)))
    assert (nesting.row, nesting.col) == (1, -3)
    assert nesting.read(Window(0, 0, 10, 10)) == Window(0, 3, 9, 10)
    values = np.ones((1, 9, 10))
    spread, valid = nesting.spread(Window(0, 0, 10, 10), values, values > 0)
    assert spread.shape == (1, 10, 10) and valid.sum() == 90 and not valid[0, 0].any()


def test_rotated_grids_nest() -> None:
    turned = Affine.rotation(20) @ Affine.scale(20, -20)
    nesting = Nesting.of(
        Grid("coarse", 20, 30, turned, CRS), Grid("guide", 60, 90, turned @ Affine.scale(1 / 3), CRS)
    )
    assert nesting.ratio == 3


def test_rasters_without_georeference_nest_by_size() -> None:
    assert Nesting.of(Grid("a", 20, 30, None, None), Grid("b", 120, 180, None, None)).ratio == 6


@pytest.mark.parametrize(
    "other",
    [
        guide(pixel=7),
        guide(pixel=20),
        guide(pixel=1),
        guide(x=600003),
        guide(x=700000),
        Grid("guide", 40, 60, Affine(10, 0, 600000, 0, -10, 5900000), "EPSG:32634"),
        Grid("guide", 40, 60, None, None),
        Grid("guide", 40, 60, Affine(10, 1, 600000, 1, -10, 5900000), CRS),
        Grid("guide", 40, 60, Affine(10, 0, 600000, 0, 10, 5900000), CRS),
    ],
)
def test_others_are_refused_with_both_names(other: Grid) -> None:
    with pytest.raises(SceneError, match="Cannot sharpen 'coarse' by 'guide'"):
        Nesting.of(COARSE, other)
