"""Scores of the network on tiles that are not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from geosegsr.evaluation.metrics import crop_border, luma, psnr
from geosegsr.imagery.sources import Floats, Patch
from geosegsr.models.interpolation import Interpolator
from geosegsr.sensor.descriptor import SensorDescriptor
from geosegsr.training.batches import descriptors_of
from geosegsr.training.grouped import Grouping


@dataclass(frozen=True)
class Score:
    """Mean PSNR over tiles, in dB."""

    psnr: float
    """Over all bands."""
    psnr_y: float | None
    """Over luma (Y); None unless there are three bands."""

    @property
    def main(self) -> float:
        """The score by which the best weights are chosen."""
        return self.psnr if self.psnr_y is None else self.psnr_y

    def falls_short_of(
        self, baseline: Score, start: Score | None, bundled: Score | None = None
    ) -> str | None:
        """What it is not better than, in words; None if it is better than all that are known.

        Args:
            baseline: Score of bicubic interpolation on the same tiles.
            start: Score of the weights that the run started from; None if unknown.
            bundled: Score of the bundled model; None if unknown.
        """
        if self.main <= baseline.main:
            return "bicubic interpolation"
        if start is not None and self.main <= start.main:
            return "the start of the run"
        if bundled is not None and self.main <= bundled.main:
            return "the bundled model"
        return None


class Validation:
    """Validation tiles, with the results and the score of bicubic interpolation."""

    def __init__(
        self,
        tiles: Sequence[Patch],
        scale: int,
        clip: bool,
        data_range: float,
        grouping: Grouping | None = None,
    ) -> None:
        """Interpolate the tiles.

        Args:
            tiles: What is scored.
            scale: hr pixels per lr pixel.
            clip: Whether results are clipped to 0 to 1, as in a file.
            data_range: Peak value for PSNR.
            grouping: How the bands go through a network; None where it takes all together.
        """
        self.tiles, self.scale, self.clip, self.data_range = tiles, scale, clip, data_range
        self.grouping = grouping
        enlarge = Interpolator("bicubic", scale)
        self.bicubic = [self._as_file(enlarge(tile.lr[None])[0].astype(np.float32)) for tile in tiles]
        self.baseline = self.score(self.bicubic)

    def run(self, network: torch.nn.Module, device: torch.device) -> tuple[Score, list[Floats]]:
        """Score a network that is told how each tile was made.

        Returns:
            The score, and what the network makes of the tiles, shape (C, H, W) each.
        """
        enlarged: list[Floats] = []

        def call(lr: Floats, sensors: Sequence[SensorDescriptor]) -> Floats:
            told = descriptors_of(sensors).to(device)
            with torch.inference_mode():
                sr = network(torch.from_numpy(lr).to(device), None, told)
            made: Floats = sr.float().cpu().numpy()
            return made

        for alike in _same_size(self.tiles):
            if self.grouping is not None:
                made = self.grouping.enlarged(call, alike)
            else:
                made = call(np.stack([tile.lr for tile in alike]), [tile.sensor for tile in alike])
            enlarged.extend(self._as_file(image) for image in made)
        return self.score(enlarged), enlarged

    def _as_file(self, image: Floats) -> Floats:
        return np.clip(image, 0, 1) if self.clip else image

    def score(self, images: Sequence[Floats]) -> Score:
        """Score of images of all tiles in their order, shape (C, H, W) each, in the model's range."""
        scores = [self._score_of(tile, image) for tile, image in zip(self.tiles, images, strict=True)]
        brightness = [score.psnr_y for score in scores if score.psnr_y is not None]
        all_bands = float(np.mean([score.psnr for score in scores]))
        return Score(all_bands, float(np.mean(brightness)) if brightness else None)

    def _score_of(self, tile: Patch, image: Floats) -> Score:
        sr, hr = crop_border(self._as_file(image), self.scale), crop_border(tile.hr, self.scale)
        valid = crop_border(tile.valid, self.scale)
        colours = len(image) == 3
        on_luma = psnr(luma(sr), luma(hr), valid, self.data_range) if colours else None
        return Score(psnr(sr, hr, valid, self.data_range), on_luma)

    def by_tile(self, images: Sequence[Floats]) -> list[float]:
        """Main score of each tile, in dB; arguments as for `score`."""
        return [self._score_of(tile, image).main for tile, image in zip(self.tiles, images, strict=True)]

    def by_band(self, images: Sequence[Floats]) -> list[float]:
        """Mean PSNR over the tiles of each band, in dB; arguments as for `score`."""
        rows = []
        for tile, image in zip(self.tiles, images, strict=True):
            sr, hr = crop_border(self._as_file(image), self.scale), crop_border(tile.hr, self.scale)
            valid = crop_border(tile.valid, self.scale)
            rows.append([psnr(a[None], b[None], valid, self.data_range) for a, b in zip(sr, hr, strict=True)])
        return [float(value) for value in np.mean(rows, axis=0)]


def span_of(tiles: Sequence[Patch], kind: str) -> float:
    """Peak value for PSNR: 1, or the 0.1 to 99.9 percentile range of hr where the value range is unbounded."""
    if kind != "standard":
        return 1.0
    values = np.concatenate([tile.hr[:, tile.valid].ravel()[::7] for tile in tiles])
    low, high = np.percentile(values, [0.1, 99.9])
    return float(high - low)


def _same_size(tiles: Sequence[Patch], most: int = 8) -> list[list[Patch]]:
    """Tiles in order, in groups of one size, at most `most` to a group."""
    groups: list[list[Patch]] = []
    for tile in tiles:
        if groups and len(groups[-1]) < most and groups[-1][0].lr.shape == tile.lr.shape:
            groups[-1].append(tile)
        else:
            groups.append([tile])
    return groups
