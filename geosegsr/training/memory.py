"""What the weights of a run have forgotten of sharp and clean scenes, estimated without any images of such scenes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from geosegsr.evaluation.metrics import crop_border
from geosegsr.imagery.sources import Floats
from geosegsr.sensor.degradation import imresize_down
from geosegsr.sensor.descriptor import BICUBIC
from geosegsr.training.validation import Validation


class Memory:
    """The results of a run's start for the validation tiles, reduced as sharp and clean scenes are.

    Other weights give other results. Where such a change has nothing to do with the error of the start, the mean squared error
    E grows by the mean squared change D, and the PSNR falls by 10 log10(1 + D / E) dB. Both are known from the run's own tiles.
    Ground that the start fits better has a smaller E, and loses more: up to five times as much, in five runs on nine sources.
    """

    def __init__(self, validation: Validation, start: torch.nn.Module, device: torch.device) -> None:
        """Compute the results of the start, under the autocast of the caller."""
        tiles = [
            replace(tile, lr=imresize_down(tile.hr, validation.scale), sensor=BICUBIC)
            for tile in validation.tiles
        ]
        self._tiles = Validation(
            tiles, validation.scale, validation.clip, validation.data_range, validation.grouping
        )
        self._device = device
        self._before = self._tiles.run(start, device)[1]
        self._error = self._mean_square([tile.hr for tile in tiles])

    def lost(self, network: torch.nn.Module) -> float:
        """What sharp and clean scenes of such ground lose by these weights, an estimate in dB, at least 0."""
        changed = self._mean_square(self._tiles.run(network, self._device)[1])
        return math.inf if self._error == 0 < changed else 10 * math.log10(1 + changed / (self._error or 1.0))

    def _mean_square(self, images: Sequence[Floats]) -> float:
        """Mean squared difference from the results of the start, over the valid pixels of all tiles."""
        return float(np.mean(np.concatenate(list(self._squares(images)))))

    def _squares(self, images: Sequence[Floats]) -> Iterator[Floats]:
        scale = self._tiles.scale
        for tile, before, image in zip(self._tiles.tiles, self._before, images, strict=True):
            difference = crop_border(image, scale) - crop_border(before, scale)
            yield np.square(difference[:, crop_border(tile.valid, scale)]).ravel()
