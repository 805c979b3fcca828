"""Geometric self-ensemble: mean and standard deviation over all flips and rotations of a tile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosegsr.errors import ConfigError
from geosegsr.models.contract import Facts, FloatArray, Upscaler, for_sensor, workspace_bytes
from geosegsr.models.interpolation import Interpolator

ORIENTATIONS = tuple((turns, mirrored) for mirrored in (False, True) for turns in range(4))
"""The symmetries of a square: quarter turns, without and with a flip from left to right."""


@dataclass(frozen=True)
class Ensemble:
    """The mean of a model's results over the eight orientations of its input, as an Upscaler; eight times the work.

    Tiles need not be square: a quarter turn swaps height and width.

    Source:
        R. Timofte, R. Rothe, L. Van Gool, "Seven ways to improve example-based single image super resolution",
        CVPR 2016, section 3.5.
    """

    base: Upscaler
    """The model."""

    @classmethod
    def of(cls, base: Upscaler) -> Ensemble:
        """The ensemble of a model.

        Raises:
            ConfigError: The model is an interpolation.
        """
        if isinstance(base, Interpolator):
            raise ConfigError(
                f"Cannot make an ensemble of '{base.facts.name}': interpolation gives the same in every orientation. "
                "Leave out --ensemble, or pass a trained model."
            )
        return cls(base)

    @cached_property
    def facts(self) -> Facts:
        """The model's facts, with a fingerprint of its own."""
        return replace(self.base.facts, fingerprint=f"{self.base.facts.fingerprint}-ensemble")

    def for_sensor(self, descriptor: Sequence[float]) -> Ensemble:
        """The ensemble of the model that is told the descriptor."""
        return Ensemble(for_sensor(self.base, descriptor))

    def workspace_bytes(self, height: int, width: int) -> int:
        """The model's: the eight calls run one after another."""
        return workspace_bytes(self.base, height, width)

    def __call__(self, lr: FloatArray, guide: FloatArray | None = None) -> FloatArray:
        """The mean of the eight; see Upscaler."""
        return mean_and_spread(self.members(lr, guide))[0]

    def members(self, lr: FloatArray, guide: FloatArray | None = None) -> Iterator[FloatArray]:
        """The model's eight results one by one, each turned back; arguments and results as for an Upscaler."""
        for turns, mirrored in ORIENTATIONS:
            turned_guide = None if guide is None else _oriented(guide, turns, mirrored)
            sr = np.rot90(self.base(_oriented(lr, turns, mirrored), turned_guide), -turns, (-2, -1))
            yield sr[..., ::-1] if mirrored else sr


def _oriented(array: FloatArray, turns: int, mirrored: bool) -> FloatArray:
    return np.ascontiguousarray(np.rot90(array[..., ::-1] if mirrored else array, turns, (-2, -1)))


def mean_and_spread(members: Iterable[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation (of the population) over arrays of one shape and dtype; same shape and dtype.

    Where all are equal, the mean is exactly that value and the deviation exactly 0.

    Source:
        B. P. Welford, "Note on a method for calculating corrected sums of squares and products", 1962.
    """
    arrays = iter(members)
    mean: NDArray[Any] = next(arrays).copy()
    squares, count = np.zeros_like(mean), 1
    for array in arrays:
        count += 1
        off = array - mean
        mean += off / count
        squares += off * (array - mean)
    return mean, np.sqrt(squares / count)
