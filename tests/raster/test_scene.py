"""What a scene says of itself, read once; what cannot be upscaled is refused by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scene_factory as factory
from rasterio._env import get_gdal_config

from geosegsr.errors import GeoSegSRWarning
from geosegsr.raster.bands import colour_of
from geosegsr.raster.gdal import reading
from geosegsr.raster.scene import Scene
from geosegsr.raster.window import Window


@pytest.mark.parametrize(
    ("description", "colorinterp", "colour"),
    [
        ("Red", "undefined", "red"), ("B4 red", "gray", "red"), ("B04", "gray", "red"), ("B4", "gray", ""),
        ("red edge 1", "undefined", ""), ("coastal blue", "undefined", ""), ("near infrared", "alpha", "nir"),
        (None, "green", "green"), (None, "gray", ""), ("B08", "undefined", "nir"), ("red_edge", "undefined", ""),
    ],
)  # fmt: skip
def test_colours_are_found_by_name(description: str | None, colorinterp: str, colour: str) -> None:
    assert colour_of(description, colorinterp) == colour


@pytest.mark.parametrize(
    "write",
    [
        factory.write_nodata,
        factory.write_nan,
        factory.write_internal_mask,
        factory.write_external_mask,
        factory.write_alpha,
    ],
    ids=lambda write: write.__name__,
)
def test_windows_hold_the_same_as_the_whole(write, tmp_path: Path) -> None:
    scene = Scene.open(write(tmp_path / "in.tif"))
    values, valid = scene.read(scene.window)
    assert valid.any() and not valid.all()
    part = Window(7, 5, 20, 31)
    some, some_valid = scene.read(part)
    np.testing.assert_array_equal(some, values[(slice(None), *part.slices)])
    np.testing.assert_array_equal(some_valid, valid[(slice(None), *part.slices)])


def test_a_file_moved_to_the_same_path_is_read_anew(tmp_path: Path) -> None:
    path = factory.write_plain(tmp_path / "in.tif", seed=1)
    first, _ = Scene.open(path).read(Window(0, 0, 8, 8))
    factory.write_plain(tmp_path / "other.tif", seed=2).replace(path)
    second, _ = Scene.open(path).read(Window(0, 0, 8, 8))
    assert not np.array_equal(first, second)


def test_blocks_stay_in_gdals_cache(tmp_path: Path) -> None:
    """rasterio takes bytes where GDAL takes megabytes: with a cache of 128 bytes each block was unpacked again and again."""
    with reading(factory.write_plain(tmp_path / "in.tif")):
        assert get_gdal_config("GDAL_CACHEMAX") == 128 << 20


def test_a_sample_of_a_small_scene_is_the_scene(tmp_path: Path) -> None:
    scene = Scene.open(factory.write_nodata(tmp_path / "in.tif"))
    values, valid = scene.sample()
    whole, whole_valid = scene.read(scene.window)
    np.testing.assert_array_equal(values, whole)
    np.testing.assert_array_equal(valid, whole_valid)
    assert scene.sample(side=10)[0].shape[1:] == (8, 10)


def test_alpha_is_a_mask_unless_it_looks_like_an_image(tmp_path: Path) -> None:
    alpha = Scene.open(factory.write_alpha(tmp_path / "alpha.tif"))
    assert alpha.alpha_band == 4 and alpha.count == 3 and not alpha.alpha_looks_like_image
    soft = Scene.open(factory.write_soft_alpha(tmp_path / "soft.tif"))
    assert soft.alpha_band == 4
    nir = Scene.open(factory.write_nir_as_alpha(tmp_path / "nir.tif"))
    assert nir.alpha_band is None and nir.count == 4 and nir.alpha_looks_like_image
    assert Scene.open(factory.write_nir_as_alpha(tmp_path / "nir.tif"), alpha="mask").alpha_band == 4


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"descriptions": ["GRUEN"]}, "the names of its bands are left out"),
        ({"units": ["GRUEN"]}, "the units of its bands are left out"),
        ({"namespaces": {"GRUEN": {"a": "b"}}}, "tags outside the default domain are left out"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_text_that_is_not_utf8_is_left_out(written: dict[str, Any], said: str, tmp_path: Path) -> None:
    """Of programs that write Latin-1: a traceback before."""
    path = factory.write_scene(
        tmp_path / "in.tif", np.ones((1, 20, 20), np.uint8), tags={"kept": "yes"}, **written
    )
    path.write_bytes(path.read_bytes().replace(b"GRUEN", b"GR\xdcN "))
    with pytest.warns(GeoSegSRWarning, match=said):
        scene = Scene.open(path)
    (band,) = scene.metadata.bands
    assert band.description is None and not band.unit
    assert scene.metadata.tags["kept"] == "yes" and not any("N ." in key for key in scene.metadata.tags)
