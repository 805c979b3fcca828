"""The options of a plan, typed for editors and mypy, and shown by help().

`upscale`, `upscale_batch`, `plan` and `super_resolve` take them as keyword arguments, by `**options: Unpack[...]`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar, get_type_hints

from geosegsr.errors import did_you_mean
from geosegsr.raster.bands import OtherBands
from geosegsr.raster.scene import AlphaPolicy
from geosegsr.sensor.descriptor import SensorDescriptor

Function = TypeVar("Function", bound=Callable[..., Any])


class RenderOptions(TypedDict, total=False):
    """How pixels go through a model: for files and for arrays."""

    other_bands: OtherBands | None
    """Bands that the model was not trained on: "model" (each alone, as grey), "bicubic" or "drop"."""
    nodata: float | Literal["auto"] | None
    """Value of pixels without data; by default the raster's own. "auto" finds it where none is declared: the value of a
    region along the border."""
    value_range: tuple[float, float] | None
    """DN that a trained model sees as 0 and 1; by default from its card."""
    tile: int | None
    """Side of a tile, in input pixels; by default the model's."""
    overlap: int | None
    """Input pixels that neighbouring tiles share; by default the model's."""
    block: int | None
    """Side of an output block, in output pixels; by default 2048, or 1024 where only that gives nine blocks."""
    device: str
    """"auto", "cpu", "cuda" or "cuda:N"."""
    precision: str
    """Arithmetic of a trained model: "auto", "fp32", "bf16" or "fp16"."""
    sensor: str | Path | SensorDescriptor
    """How the scene was imaged: "auto" to estimate blur, noise and compression from its pixels, "bicubic" for a sharp and
    clean scene, a TOML file (see docs/sensors.md), or a descriptor."""
    consistency: bool | None
    """Whether downsampling the result reproduces the input; by default where the scene was imaged as the model's training
    images were."""
    ensemble: bool
    """Whether the result is the mean over the eight flips and rotations of each tile."""


class PlanOptions(RenderOptions, total=False):
    """How a file is upscaled, beside source, scale and model."""

    guide: str | Path | None
    """A sharper raster of the same ground: the scene's bands are first brought to its grid, with its help."""
    groups: Sequence[str] | None
    """Parts of a product to use, by the names of their pixel sizes ("10m", "20m"); by default all."""
    bands: Sequence[int | str] | None
    """Bands to use, in this order, as numbers from 1 or by name; by default all."""
    alpha: AlphaPolicy
    """What a band tagged alpha is: "mask", "image", or "auto" to decide by its values."""
    band_kinds: Mapping[int, str] | None
    """What bands hold, by their 1-based number: "image", "class", "mask" or "angle"; by default that is found out. Pixels of
    whatever is no image are repeated."""
    aoi: str | Path | None
    """Area of interest: a file with polygons, or WKT. Pixels outside are invalid."""
    bbox: Sequence[float] | None
    """Area of interest as a box: west, south, east, north."""
    aoi_crs: str | None
    """CRS of `aoi` or `bbox`; by default the file's own, else the scene's."""
    window: Sequence[int] | None
    """Area of interest in input pixels (of the guide's grid, if there is one): column, row, width, height."""
    separate: bool
    """Whether each band becomes a COG of its own: out.tif is then a name for out_B02.tif, out_B03.tif and so on."""


DEFAULTS: PlanOptions = {
    "guide": None,
    "groups": None,
    "bands": None,
    "other_bands": None,
    "nodata": None,
    "alpha": "auto",
    "band_kinds": None,
    "value_range": None,
    "tile": None,
    "overlap": None,
    "block": None,
    "aoi": None,
    "bbox": None,
    "aoi_crs": None,
    "window": None,
    "separate": False,
    "device": "auto",
    "precision": "auto",
    "sensor": "auto",
    "consistency": None,
    "ensemble": False,
}


def with_defaults(options: RenderOptions, kind: type[RenderOptions] = PlanOptions) -> PlanOptions:
    """All options, those that were not given at their defaults.

    Args:
        options: What was given.
        kind: Which options there are.

    Raises:
        TypeError: There is no such option.
    """
    known = get_type_hints(kind)
    for name in options:
        if name not in known:
            raise TypeError(f"There is no option '{name}'.{did_you_mean(name, known)}")
    return {**DEFAULTS, **options}


def listed(kind: type[RenderOptions]) -> Callable[[Function], Function]:
    """Let help() and inspect.signature list each option that a function takes by `**options: Unpack[kind]`."""

    def list_options(function: Function) -> Function:
        signature = inspect.signature(function)
        kept = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        hints = get_type_hints(kind)
        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[name])
            for name, default in DEFAULTS.items()
            if name in hints
        ]
        function.__signature__ = signature.replace(parameters=[*kept, *added])  # type: ignore[attr-defined]
        return function

    return list_options
