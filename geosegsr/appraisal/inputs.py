"""The inputs of a result: one raster, or each of those that a guide or a product's sharpest bands brought to one grid."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from affine import Affine

from geosegsr.appraisal.pair import Pair
from geosegsr.errors import ConfigError, SceneError
from geosegsr.evaluation.seams import tagged_options, tagged_scale
from geosegsr.files import is_same
from geosegsr.raster.fitness import fits
from geosegsr.raster.products import locate
from geosegsr.raster.scene import Scene
from geosegsr.raster.window import Window
from geosegsr.sharpening.blur import TYPICAL_MTF, sampling_of_mtf
from geosegsr.sharpening.nesting import Grid, Nesting
from geosegsr.sharpening.product import groups_of
from geosegsr.sharpening.scene import grid_of

GUIDE_TAG = "GEOSEGSR_GUIDE"
_FITTED = re.compile(r": (\d+) x \d+ pixels in one, MTF ([\d.]+)")


def open_pairs(src: str | Path, dst: str | Path) -> tuple[Pair, ...]:
    """Each input of a result beside those bands of the result that were made of it, from the finest input.

    Args:
        src: The raster or product that was upscaled, as `upscale` takes it.
        dst: The result. One that a guide sharpened is compared with its coarse input; one of a product with each of the
            product's rasters, on its own grid. Bands that hold no image are left out there.

    Raises:
        SceneError: One cannot be opened.
        ConfigError: The second is no result of the first.
    """
    if is_same(src, dst):
        raise ConfigError(
            f"Cannot compare '{dst}' with itself: input and result are the same file. Pass the raster that the result was made of."
        )
    result = Scene.open(dst)
    if GUIDE_TAG not in result.metadata.tags:
        return (_plain_pair(src, result),)
    pairs = tuple(_nested(*found, result) for found in _rasters(src, result))
    if not pairs:
        raise ConfigError(
            f"Cannot compare '{dst}' with '{src}': they have no band in common. Pass the raster that the result was made of."
        )
    return pairs


def open_pair(src: str | Path, dst: str | Path) -> Pair:
    """An input and its result, as the result's tags say what of the input it shows.

    Args:
        src: The raster that was upscaled, as `upscale` takes it.
        dst: The result; also one of another program, if it covers all of the input's ground with all of its bands.

    Raises:
        SceneError: One cannot be opened.
        ConfigError: The second is no result of the first.
    """
    return _plain_pair(src, Scene.open(dst))


def _plain_pair(src: str | Path, result: Scene) -> Pair:
    options = tagged_options(result)
    source = _source(src, result, options.get("bands"))
    window = _window(options.get("window"), source)
    tagged = tagged_scale(result)
    scale = round(result.height / window.height) if tagged is None else tagged
    if (window.height * scale, window.width * scale) != (result.height, result.width) or scale < 1:
        raise ConfigError(
            f"Cannot compare '{result.path}' with '{src}': the result has {result.width} x {result.height} pixels, and its input "
            f"{window.width} x {window.height}. {_advice(window, result)}"
        )
    _check_bands(source, result)
    return Pair(source, result, window, scale)


def _advice(window: Window, result: Scene) -> str:
    if window.height > result.height and window.width > result.width:
        return "The result is the finer one: pass the two the other way round."
    return "Pass the raster that the result was made of."


def _rasters(src: str | Path, result: Scene) -> Iterator[tuple[Scene, Scene, str]]:
    """Each input, the bands of the result that were made of it, and its name among several."""
    located = locate(str(src))
    groups = () if located is None or not located.chosen else groups_of(located.product)
    if len(groups) < 2:
        source = _source(src, result, tagged_options(result).get("bands"))
        _check_bands(source, result)
        yield source, result, ""
        return
    for part in groups:
        shared = [name for name in result.descriptions if name in part.band_names]
        if shared:
            source = Scene.open(part.source, [part.band_names.index(name) + 1 for name in shared])
            bands = [result.image_bands[result.descriptions.index(name)] for name in shared]
            yield _with_nodata(source, result), Scene.open(result.path, bands), part.name


def _nested(source: Scene, result: Scene, name: str, whole: Scene) -> Pair:
    """A coarse input and its bands of the result, over those of its pixels that the result covers completely."""
    tagged = tagged_scale(whole)
    zoom = 1 if tagged is None else tagged
    try:
        nesting = Nesting.of(grid_of(source), _guided_grid(result, zoom), least=1)
    except SceneError as error:
        raise ConfigError(
            f"Cannot compare '{result.path}' with '{source.path}': their grids do not nest, or they share no ground. "
            "Pass the raster that the result was made of."
        ) from error
    ratio = nesting.ratio
    (top, bottom), (left, right) = (
        (max(-(-first // ratio), 0), min((first + length) // ratio, side))
        for first, length, side in (
            (nesting.row, nesting.height, source.height),
            (nesting.col, nesting.width, source.width),
        )
    )
    window = Window(top, left, bottom - top, right - left)
    if min(window.height, window.width) < 1:
        raise ConfigError(
            f"Cannot compare '{result.path}' with '{source.path}': it covers no whole pixel of it. "
            "Upscale a larger part of the scene."
        )
    corner = (top * ratio - nesting.row) * zoom, (left * ratio - nesting.col) * zoom
    known = {int(found[1]): float(found[2]) for found in _FITTED.finditer(whole.metadata.tags[GUIDE_TAG])}
    sharpened = sampling_of_mtf(ratio, known.get(ratio, TYPICAL_MTF), nesting.half) if ratio > 1 else None
    return Pair(source, result, window, ratio * zoom, corner, sharpened, name)


def _guided_grid(result: Scene, zoom: int) -> Grid:
    """The grid on which the scene was before the model enlarged it."""
    grid = grid_of(result)
    transform = None if grid.transform is None else grid.transform @ Affine.scale(zoom)
    return replace(grid, height=grid.height // zoom, width=grid.width // zoom, transform=transform)


def _check_bands(source: Scene, result: Scene) -> None:
    if source.count != result.count:
        raise ConfigError(
            f"Cannot compare '{result.path}' with '{source.path}': the result has {result.count} image bands, and its input "
            f"{source.count}. Pass the raster that the result was made of."
        )


def _source(src: str | Path, result: Scene, bands: Any) -> Scene:
    known = isinstance(bands, list) and bool(bands) and all(isinstance(band, int) for band in bands)
    whole = Scene.open(src)
    source = Scene.open(src, bands) if known and set(bands) <= set(whole.image_bands) else whole
    return _with_nodata(source, result)


def _with_nodata(source: Scene, result: Scene) -> Scene:
    """With the nodata of the result: the run may have been told of one that the file does not declare."""
    found = result.nodata
    if source.nodata is None and found is not None and fits(found, source.dtype):
        return source.with_nodata(found)
    return source


def _window(tagged: Any, source: Scene) -> Window:
    known = (
        isinstance(tagged, list) and len(tagged) == 4 and all(isinstance(number, int) for number in tagged)
    )
    if not known:
        return source.window
    col, row, width, height = tagged
    window = Window(row, col, height, width)
    return window if source.window.contains(window) and min(height, width) > 0 else source.window
