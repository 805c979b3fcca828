"""Seams: lines along rows and columns at which a result steps and its input does not."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from geosegsr.appraisal.agreement import Seen
from geosegsr.appraisal.pair import Floats, Mask, Part

_SEGMENT = 64
"""Input pixels of a line over which a step is averaged: texture averages out, a seam does not."""
_WIDE = 3
"""Input pixels on either side of a line whose means are compared."""
LEAST_HEIGHT = 1 / 255
"""Share of the span below which no screen shows a step."""
_SHARP = 6.0
"""Times the usual step, by the median over all lines of a part. On results without seams none of some thousand segments
lies above it that is visible at all."""
_OWN = 3.0
"""Times the step that bicubic interpolation shows there: an edge of the ground is in both."""
_ALIKE = 0.8
"""Share of the pixels along a segment that step the same way. At seams: 0.86 to 1 on nine segments of ten; where a network
sharpens the edge of a roof: at most 0.73."""
_ROUGH = 5.0
"""Times the usual roughness of a line: up to 3 on results without seams, 4.5 where noise was taken out. Tiles that are cut
hard have more, also where their levels agree."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Step:
    """A line segment at which the result steps."""

    row: int
    """First input pixel behind the line, counted from the first that the result covers."""
    col: int
    down: bool
    """Whether the line runs along a row, so that the step is from row to row."""
    height: float
    """Of the step, as a share of the span."""
    sharpness: float
    """The step, over what is usual between any two rows or columns there."""


@dataclass
class Steps:
    """Suspicious segments of all parts, and how many were compared."""

    found: list[Step] = field(default_factory=list)
    segments: int = 0

    def add(self, part: Part, seen: Seen, shown: tuple[int, ...]) -> None:
        """One part, over the mean of the bands that are shown."""
        bands = list(shown)
        offs = ((plane[bands] - part.lr[bands]).mean(0) for plane in (seen.result, seen.bicubic))
        result, simple = (np.asarray(off, np.float64) for off in offs)
        for down in (True, False):
            planes = (result, simple, seen.known) if down else (result.T, simple.T, seen.known.T)
            self._add_levels(*planes, part, down)
            self._add_roughness(part, bands, down)

    @property
    def lines(self) -> int:
        """Distinct lines among the segments; neighbouring lines are one seam."""
        lines = sorted({(step.down, step.row if step.down else step.col) for step in self.found})
        return sum(1 for n, line in enumerate(lines) if n == 0 or _apart(lines[n - 1], line))

    @property
    def worst(self) -> list[Step]:
        """The segments, the sharpest first."""
        return sorted(self.found, key=lambda step: -step.sharpness)

    def _add_levels(self, result: Array, simple: Array, known: Mask, part: Part, down: bool) -> None:
        (steps, alike), (plain, _), whole = _steps(result), _steps(simple), _whole(known)
        if not whole.any():
            return
        usual = 1.4826 * float(np.median(np.abs(steps[whole]))) + 1e-6
        self.segments += int(whole.sum())
        height = np.where(whole, np.abs(steps), 0)
        suspect = (height > LEAST_HEIGHT) & (height > _SHARP * usual) & (height > _OWN * np.abs(plain))
        suspect &= alike > _ALIKE
        for line, segment in zip(*np.nonzero(suspect), strict=True):
            at = float(height[line, segment])
            self._note(part, int(line) + _WIDE, int(segment) * _SEGMENT, down, at, at / usual)

    def _add_roughness(self, part: Part, bands: list[int], down: bool) -> None:
        if not part.lr_valid.all():
            return
        result, simple = (
            _roughness(plane[bands].mean(0), part.scale, down) for plane in (part.hr, part.bicubic)
        )
        for line in np.flatnonzero((result > _ROUGH) & (simple < 2)):
            start = part.inner.row if down else part.inner.col
            stop = part.inner.row_stop if down else part.inner.col_stop
            if start <= line < stop:
                self._note(
                    part,
                    int(line),
                    part.inner.col if down else part.inner.row,
                    down,
                    0.0,
                    float(result[line]),
                )

    def _note(self, part: Part, along: int, across: int, down: bool, height: float, sharpness: float) -> None:
        row, col = (along, across) if down else (across, along)
        place = row - part.inner.row + part.core.row, col - part.inner.col + part.core.col
        self.found.append(Step(max(place[0], 0), max(place[1], 0), down, height, sharpness))


def _apart(one: tuple[bool, int], other: tuple[bool, int]) -> bool:
    return one[0] != other[0] or other[1] - one[1] > _WIDE


def _steps(plane: Array) -> tuple[Array, Array]:
    """Mean of the rows behind each line less that of the rows before it, and the share of pixels that step this way.

    Both over segments; shape (lines, segments).
    """
    sums = np.cumsum(np.vstack([np.zeros((1, plane.shape[1])), plane]), axis=0)
    wide = (sums[_WIDE:] - sums[:-_WIDE]) / _WIDE
    steps = wide[_WIDE:] - wide[:-_WIDE]
    segments = steps[:, : steps.shape[1] // _SEGMENT * _SEGMENT].reshape(len(steps), -1, _SEGMENT)
    up = np.mean(segments > 0, axis=2)
    return segments.mean(2), np.maximum(up, 1 - up)


def _whole(known: Mask) -> Mask:
    width = known.shape[1] // _SEGMENT * _SEGMENT
    good = known[:, :width].reshape(len(known), -1, _SEGMENT).mean(2) > 0.75
    lines = len(known) - 2 * _WIDE + 1
    whole: Mask = np.logical_and.reduce([good[k : k + lines] for k in range(2 * _WIDE)])
    return whole


def _roughness(plane: Floats, scale: int, down: bool) -> Array:
    """Jump from the last pixel before each input pixel's edge to the first behind it, over what is usual; shape (lines,).

    The jump is that of `geosegsr.evaluation.seams`, of which level and slope are no part; its mean without its sign is less
    swayed by a few edges than its square.
    """
    rows = (plane if down else plane.T).astype(np.float64)
    step = np.diff(rows, axis=0)
    jumps = np.abs(step[1:-1] - (step[:-2] + step[2:]) / 2).mean(1)  # between rows i + 1 and i + 2
    lines = np.zeros(len(rows) // scale)
    edges = np.arange(1, len(lines)) * scale
    lines[1:] = jumps[np.clip(edges - 2, 0, len(jumps) - 1)]
    return lines / max(float(np.median(lines[1:])), 1e-9) if len(lines) > 1 else lines
