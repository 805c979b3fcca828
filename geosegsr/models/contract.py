"""The contract between the raster pipeline and whatever model enlarges its tiles."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.floating[Any]]
BUNDLED = "bundled"
"""The name of the model of this package that fits the scale."""
DEFAULT_MODEL = BUNDLED


@runtime_checkable
class Upscaler(Protocol):
    """A model as the pipeline sees it: pixels in, more pixels out, and the few facts needed to tile a scene.

    Calling it is deterministic and depends on nothing but its arguments: the pipeline computes a tile
    again in another block, or another process, and relies on the same values coming out.
    """

    @property
    def name(self) -> str:
        """What a person calls the model; written into the tags of the result."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the model would compute other values; part of the key of a resumable job."""

    @property
    def scale(self) -> int:
        """Output pixels per input pixel, along each side."""

    @property
    def bands(self) -> int | None:
        """Bands the model takes together; None if it treats every band alone and so takes any number."""

    @property
    def tile(self) -> int:
        """Side of a tile that suits the model, in lr pixels."""

    @property
    def overlap(self) -> int:
        """Pixels that neighbouring tiles should share, in lr pixels; at least twice the halo."""

    @property
    def halo(self) -> int:
        """Margin of a tile that is context only: results closer to an inner edge are not used (lr pixels)."""

    @property
    def multiple_of(self) -> int:
        """Tile sides must be a multiple of this."""

    @property
    def min_size(self) -> int:
        """The smallest tile side the model accepts, in lr pixels."""

    @property
    def batch(self) -> int:
        """Tiles handed over in one call, at most."""

    @property
    def linear(self) -> bool:
        """True if output follows input in offset and gain, so that DN pass through without a model range."""

    def __call__(self, lr: FloatArray, guide: FloatArray | None = None) -> FloatArray:
        """Enlarge a batch of tiles; several threads may call at a time.

        Args:
            lr: float32 (float64 too, for a linear model), shape (N, C, h, w), in the model's range
                (0 to 1 unless the model is linear); no NaN.
            guide: Red, green, blue of the same ground, shape (N, 3, h, w), same dtype and range, for a model
                whose guidance comes from colours that `lr` does not hold; None to use `lr` itself.

        Returns:
            Same dtype, shape (N, C, scale*h, scale*w), not clipped.
        """


def workspace_bytes(upscaler: Upscaler, height: int, width: int) -> int:
    """Memory that a call takes for a tile of lr pixels, beside what it is given and gives; 0 for a model that does not say."""
    tell = getattr(getattr(upscaler, "base", upscaler), "workspace_bytes", None)
    return 0 if tell is None else int(tell(height, width))
