"""The guidance maps of one tile: where a model with a semantic tower sees what, and so how it steered each unit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geosegsr.appraisal.pair import Pair
from geosegsr.appraisal.pictures import Map, coloured, shown_picture
from geosegsr.errors import ConfigError
from geosegsr.files import is_file
from geosegsr.models.catalogue import bundled_checkpoints, load_upscaler
from geosegsr.models.checkpoint import clean_beside, read_card
from geosegsr.models.inference import TorchUpscaler
from geosegsr.raster.nodata import fill_invalid
from geosegsr.raster.radiometry import resolve_radiometry
from geosegsr.raster.window import Window

_SIDE = 288
"""Input pixels along a side of the tile, at most."""
_MOST_UNITS = 8
_HASH, _DIGITS = "GEOSEGSR_MODEL_HASH", 64
"""The tag begins with the checksum of the model's file."""


@dataclass(frozen=True)
class Steering:
    """One tile of the input, and what steered the units of the model there."""

    about: str
    token: int
    """Input pixels along a side of a square of the maps."""
    picture: str
    """The tile, as a data URI."""
    maps: tuple[Map, ...]
    """One for each unit."""


def steering_of(pair: Pair, place: Window, model: str | Path | None) -> Steering | None:
    """The guidance maps around a place.

    Args:
        pair: An input and its result.
        place: Input pixels, counted from the first that the result covers.
        model: The checkpoint that made the result; by default a bundled one, found by the tags.

    Returns:
        None where the model is not known, has no tower that sees these bands, or the ground is smaller than a token of it.

    Raises:
        ConfigError: The result was made by another model.
        CheckpointError: The file is no checkpoint.
    """
    path = _checkpoint(pair, model)
    if path is None or len(pair.shown) != 3:
        return None
    upscaler = load_upscaler(path, device="cpu", precision="fp32")
    window = _tile(pair, place, upscaler)
    if window is None:
        return None
    scene = pair.source
    values, valid = scene.read(window)
    radiometry = resolve_radiometry(scene, upscaler.card.radiometry)
    rgb = radiometry.to_model(fill_invalid(values, valid))[list(pair.shown)]
    maps = upscaler.guidance(np.clip(rgb, 0, 1))[:_MOST_UNITS]
    about = f"{window.width} x {window.height} input pixels from column {window.col}, row {window.row}"
    token = window.width // maps.shape[2]
    return Steering(
        about, token, shown_picture(pair, values, valid), tuple(coloured(plane) for plane in maps)
    )


def _checkpoint(pair: Pair, model: str | Path | None) -> Path | None:
    tag = pair.result.metadata.tags.get(_HASH, "")[:_DIGITS]
    if model is None:
        if len(tag) < _DIGITS:
            return None
        files = (
            file for path in bundled_checkpoints() for file in (path, clean_beside(path)) if file.is_file()
        )
        return next((file for file in files if read_card(file).sha256 == tag), None)
    if not is_file(model):
        raise ConfigError(
            f"Cannot open the model '{model}': no such file. Pass the .safetensors file that made the result."
        )
    if read_card(Path(model)).sha256 != tag:
        raise ConfigError(
            f"Cannot show the guidance of '{model}': '{pair.result.path}' was made by another model. "
            "Pass the file that made it, or leave --model out."
        )
    return Path(model)


def _tile(pair: Pair, place: Window, upscaler: TorchUpscaler) -> Window | None:
    """Whole tokens of the tower around a place, in pixels of the source."""
    step = upscaler.facts.multiple_of
    sides = [min(side, _SIDE) // step * step for side in (pair.height, pair.width)]
    if min(sides) < step:
        return None
    middles = place.row + place.height // 2, place.col + place.width // 2
    row, col = (
        min(max(middle - side // 2, 0), whole - side)
        for middle, side, whole in zip(middles, sides, (pair.height, pair.width), strict=True)
    )
    return Window(row + pair.window.row, col + pair.window.col, *sides)
