"""The regression of coarse detail on a guide, fitted on the scene itself at its own lower resolution.

The coarse bands y are reduced once more, as their own pixels reduce the ground. At that level the truth is known: it is
y itself. What the reduction D does not hold is

    y - U D y        U = D' (D D')^-1, see `geosegsr.sensor.consistency`

and it is regressed on the same part of each feature of the reduced guide. The weights are applied one level up, to
the guide itself. That the law holds at both levels is Wald's assumption.

Source:
    L. Wald, T. Ranchin and M. Mangolini, "Fusion of satellite images of different spatial resolutions", PE&RS 63
    (1997), for the protocol. A. E. Hoerl and R. W. Kennard, "Ridge regression", Technometrics 12 (1970).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from geosegsr.cpu import single_threaded_blas
from geosegsr.sensor.consistency import Sampling, degraded, least_image, unseen
from geosegsr.sharpening.blur import Sample, estimate_mtf, sampling_of_mtf
from geosegsr.sharpening.features import Scaling, feature_count, planes, smoothed

Floats: TypeAlias = NDArray[np.float64]
_FOLDS = 2
"""Parts along each side of a sample, each predicted by a fit to the others."""
_RIDGES = tuple(10.0**power for power in range(-6, 2))
"""Shares of the features' mean variance that are tried."""
_LEAST_GAIN = 0.02
"""Share of the detail that a guide must explain where it was not fitted; less is chance."""
_OUTLIER = 10.0
"""Robust standard deviations beyond which a pixel is a cloud's edge, a change or a fault."""
_DIGITS = 6
"""Of the weights: what a processor's arithmetic changes in the last bits must not change a run's key."""
_MTF_SAMPLES = 4


@dataclass(frozen=True)
class Quality:
    """How well a band's detail was predicted at the lower level, where the fit had not seen it."""

    explained: float
    """Share of the squared error without the guide that it removes; 0 where the guide is not used."""
    rmse: float
    """Error of the sharpened band, in DN."""
    rmse_alone: float
    """Error of the band enlarged without the guide, in DN."""


@dataclass(frozen=True, eq=False)
class Fit:
    """What a guide says about the detail of coarse bands, anywhere in a scene."""

    ratio: int
    """Fine pixels per coarse pixel, along each side."""
    half: bool
    """Whether a coarse pixel lies half a fine pixel before its fine pixels; see `sampling_of_mtf`."""
    mtf: float
    """Response of the blur between them at the coarse Nyquist frequency."""
    scaling: Scaling
    weights: NDArray[np.float32]
    """DN per unit of each feature, shape (bands, features)."""
    quality: tuple[Quality, ...]
    """Of each band."""

    @property
    def sampling(self) -> Sampling:
        """How coarse pixels are made of fine ones."""
        return sampling_of_mtf(self.ratio, self.mtf, self.half)


