"""What PSNR a network could reach on a real pair, by two measures: levels of the whole image, and levels by place.

    python benchmarks/quality/pair_measures.py HR LR --scale 2

An ideal network adds all detail of hr to lr and changes no level of it. What it lacks to hr, no resolution gives:
the two sides differ at the pixel size of lr. Printed is a Markdown table for the southern tenth of the ground.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosegsr.imagery.pairs import AlignedPair, align
from geosegsr.models.interpolation import Interpolator
from geosegsr.raster.scene import Scene
from geosegsr.sensor.degradation import imresize_down

_SHARE = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("hr")
    parser.add_argument("lr")
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--max-shift", type=float, default=3.0)
    given = parser.parse_args()
    print(
        "| Levels | Ground that counts | Bicubic | lr against hr reduced | Ideal network |\n|---|---|---|---|---|"
    )
    for by_place in (False, True):
        pair = align(
            Scene.open(given.hr), Scene.open(given.lr), given.scale, {"kind": "dtype"},
            max_shift=given.max_shift, match_levels=True, by_place=by_place,
        )  # fmt: skip
        for ground, counted in (("all", pair.valid), *((("unchanged", pair.same),) if by_place else ())):
            numbers = " | ".join(f"{value:.2f}" for value in _scores(pair, counted, given.scale))
            print(f"| {'by place' if by_place else 'of the whole'} | {ground} | {numbers} |", flush=True)


def _scores(pair: AlignedPair, counted: NDArray[np.bool_], scale: int) -> tuple[float, float, float]:
    """PSNR of bicubic, of lr against hr reduced, and of an ideal network, over all bands."""
    south = slice(int(pair.lr.shape[1] * (1 - _SHARE)), None)
    lr, hr = pair.lr[:, south], pair.hr[:, south.start * scale :]
    enlarge = Interpolator("bicubic", scale)
    reduced = imresize_down(hr, scale)
    ideal = hr + enlarge((lr - reduced)[None])[0]
    coarse = counted[south]
    fine = coarse.repeat(scale, 0).repeat(scale, 1)
    return _psnr(enlarge(lr[None])[0], hr, fine), _psnr(lr, reduced, coarse), _psnr(ideal, hr, fine)


def _psnr(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]], counted: NDArray[np.bool_]) -> float:
    return -10 * math.log10(float(np.square(a - b)[:, counted].mean()))


if __name__ == "__main__":
    main()
