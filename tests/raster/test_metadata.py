"""Tags that no longer hold on another grid."""

import pytest

from geosegsr.raster.metadata import is_outdated


@pytest.mark.parametrize(
    "key",
    [
        "STATISTICS_MEAN",
        "crs#GeoTransform",
        "GeoTransform",
        "NC_GLOBAL#geospatial_lat_resolution",
        "geospatial_x_resolution",
        "NC_GLOBAL#spatial_resolution",
        "x#actual_range",
    ],
)
def test_what_describes_the_old_grid_is_outdated(key: str) -> None:
    assert is_outdated(key)


@pytest.mark.parametrize(
    "key", ["AREA_OR_POINT", "crs#spatial_ref", "spectral_resolution", "resolution", "NC_GLOBAL#title"]
)
def test_what_describes_the_scene_is_not(key: str) -> None:
    assert not is_outdated(key)