def fit(
    samples: Sequence[Sample],
    ratio: int,
    guides: int,
    bands: int,
    *,
    mtf: float | None = None,
    half: bool = False,
) -> Fit:
    """Fit on samples of a scene.

    Args:
        samples: Parts of the scene; none for a fit that uses no guide.
        ratio: Fine pixels per coarse pixel, along each side.
        guides: Bands of the guide.
        bands: Coarse bands.
        mtf: Response of the blur at the coarse Nyquist frequency, where it is known; by default estimated.
        half: Whether a coarse pixel lies half a fine pixel before its fine pixels; see `sampling_of_mtf`.

    Returns:
        The fit; weights are 0 for a band whose detail the guide does not predict.
    """
    samples = [sample for sample in samples if sample.usable.any()]
    scaling = _scaling(samples, guides, bands)
    with single_threaded_blas():
        if mtf is None:
            mtf = estimate_mtf(samples[:: max(1, len(samples) // _MTF_SAMPLES)][:_MTF_SAMPLES], ratio, half)
        sampling = sampling_of_mtf(ratio, mtf, half)
        tables = [_Table.of(sample, sampling, scaling) for sample in samples]
        weights, quality = _solved(tables, feature_count(ratio, guides, bands), bands)
    return Fit(ratio, half, mtf, scaling, weights, quality)


def _scaling(samples: Sequence[Sample], guides: int, bands: int) -> Scaling:
    """Level and contrast over all usable pixels, to four digits."""

    def of(count: int, values: list[NDArray[Any]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
        if not values:
            return (0.0,) * count, (1.0,) * count
        together = np.concatenate(values, axis=1).astype(np.float64)
        mean, deviation = together.mean(1), together.std(1)
        return (
            tuple(float(f"{value:.4g}") for value in mean),
            tuple(float(f"{value:.4g}") if value > 0 else 1.0 for value in deviation),
        )

    coarse = of(bands, [sample.coarse[:, sample.usable] for sample in samples])
    guide = of(guides, [_block_means(sample)[:, sample.usable] for sample in samples])
    return Scaling(*guide, *coarse)


def _block_means(sample: Sample) -> NDArray[Any]:
    bands, (h, w) = len(sample.guide), sample.usable.shape
    ratio = sample.guide.shape[1] // h
    means: NDArray[Any] = sample.guide.reshape(bands, h, ratio, w, ratio).mean((2, 4))
    return means


@dataclass(frozen=True)
class _Table:
    """One sample at the lower level: the rows of the regression."""

    features: NDArray[np.float32]
    """Shape (features, pixels)."""
    detail: NDArray[np.float32]
    """Shape (bands, pixels)."""
    fold: NDArray[np.uint8]
    """Shape (pixels,)."""

    @classmethod
    def of(cls, sample: Sample, sampling: Sampling, scaling: Scaling) -> _Table:
        """Reduce a sample, and take the part of all planes that the reduction does not hold."""
        ratio = sampling.scale
        guide = np.stack([degraded(band, sampling) for band in sample.guide])
        base = np.stack([least_image(degraded(band, sampling), sampling) for band in sample.coarse])
        detail = np.stack([unseen(band, sampling) for band in guide])
        smooth = smoothed(base, ratio)
        kept = _kept(sample.usable, ratio)
        whole = slice(0, sample.usable.shape[0])
        features = [
            unseen(plane, sampling)[kept]
            for plane in planes(scaling, ratio, guide, detail, base, smooth, whole)
        ]
        detail = (sample.coarse - base)[:, kept].astype(np.float32)
        return cls(np.stack(features).astype(np.float32), detail, _folds(sample.usable.shape)[kept])

    def only(self, pixels: NDArray[np.bool_]) -> _Table:
        """Some of the pixels."""
        return _Table(self.features[:, pixels], self.detail[:, pixels], self.fold[pixels])


def _kept(usable: NDArray[np.bool_], ratio: int) -> NDArray[np.bool_]:
    """Usable pixels whose coarser pixel, and its neighbours where there is room, hold usable pixels only."""
    h, w = usable.shape
    whole = usable.reshape(h // ratio, ratio, w // ratio, ratio).all((1, 3))
    padded = np.pad(whole, 1, constant_values=min(whole.shape) < 6)
    near = np.all(
        [padded[i : i + whole.shape[0], j : j + whole.shape[1]] for i in range(3) for j in range(3)], axis=0
    )
    kept: NDArray[np.bool_] = np.repeat(np.repeat(near, ratio, 0), ratio, 1)
    return kept


def _folds(shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Number of the part that each pixel lies in."""
    rows, cols = (np.arange(side) * _FOLDS // side for side in shape)
    return (rows[:, None] * _FOLDS + cols).astype(np.uint8)


def _solved(
    tables: list[_Table], features: int, bands: int
) -> tuple[NDArray[np.float32], tuple[Quality, ...]]:
    """Weights in DN per unit, and their quality; a second solution leaves out what the first finds far off."""
    tables = [table for table in tables if table.detail.size]
    if sum(table.detail.shape[1] for table in tables) < 4 * _FOLDS**2:
        return np.zeros((bands, features), np.float32), (Quality(0.0, float("nan"), float("nan")),) * bands
    products = _Products.of(tables)
    weights, quality = products.solved()
    errors = [table.detail - weights @ table.features for table in tables]
    limit = _OUTLIER * 1.4826 * np.median(np.abs(np.concatenate(errors, axis=1)), axis=1, keepdims=True)
    far = [np.any(np.abs(error) > limit, axis=0) for error in errors]
    if not any(pixels.any() for pixels in far) or not limit.all():
        return weights, quality
    return products.less(
        _Products.of([table.only(at) for table, at in zip(tables, far, strict=True)])
    ).solved()


@dataclass(frozen=True)
class _Products:
    """Sums of products over the pixels of each fold: all that ridge regression and its validation need."""

    count: Floats
    """Pixels, shape (folds,)."""
    features: Floats
    """Shape (folds, features, features)."""
    mixed: Floats
    """Features by bands, shape (folds, features, bands)."""
    own: Floats
    """Squares of the detail, shape (folds, bands)."""

    @classmethod
    def of(cls, tables: Sequence[_Table]) -> _Products:
        """Add up the products of all tables."""
        folds, (features, bands) = _FOLDS**2, (len(tables[0].features), len(tables[0].detail))
        made = cls(
            np.zeros(folds), np.zeros((folds, features, features)),
            np.zeros((folds, features, bands)), np.zeros((folds, bands)),
        )  # fmt: skip
        for table in tables:
            for fold in range(folds):
                inside = table.fold == fold
                x, t = (
                    table.features[:, inside].astype(np.float64),
                    table.detail[:, inside].astype(np.float64),
                )
                made.count[fold] += x.shape[1]
                made.features[fold] += x @ x.T
                made.mixed[fold] += x @ t.T
                made.own[fold] += np.square(t).sum(1)
        return made

    def less(self, other: _Products) -> _Products:
        """Without the pixels of another."""
        return _Products(
            self.count - other.count,
            self.features - other.features,
            self.mixed - other.mixed,
            self.own - other.own,
        )

    def solved(self) -> tuple[NDArray[np.float32], tuple[Quality, ...]]:
        """The weights that predict the folds best, for each band on its own: with the guide, without it, or none."""
        features, bands = self.mixed.shape[1:]
        size = np.sqrt(np.maximum(self.features.sum(0).diagonal() / max(self.count.sum(), 1), 1e-12))
        scaled, mixed = self.features / np.outer(size, size), self.mixed / size[:, None]
        count = max(float(self.count.sum()), 1.0)
        with_guide, error = self._validated(scaled, mixed)
        own = slice(features - bands, None)
        without, error_without = self._validated(scaled[:, own, own], mixed[:, own])
        weights, quality = np.zeros((bands, features)), []
        for band, total in enumerate(self.own.sum(0)):
            alone, explained = float(total), 0.0
            if error_without[band] < (1 - _LEAST_GAIN) * total:
                alone = float(error_without[band])
                weights[band, own] = without[:, band]
            if error[band] < (1 - _LEAST_GAIN) * alone:
                explained = 1 - float(error[band]) / alone
                weights[band] = with_guide[:, band]
            quality.append(
                Quality(
                    explained, float(np.sqrt((1 - explained) * alone / count)), float(np.sqrt(alone / count))
                )
            )
        rounded = np.stack([_rounded(found / size) for found in weights])
        return rounded.astype(np.float32), tuple(quality)

    def _validated(self, scaled: Floats, mixed: Floats) -> tuple[Floats, Floats]:
        """For each band the weights of the ridge that predicts the folds best, shape (features, bands), and its squared error."""
        errors = np.stack([self._held_out(scaled, mixed, ridge) for ridge in _RIDGES])
        best = errors.argmin(0)
        weights = [_ridge(scaled.sum(0), mixed.sum(0)[:, band], _RIDGES[at]) for band, at in enumerate(best)]
        return np.stack(weights, axis=1), errors.min(0)

    def _held_out(self, scaled: Floats, mixed: Floats, ridge: float) -> Floats:
        """Squared error of each band over all folds, each predicted by a fit to the others; shape (bands,)."""
        error = np.zeros(self.own.shape[1])
        for fold in range(len(self.count)):
            others = _ridge(scaled.sum(0) - scaled[fold], mixed.sum(0) - mixed[fold], ridge)
            error += self.own[fold] - 2 * np.einsum("fk,fk->k", others, mixed[fold])
            error += np.einsum("fk,fg,gk->k", others, scaled[fold], others, optimize=True)
        return error


def _ridge(products: Floats, mixed: Floats, ridge: float) -> Floats:
    damped = products + (ridge * np.trace(products) / len(products) + 1e-12) * np.eye(len(products))
    weights: Floats = np.linalg.solve(damped, mixed)
    return weights


def _rounded(weights: Floats) -> Floats:
    """To some digits of the largest."""
    largest = float(np.abs(weights).max())
    step = 10.0 ** (np.ceil(np.log10(largest)) - _DIGITS) if largest else 1.0
    return np.round(weights / step) * step
