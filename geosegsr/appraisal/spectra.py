"""Radially averaged power spectra of input, bicubic interpolation and result: where energy was added, and how much."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from geosegsr.appraisal.pair import Floats, Part

_SIDE = 64
"""Input pixels along a side of a patch."""
_RINGS = 32
"""Rings from 0 to the input's Nyquist frequency."""
_FITTED = (0.08, 0.35)
"""Cycles per input pixel between which the input's own decline is fitted: above, blur and aliases bend it."""
_KEPT = (0.05, 0.4)
"""Cycles per input pixel that the input holds well, and that a result must keep."""

Curve = NDArray[np.float64]


@dataclass
class Spectra:
    """Mean power densities over the patches of all parts."""

    scale: int
    patches: int = 0
    sums: dict[str, Curve] = field(default_factory=dict)

    def add(self, part: Part, shown: tuple[int, ...]) -> None:
        """Up to four whole patches of a part, over the mean of the bands that are shown."""
        planes = {
            "input": part.lr[list(shown)].mean(0),
            "bicubic": part.bicubic[list(shown)].mean(0),
            "result": part.hr[list(shown)].mean(0),
        }
        inner = part.inner
        places = [
            (row, col)
            for row in range(inner.row, inner.row_stop - _SIDE + 1, _SIDE)
            for col in range(inner.col, inner.col_stop - _SIDE + 1, _SIDE)
            if part.lr_valid[row : row + _SIDE, col : col + _SIDE].all()
        ]
        for row, col in places[:: max(1, len(places) // 4)][:4]:
            for name, plane in planes.items():
                zoom = 1 if name == "input" else self.scale
                patch = plane[row * zoom : (row + _SIDE) * zoom, col * zoom : (col + _SIDE) * zoom]
                power = _radial(patch, zoom)
                self.sums[name] = self.sums.get(name, np.zeros_like(power)) + power
            self.patches += 1

    def curve(self, name: str) -> tuple[Curve, Curve]:
        """Frequencies in cycles per input pixel, and mean power density, of "input", "bicubic" or "result"."""
        power = self.sums[name] / max(self.patches, 1)
        return (np.arange(len(power)) + 0.5) / _RINGS / 2, power

    @property
    def measured(self) -> bool:
        """Whether there was a patch."""
        return self.patches > 0

    def kept(self) -> float:
        """Power of the result over that of the input, where the input holds ground; 1 is right."""
        at, power = self.curve("result")
        _, own = self.curve("input")
        inside = (at[: len(own)] >= _KEPT[0]) & (at[: len(own)] <= _KEPT[1])
        weights = at[: len(own)][inside]
        return float(np.average(power[: len(own)][inside] / np.maximum(own[inside], 1e-12), weights=weights))

    def expected(self) -> tuple[Curve, Curve]:
        """The input's own decline, continued beyond its Nyquist frequency: a power law, as ground mostly has it."""
        at, own = self.curve("input")
        inside = (at >= _FITTED[0]) & (at <= _FITTED[1])
        slope, level = np.polyfit(np.log(at[inside]), np.log(np.maximum(own[inside], 1e-12)), 1)
        beyond, _ = self.curve("result")
        return beyond, np.exp(level + slope * np.log(beyond))

    def added(self, name: str = "result") -> float:
        """Energy beyond the input's Nyquist frequency, over what its own decline leads one to expect there."""
        at, power = self.curve(name)
        _, expected = self.expected()
        beyond = at > 0.5
        # A ring of radius f holds energy in proportion to f.
        energy, due = (float((curve[beyond] * at[beyond]).sum()) for curve in (power, expected))
        return energy / max(due, 1e-12) if math.isfinite(due) else math.nan


def _radial(patch: Floats, zoom: int) -> Curve:
    """Mean power density in rings of 0.5 / _RINGS cycles per input pixel, up to the patch's own Nyquist frequency."""
    side = patch.shape[0]
    window = np.hanning(side + 2)[1:-1]
    faded = (patch - patch.mean()) * np.outer(window, window)
    power = np.abs(np.fft.fft2(faded)) ** 2 / (np.square(window).mean() ** 2 * side**2 * zoom**2)
    at = np.fft.fftfreq(side) * zoom
    ring = (np.hypot(at[:, None], at[None]) * 2 * _RINGS).astype(int).ravel()
    count = np.bincount(ring, minlength=_RINGS * zoom)
    total = np.bincount(ring, weights=power.ravel(), minlength=_RINGS * zoom)
    curve: Curve = (total / np.maximum(count, 1))[: _RINGS * zoom]
    return curve
