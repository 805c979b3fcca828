"""Curves for inline SVG: paths and ticks in the coordinates of a drawing; colours and fonts are the page's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geosegsr.appraisal.spectra import Spectra
from geosegsr.appraisal.survey import Histograms

WIDTH, HEIGHT = 480, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 36


@dataclass(frozen=True)
class Curve:
    """One line of a chart."""

    name: str
    style: str
    """Class of the page's style sheet."""
    path: str
    """Of an SVG path."""


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Chart:
    """A drawing of WIDTH by HEIGHT."""

    title: str
    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    mark: Tick | None = None
    """A vertical line."""

    @property
    def caption(self) -> str:
        return self.title if self.title == self.y_label else f"{self.title}: {self.y_label}"

    width, height, left, right, top, bottom = WIDTH, HEIGHT, _LEFT, WIDTH - _RIGHT, _TOP, HEIGHT - _BOTTOM


def spectrum_chart(spectra: Spectra) -> Chart | None:
    """Power over frequency, both as logarithms; None where nothing was measured."""
    if not spectra.measured:
        return None
    drawn = {name: spectra.curve(name) for name in ("input", "bicubic", "result")}
    drawn["expected"] = spectra.expected()
    floor = 1e-9
    x_ends = math.log10(drawn["result"][0][0]), math.log10(spectra.scale / 2)
    powers = np.concatenate([power for _, power in drawn.values()])
    y_ends = (
        math.floor(math.log10(max(powers.min(), floor))),
        math.ceil(math.log10(max(powers.max(), 10 * floor))),
    )
    curves = tuple(
        Curve(
            name, name,
            _path(
                _scaled(np.log10(at), *x_ends, _LEFT, WIDTH - _RIGHT),
                _scaled(np.log10(np.maximum(power, floor)), *y_ends, HEIGHT - _BOTTOM, _TOP),
            ),
        )
        for name, (at, power) in drawn.items()
    )  # fmt: skip
    x_ticks = [
        f
        for f in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 4)
        if x_ends[0] <= math.log10(f) <= x_ends[1] + 1e-9
    ]
    ticks = tuple(Tick(_place(math.log10(f), *x_ends, _LEFT, WIDTH - _RIGHT), f"{f:g}") for f in x_ticks)
    step = max(1, (y_ends[1] - y_ends[0]) // 5)
    rows = tuple(
        Tick(_place(power, *y_ends, HEIGHT - _BOTTOM, _TOP), f"1e{power}")
        for power in range(y_ends[0], y_ends[1] + 1, step)
    )
    mark = Tick(_place(math.log10(0.5), *x_ends, _LEFT, WIDTH - _RIGHT), "the input's resolution")
    return Chart("Mean power", "cycles per input pixel", "Mean power", curves, ticks, rows, mark)


def histogram_charts(
    histograms: Histograms, names: Sequence[str], span: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> list[Chart]:
    """One for each band, in DN."""
    charts = []
    low, high = (end.ravel() for end in span)
    for band, name in enumerate(names):
        edges = histograms.edges[band]
        middles, x_ends = (edges[1:] + edges[:-1]) / 2, (float(edges[0]), float(edges[-1]))
        shares = [
            counts[band] / max(counts[band].sum(), 1) for counts in (histograms.source, histograms.result)
        ]
        top = max(float(share.max()) for share in shares) or 1.0
        curves = tuple(
            Curve(
                title,
                title,
                _path(
                    _scaled(middles, *x_ends, _LEFT, WIDTH - _RIGHT),
                    _scaled(share, 0, top, HEIGHT - _BOTTOM, _TOP),
                ),
            )
            for title, share in zip(("input", "result"), shares, strict=True)
        )
        ticks = tuple(
            Tick(
                _place(at, *x_ends, _LEFT, WIDTH - _RIGHT), f"{low[band] + at * (high[band] - low[band]):.4g}"
            )
            for at in (0.0, 0.25, 0.5, 0.75, 1.0)
        )
        places = 0 if top >= 0.1 else 1  # the margin holds four characters
        rows = tuple(
            Tick(_place(at * top, 0, top, HEIGHT - _BOTTOM, _TOP), f"{at * top:.{places}%}")
            for at in (0.0, 0.5, 1.0)
        )
        charts.append(Chart(name, "DN", "share of pixels", curves, ticks, rows))
    return charts


def _place(value: float, low: float, high: float, start: float, stop: float) -> float:
    return round(start + (value - low) / max(high - low, 1e-12) * (stop - start), 1)


def _scaled(
    values: NDArray[np.float64], low: float, high: float, start: float, stop: float
) -> NDArray[np.float64]:
    scaled: NDArray[np.float64] = start + (values - low) / max(high - low, 1e-12) * (stop - start)
    return scaled


def _path(xs: NDArray[np.float64], ys: NDArray[np.float64]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys, strict=True))
