"""Images with more bands than the network: it takes them a group at a time, as `upscale` does.

13 bands -> red, green, blue through the network as they are
         -> each other band through it as grey
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from geosegsr.imagery.sources import Floats, Patch
from geosegsr.raster.bands import BandGroup
from geosegsr.sensor.descriptor import BICUBIC, SensorDescriptor
from geosegsr.training.mixture import NumberedPatches


@dataclass(frozen=True)
class Grouping:
    """How bands go through a network of other bands."""

    groups: tuple[BandGroup, ...]
    """Each band is in one of them."""
    band_names: tuple[str, ...]
    """Of the network."""

    def part_of(self, patch: Patch, group: BandGroup) -> Patch:
        """The bands of one group as the network takes them: a single one is repeated.

        A network is told of the sensor as by `pipeline.sensing`: beside bands that it knows, the others are taken for sharp
        and clean.
        """
        known = group.through == "model"
        bands = list(group.bands) if known else list(group.bands) * len(self.band_names)
        told = known or not any(other.through == "model" for other in self.groups)
        return replace(
            patch, lr=patch.lr[bands], hr=patch.hr[bands], sensor=patch.sensor if told else BICUBIC
        )

    def enlarged(
        self, network: Callable[[Floats, Sequence[SensorDescriptor]], Floats], tiles: Sequence[Patch]
    ) -> Floats:
        """What a network makes of all bands of some tiles.

        Args:
            network: Enlarges shape (N, its bands, h, w), and is told of the sensor of each of the N tiles.
            tiles: N tiles of one size.

        Returns:
            Shape (N, C, scale*h, scale*w), for tiles of C bands.
        """
        made: dict[int, Floats] = {}
        for group in self.groups:
            parts = [self.part_of(tile, group) for tile in tiles]
            sr = network(np.stack([part.lr for part in parts]), [part.sensor for part in parts])
            if group.through != "model":
                sr = sr.mean(axis=1, keepdims=True)
            made |= {band: sr[:, place] for place, band in enumerate(group.bands)}
        return np.stack([made[band] for band in sorted(made)], axis=1)


class GroupedPatches:
    """Patches of one group of bands each, drawn in proportion to its number of bands."""

    def __init__(self, patches: NumberedPatches, grouping: Grouping, seed: int) -> None:
        self._patches, self._grouping, self._seed = patches, grouping, seed
        counts = np.array([len(group.bands) for group in grouping.groups], dtype=np.float64)
        self._edges = np.cumsum(counts)[:-1] / counts.sum()

    @property
    def images(self) -> int:
        """Number of images that give patches."""
        return self._patches.images

    @property
    def places(self) -> int:
        """Number of places that patches are drawn around."""
        return self._patches.places

    def batch(self, first: int, count: int) -> list[Patch]:
        """Patches `first` to `first + count - 1`."""
        whole = self._patches.batch(first, count)
        return [self._grouping.part_of(patch, self._drawn(first + i)) for i, patch in enumerate(whole)]

    def _drawn(self, number: int) -> BandGroup:
        rng = np.random.default_rng([self._seed, number, 2])
        return self._grouping.groups[int(np.searchsorted(self._edges, rng.random(), side="right"))]
