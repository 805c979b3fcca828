"""How far the pixels of a network see, what it makes of sizes, and what it takes: measured, not guessed.

A square of noise goes through the network whole, and without its first rows and columns, which are brighter:

    +-----------------+
    |     bright      |     Where the results of both agree, the network does not see the cut.
    |    +------------+     The halo is the distance from the cut at which they begin to agree.
    |    |cut         |
    |    |      agree |
    +----+------------+

Some networks, such as DAT, average over all pixels of a tile. Their results agree nowhere, however far the cut is, and
would seem to if what is cut away had the same brightness and contrast as the rest.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geosegsr.errors import CheckpointError
from geosegsr.models.contract import fitted
from geosegsr.models.foreign.memory import peak_of
from geosegsr.models.foreign.program import Program
from geosegsr.notices import warn

TOLERANCE = 1e-5
"""Of a network's range: smaller differences count as none."""
VISIBLE = 1e-3
"""Of the same: what a cut may change far away before tiles may be told apart where they meet."""
_MARGIN = 3  # other pixels than the probe's may carry a change a little further
_SIDES = (96, 192)  # lr pixels; the second where the first is too small to tell
_ALIKE = 1.5  # changes that differ by less do not tell periods apart
_BRIGHT = (0.7, 0.3)  # darkest pixel and contrast of what is cut away
_UNSEEN = 16  # lr pixels: the halo of a network that cannot be cut, or that sees all of a tile


@dataclass(frozen=True)
class Findings:
    """What was measured of a network. Lengths are in lr pixels."""

    scale: int
    """Output pixels per input pixel, along each side."""
    halo: int
    """Distance from a cut beyond which it changes nothing."""
    period: int
    """Tiles must begin at multiples of this: the side of the network's own windows, or 1."""
    unsettled: float
    """How much a far cut still changes where the scene differs there, as a share of the range; 0 where the halo ends before
    the tile."""
    bytes_a_pixel: int
    """Main memory that a call takes for one lr pixel; 0 if it could not be measured."""


