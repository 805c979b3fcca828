"""Whatever a GeoTIFF says about itself, its upscaled version says the same at the new scale, or is refused in one line."""

from __future__ import annotations

import math
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import scene_factory as factory
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from metadata_oracle import metadata_differences
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from geosegsr import upscale
from geosegsr.errors import GeoSegSRError

EXAMPLES = int(os.environ.get("GEOSEGSR_EXAMPLES", "40"))
"""The same ones every time, unless more are asked for."""
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")
CRSS = (
    None,
    "EPSG:4326",
    "EPSG:32633",
    "EPSG:3857",
    "EPSG:3031",
    "EPSG:27700",
    "EPSG:2154",
    "ESRI:54009",
    "EPSG:4978",
)
UNCOMMON = st.sampled_from(
    [
        "=",
        ":",
        "a=b",
        "x:y",
        " lead",
        "trail ",
        "two  spaces",
        "line\nbreak",
        "tab\t",
        "<&>\"'",
        "é",
        "日本",
        "%s",
        "{}",
    ]
)
NAMES = st.one_of(
    UNCOMMON, st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
)
TEXTS = st.one_of(
    UNCOMMON,
    st.just(""),
    st.just("long " * 5000),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40),
)
TAGS = st.dictionaries(NAMES, TEXTS, max_size=4)
NUMBERS = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, 0.0001, 1e-30, 1e30, math.nan, math.inf, -math.inf]), st.floats()
)
FACTORS = st.one_of(
    st.sampled_from([1.0, 0.0001, -0.1, 1e-30, 1e30, 0.0, math.nan]),
    st.floats(allow_nan=False, allow_infinity=False),
)
COLOURS = st.sampled_from(
    [
        c
        for c in ColorInterp
        if c.name in ("undefined", "gray", "red", "green", "blue", "alpha", "hue", "nir", "cyan", "black")
    ]
)


@st.composite
def nodata_values(draw: st.DrawFn, dtype: str) -> float | None:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        edges = [float(np.finfo(kind).max), float(np.finfo(kind).min), math.nan, math.inf, -9999.0, 0.1]
    else:
        top = float(np.iinfo(kind).max) if kind.itemsize < 8 else 2.0**53  # rasterio writes no larger one
        edges = [float(np.iinfo(kind).min), top, 0.0, 1.0]
    return draw(st.one_of(st.none(), st.sampled_from(edges)))


@st.composite
def transforms(draw: st.DrawFn) -> Affine | None:
    kind = draw(st.sampled_from(["north up"] * 4 + ["rotated"] * 2 + ["none", "any"]))
    if kind == "none":
        return None
    size, place = st.floats(1e-9, 1e6), st.floats(-1e9, 1e9)
    if kind == "north up":
        return Affine(draw(size), 0, draw(place), 0, -draw(size), draw(place))
    if kind == "rotated":
        turn = Affine.rotation(draw(st.floats(-180, 180)))
        return Affine.translation(draw(place), draw(place)) @ turn @ Affine.scale(draw(size), draw(size))
    return Affine(*[draw(NUMBERS) for _ in range(6)])


@st.composite
def profiles(draw: st.DrawFn) -> dict[str, Any]:
    dtype, count = draw(st.sampled_from(DTYPES)), draw(st.integers(1, 4))
    per_band = lambda values: draw(st.lists(values, min_size=count, max_size=count))  # noqa: E731
    options: dict[str, Any] = {
        "dtype": dtype,
        "count": count,
        "size": (draw(st.integers(1, 40)), draw(st.integers(1, 40))),
        "crs": draw(st.sampled_from(CRSS)),
        "transform": draw(transforms()),
        "nodata": draw(nodata_values(dtype)),
        "tags": draw(TAGS),
        "namespaces": draw(st.dictionaries(st.sampled_from(["PRODUCT", "a.b", "X Y"]), TAGS, max_size=1)),
        "band_tags": {draw(st.integers(1, count)): draw(TAGS)},
        "descriptions": per_band(st.one_of(st.none(), TEXTS)),
        "units": per_band(st.one_of(st.none(), TEXTS)),
        "colorinterp": per_band(COLOURS),
        "photometric": "minisblack",
        "interleave": draw(st.sampled_from(["pixel", "band"])),
    }
    if draw(st.booleans()):
        options |= {"scales": per_band(FACTORS), "offsets": per_band(FACTORS)}
    if draw(st.booleans()):
        options |= {"tiled": True, "blockxsize": 16, "blockysize": draw(st.sampled_from([16, 32]))}
    return options


@given(profiles(), st.sampled_from([2, 3, 4, 8]))
@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES <= 60, suppress_health_check=list(HealthCheck)
)
def test_what_a_raster_says_is_kept_or_refused(options: dict[str, Any], scale: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source.tif", Path(folder) / "out.tif"
        factory.write_plain(source, **options)
        check(source, target, scale)


def check(source: Path, target: Path, scale: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            upscale(source, target, scale, "nearest")
        except GeoSegSRError as error:
            assert not target.exists()
            event(str(error).partition(": ")[2][:30])
            return
        assert metadata_differences(source, target, scale) == []
        with rasterio.open(source) as before, rasterio.open(target) as after:
            wanted = np.kron(before.read(), np.ones((1, scale, scale), before.dtypes[0]))
            assert np.array_equal(after.read(), wanted, equal_nan=before.dtypes[0].startswith("f"))
