"""Patches from images of several kinds, drawn in given proportions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from geosegsr.imagery.sources import Patch
from geosegsr.training.patches import Patches


class NumberedPatches(Protocol):
    """The patches of a run; patch n is a pure function of the seed and n."""

    @property
    def images(self) -> int:
        """Number of images that give patches."""

    @property
    def places(self) -> int:
        """Number of places that patches are drawn around."""

    def batch(self, first: int, count: int) -> list[Patch]:
        """Patches `first` to `first + count - 1`."""


class Mixture:
    """Several sets of patches as one, all with the number of bands of the model.

    A single band is repeated. From a patch with more bands than the model, bands are drawn at random, so that a
    13-band scene contributes all of its bands.
    """

    def __init__(self, sets: Sequence[Patches], shares: Sequence[float], bands: int, seed: int) -> None:
        self._sets = sets
        self._edges = np.cumsum(np.asarray(shares, dtype=np.float64) / np.sum(shares))
        self._bands, self._seed = bands, seed

    @property
    def images(self) -> int:
        """Number of images that give patches."""
        return sum(patches.images for patches in self._sets)

    @property
    def places(self) -> int:
        """Number of places that patches are drawn around."""
        return sum(patches.places for patches in self._sets)

    def __getitem__(self, number: int) -> Patch:
        rng = np.random.default_rng([self._seed, number, 1])
        chosen = int(np.searchsorted(self._edges, rng.random(), side="right"))
        patch = self._sets[min(chosen, len(self._sets) - 1)][number]
        return _with_bands(patch, self._bands, rng)

    def batch(self, first: int, count: int) -> list[Patch]:
        """Patches `first` to `first + count - 1`."""
        return [self[number] for number in range(first, first + count)]


def _with_bands(patch: Patch, bands: int, rng: np.random.Generator) -> Patch:
    found = len(patch.lr)
    if found == bands:
        return patch
    chosen = rng.choice(found, bands, replace=found < bands)
    return replace(patch, lr=patch.lr[chosen], hr=patch.hr[chosen])