def measure(program: Program, device: torch.device, dtype: torch.dtype, span: float) -> Findings:
    """Measure a network.

    Args:
        program: The network.
        device: What it computes on.
        dtype: What it computes in.
        span: Length of the range that its pixels have.

    Raises:
        CheckpointError: It does not enlarge both sides by the same whole number.
    """
    periods = _periods(program)
    for side in (program.fixed,) if program.fixed else _SIDES:
        lr = span * _noise(program.bands, fitted(side, program.multiple_of, program.min_size)).to(
            device, dtype
        )
        sr, taken = peak_of(lambda lr=lr: called(program, lr))  # type: ignore[misc]
        scale, bytes_a_pixel = _scale(lr, sr, program.bands), taken // lr[0, 0].numel()
        if program.sizes is not None:
            known = program.sizes
            return Findings(scale, known["halo"], known["multiple_of"], 0.0, bytes_a_pixel)
        if program.fixed:
            return Findings(scale, min(_UNSEEN, side // 8), side, 0.0, bytes_a_pixel)
        unit = max(span, float(sr.abs().max()))  # rounding errors grow with the values
        left, period, halo = _best_cut(program, lr, sr, periods, scale, unit)
        if left <= TOLERANCE:
            return Findings(scale, halo, period, 0.0, bytes_a_pixel)
        periods = [period]  # a larger tile tells whether the network sees all of it, not how it must be cut
    return Findings(scale, halo if left < VISIBLE else _UNSEEN, period, left, bytes_a_pixel)


def warn_if_unsettled(findings: Findings, name: str) -> None:
    """Say that pixels of a network depend on all of a tile, where that may be seen."""
    if findings.unsettled > VISIBLE:
        warn(
            f"pixels of '{name}' depend on all of a tile: what lies far away still changes them by "
            f"{100 * findings.unsettled:.2g}% of the range. Tiles may not match where they meet; a larger --tile "
            "and --overlap help"
        )


def _best_cut(
    program: Program, lr: Tensor, sr: Tensor, periods: list[int], scale: int, unit: float
) -> tuple[float, int, int]:
    """What a cut still changes far away, the period by which it changes least, and the halo.

    Args:
        program: The network.
        lr: A square image, (1, bands, side, side).
        sr: What the network makes of it.
        periods: What tiles may have to begin at multiples of, the likeliest first.
        scale: Output pixels per input pixel.
        unit: Of changes: the length of the range.
    """
    found = []
    for period in periods:
        with suppress(CheckpointError):  # a program may accept no sides but multiples of some number
            halo, left = _halo(_change_by_cut(program, lr, sr, period, scale) / unit, scale)
            found.append((left, period, halo))
            if left <= TOLERANCE:
                break
    if not found:
        return 1.0, lr.shape[-1], _UNSEEN
    least = min(left for left, _, _ in found)
    return next(cut for cut in found if cut[0] <= _ALIKE * least)


def _periods(program: Program) -> list[int]:
    """Steps by which a network's own grid of windows may repeat, the likeliest first."""
    unit = program.multiple_of
    return list(dict.fromkeys(math.lcm(unit, step) for step in (1, *program.windows, 8, 16, 32)))


def _change_by_cut(program: Program, lr: Tensor, sr: Tensor, period: int, scale: int) -> Tensor:
    """What a cut at the top and left changes in the rest: the largest of all bands, float32 (rows, cols)."""
    cut = next(c for c in range(period, lr.shape[-1], 2 * period) if c >= lr.shape[-1] // 4)  # odd multiples
    rest = fitted(lr.shape[-1] - cut, program.multiple_of, program.min_size)
    cut = min(cut, lr.shape[-1] - rest)
    change = called(program, lr[..., cut:, cut:]) - sr[..., cut * scale :, cut * scale :]
    return change.abs().amax((0, 1)).float().cpu()


def _noise(bands: int, side: int) -> Tensor:
    """Always the same pixels: (1, bands, side, side) in 0 to 1, brighter where every cut takes them away."""
    noise = np.random.default_rng(0).random((1, bands, side, side), np.float32)
    darkest, contrast = _BRIGHT
    for edge in (noise[..., : side // 4, :], noise[..., side // 4 :, : side // 4]):
        edge *= contrast
        edge += darkest
    return torch.from_numpy(noise)


def called(program: Program, lr: Tensor) -> Tensor:
    """What a network makes of a batch of tiles.

    Raises:
        CheckpointError: It cannot compute them.
    """
    try:
        with torch.inference_mode():
            return program.call(lr)
    except (CheckpointError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # somebody else's network
        if "can't allocate memory" in str(error):
            raise
        what = f"tiles of {lr.shape[-1]} x {lr.shape[-2]} pixels"
        raise CheckpointError(
            f"Cannot compute {what} with this {program.architecture} network: {error}"
        ) from error


def _scale(lr: Tensor, sr: Tensor, bands: int) -> int:
    scale, rest = divmod(sr.shape[-1], lr.shape[-1])
    if sr.ndim != 4 or rest or sr.shape != (1, bands, lr.shape[-2] * scale, lr.shape[-1] * scale):
        raise CheckpointError(
            f"it makes an array {tuple(sr.shape)} of one {tuple(lr.shape)}, and does not enlarge both sides by a whole number"
        )
    return scale


def _halo(change: Tensor, scale: int) -> tuple[int, float]:
    """The distance at which a cut at the top and left changes no more than far away, and the change in the far corner.

    Args:
        change: (rows, cols) of the part beyond the cut, at the output's size.
        scale: Output pixels per input pixel.
    """
    side = change.shape[-1] // scale
    cells = change[: side * scale, : side * scale].reshape(side, scale, side, scale).amax((1, 3))
    far = cells[-max(1, side // 8) :, -max(1, side // 8) :]
    left = float(far.max())
    changed = (cells > max(TOLERANCE / _MARGIN, 2 * left)).nonzero()
    distance = int(changed.amin(1).max()) + 1 if len(changed) else 0
    return distance, left
