"""Numbers of tiles, and their means over groups of images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosegsr.evaluation.metrics import consistency, correctness, crop_border, psnr, quality
from geosegsr.evaluation.table import EVERYTHING, HIGHER_IS_BETTER, BandScore, Numbers, Row
from geosegsr.imagery.pictures import contact_sheet, write_png
from geosegsr.imagery.sources import Floats, Patch, SceneSource
from geosegsr.models.interpolation import repeat_pixels

_PICTURES = 6


@dataclass(frozen=True)
class Label:
    """What the numbers of a tile belong to."""

    image: str
    """Path of the truth."""
    group: str
    """Name of its group."""
    kind: str
    """Its bands and dtype, in words."""


@dataclass(frozen=True)
class _Measured:
    """One tile."""

    label: Label
    model: Numbers
    bicubic: Numbers
    bands: tuple[BandScore, ...]


class Tally:
    """Collects the numbers of tiles, and the first tiles as pictures."""

    def __init__(self, scale: int, border: int | None) -> None:
        """Start empty; `border` pixels at each edge are left out, by default as many as the scale."""
        self._scale, self._border = scale, scale if border is None else border
        self._measured: list[_Measured] = []
        self._pictures: list[tuple[NDArray[Any], ...]] = []
        self._labels: list[tuple[str, ...]] = []

    @property
    def images(self) -> int:
        """Number of images with at least one tile."""
        return len({tile.label.image for tile in self._measured})

    def add(
        self,
        label: Label,
        patch: Patch,
        sr: Floats,
        bicubic: Floats,
        *,
        span: float = 1.0,
        scene: SceneSource | None = None,
    ) -> None:
        """Measure what a model and bicubic interpolation made of a tile.

        Args:
            label: What the tile belongs to.
            patch: Input and truth.
            sr: The model's result, shape (C, H, W), in the model's range.
            bicubic: The same of bicubic interpolation.
            span: What PSNR and SSIM count as the full range.
            scene: The image, to measure each band; None where its bands are not known.
        """
        model, simple = (_numbers(array, patch, self._scale, self._border, span) for array in (sr, bicubic))
        bands = () if scene is None else tuple(_band_scores(scene, sr, bicubic, patch, span, self._border))
        self._measured.append(_Measured(label, model, simple, bands))
        if len(self._pictures) < _PICTURES:
            self._pictures.append((repeat_pixels(patch.lr, self._scale), bicubic, sr, patch.hr))
            self._labels.append(("lr", f"bicubic {_decibels(simple)}", f"sr {_decibels(model)}", "hr"))

    def draw(self, picture: Path | None) -> None:
        """Write lr, bicubic, sr and hr of the first tiles as a PNG, with their names and PSNR."""
        if picture is not None:
            write_png(picture, contact_sheet(self._pictures, self._labels))

    def rows(self) -> tuple[Row, ...]:
        """Means over each group, where there are several, and over everything."""
        groups = sorted({tile.label.group for tile in self._measured})
        parts = [(group, [tile for tile in self._measured if tile.label.group == group]) for group in groups]
        return tuple(
            _row(*part) for part in [*(parts if len(parts) > 1 else []), (EVERYTHING, self._measured)]
        )


def _decibels(numbers: Numbers) -> str:
    """PSNR of the whole tile, on luma where it is known."""
    value, on = (numbers["psnr_y"], " on Y") if "psnr_y" in numbers else (numbers["psnr"], "")
    return f"{value:.2f} dB{on}" if math.isfinite(value) else "equals hr" if value > 0 else "no dB"


def _numbers(sr: Floats, patch: Patch, scale: int, border: int, span: float) -> Numbers:
    """All measures of one tile; those that compare with the input need all of it."""
    valid = None if patch.valid.all() else patch.valid
    found = quality(sr / span, patch.hr / span, scale, border=border, valid=valid)
    if valid is None:
        found |= consistency(sr, patch.lr, scale)
        found |= correctness(sr, patch.hr, patch.lr, scale)
    return found


def _band_scores(
    scene: SceneSource, sr: Floats, bicubic: Floats, patch: Patch, span: float, border: int
) -> Iterator[BandScore]:
    scale = patch.valid.shape[0] // patch.lr.shape[1]
    valid, hr = crop_border(patch.valid, border), crop_border(patch.hr, border)
    model, simple = (crop_border(image, border) for image in (sr, bicubic))
    sr_dn, lr_dn = (scene.radiometry.from_model(image.astype(np.float64)) for image in (sr, patch.lr))
    for band, name in enumerate(scene.scene.descriptions):
        mean = float(lr_dn[band][patch.valid[::scale, ::scale]].mean())
        numbers = {
            "psnr": psnr(model[[band]], hr[[band]], valid, span),
            "psnr_bicubic": psnr(simple[[band]], hr[[band]], valid, span),
            "mean_shift": float(sr_dn[band][patch.valid].mean()) / mean - 1 if mean else math.nan,
        }
        yield BandScore(name or f"band {band + 1}", numbers)


def _row(group: str, tiles: Sequence[_Measured]) -> Row:
    return Row(
        group=group,
        images=len({tile.label.image for tile in tiles}),
        tiles=len(tiles),
        model=_means([tile.model for tile in tiles], HIGHER_IS_BETTER),
        bicubic=_means([tile.bicubic for tile in tiles], HIGHER_IS_BETTER),
        bands=tuple(_band_means(tiles)),
        kinds=tuple(sorted({tile.label.kind for tile in tiles})),
    )


def _band_means(tiles: Sequence[_Measured]) -> Iterator[BandScore]:
    """Nothing where images have different bands, which cannot be averaged."""
    if len({tuple(band.name for band in tile.bands) for tile in tiles}) == 1:
        for same in zip(*(tile.bands for tile in tiles), strict=True):
            yield BandScore(same[0].name, _means([band.numbers for band in same], same[0].numbers))


def _means(numbers: Sequence[Numbers], names: Iterable[str]) -> Numbers:
    """Mean of each measure over the tiles where it is defined."""
    means = {}
    for name in names:
        values = [n[name] for n in numbers if name in n and not math.isnan(n[name])]
        if values:
            means[name] = float(np.mean(values))
    return means
