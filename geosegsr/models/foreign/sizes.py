"""The sizes of tiles that suit a network of another project, from what was measured of it."""

from __future__ import annotations

import math

from geosegsr.models.contract import fitted
from geosegsr.models.foreign.probe import Findings
from geosegsr.models.foreign.program import Program, TileSizes

_TILE = 128  # lr pixels, unless the halo needs more
_FEATHER = 8  # lr pixels over which neighbouring tiles are blended


def sizes_of(program: Program, findings: Findings) -> TileSizes:
    """Tile, overlap, halo, multiple_of and min_size as of `Facts` and of a card, in lr pixels."""
    if program.sizes is not None:
        return program.sizes
    step = math.lcm(program.multiple_of, findings.period)
    overlap = fitted(2 * findings.halo + _FEATHER, step, 1)
    tile = program.fixed or fitted(max(_TILE, 2 * overlap), step, program.min_size)
    return {
        "tile": tile,
        "overlap": min(overlap, tile // 2),
        "halo": findings.halo,
        "multiple_of": step,
        "min_size": program.fixed or program.min_size,
    }
