"""The contract between the raster pipeline and a model that enlarges its tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from geosegsr.models.card import ModelCard

FloatArray: TypeAlias = NDArray[np.floating[Any]]
BUNDLED = "bundled"
"""The name of the bundled model that fits the scale."""
DEFAULT_MODEL = BUNDLED


@dataclass(frozen=True)
class Facts:
    """What the pipeline needs to know about a model to tile a scene. All lengths are in lr pixels."""

    name: str
    """Name for people; written into the tags of the result."""
    fingerprint: str
    """Changes whenever the model would compute other values; part of the key of a resumable run."""
    scale: int
    """Output pixels per input pixel, along each side."""
    bands: int | None
    """Bands that the model takes together; None if it treats each band alone and so takes any number."""
    tile: int
    """Side of a tile that suits the model."""
    overlap: int
    """Pixels that neighbouring tiles share; at least twice the halo."""
    halo: int
    """Margin of a tile that is context only: results closer to an inner edge are not used."""
    multiple_of: int = 1
    """Tile sides must be a multiple of this."""
    min_size: int = 1
    """The smallest tile side that the model accepts."""
    batch: int = 1
    """Tiles per call, at most."""
    linear: bool = False
    """Whether output follows input in offset and gain, so that DN pass through without a value range."""
    device: str = ""
    """What the model computes on in this process: "cpu", "cuda", or "" where it makes no difference."""
    precision: str = ""
    """What the model computes in: "fp32", "bf16", "fp16", or "" where it follows the data."""
    takes_sensor: bool = False
    """Whether the model takes the descriptor of a scene's sensor; see `for_sensor`."""
    card: ModelCard | None = None
    """Value range, band names and degradation of the training, if known."""
    band_names: tuple[str, ...] = ()
    """What each of the bands shows, where no card says so; empty if nobody knows."""


@runtime_checkable
class Upscaler(Protocol):
    """A model as the pipeline sees it: pixels in, more pixels out.

    A call is deterministic and depends on its arguments only.
    The pipeline computes a tile again in another block, or another process, and relies on the same values.
    """

    @property
    def facts(self) -> Facts:
        """What tiling needs to know; the same during a run."""

    def __call__(self, lr: FloatArray, guide: FloatArray | None = None) -> FloatArray:
        """Enlarge a batch of tiles; several threads may call at a time.

        Args:
            lr: float32 (float64 too, for a linear model), shape (N, C, h, w), in the model's range
                (0 to 1 unless the model is linear); no NaN.
            guide: Red, green and blue of the same ground, shape (N, 3, h, w), same dtype and range, for a
                model that is steered by colours that `lr` does not hold; None to use `lr` itself.

        Returns:
            Same dtype, shape (N, C, scale*h, scale*w), not clipped.
        """


@runtime_checkable
class SensorUpscaler(Upscaler, Protocol):
    """An Upscaler that can be told how a scene was imaged."""

    def for_sensor(self, descriptor: Sequence[float]) -> Upscaler:
        """The same model, told the numbers that `segsr.config.DESCRIPTOR` names; under a fingerprint of its own."""


@runtime_checkable
class MeasuredUpscaler(Upscaler, Protocol):
    """An Upscaler that states how much memory it takes."""

    def workspace_bytes(self, height: int, width: int) -> int:
        """Bytes of main memory that a call takes for one tile, without its input and output; lr pixels."""


def fitted(side: int, multiple_of: int, min_size: int) -> int:
    """The shortest side that a model accepts and that is no shorter than `side`; lr pixels."""
    return -(-max(side, min_size) // multiple_of) * multiple_of


def workspace_bytes(upscaler: Upscaler, height: int, width: int) -> int:
    """Bytes of main memory that a call takes for one tile of lr pixels, without input and output; 0 if unknown."""
    return upscaler.workspace_bytes(height, width) if isinstance(upscaler, MeasuredUpscaler) else 0


def for_sensor(upscaler: Upscaler, descriptor: Sequence[float]) -> Upscaler:
    """A model that is told how a scene was imaged; a model that takes no descriptor stays as it is."""
    if upscaler.facts.takes_sensor and isinstance(upscaler, SensorUpscaler):
        return upscaler.for_sensor(descriptor)
    return upscaler
