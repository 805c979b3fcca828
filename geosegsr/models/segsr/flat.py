"""Flat ground: where an image is constant, so is its enlargement.

A network answers a constant image with a faint pattern of its own, stronger at the image's border. Where the pixels
around a place differ by next to nothing, the bicubic enlargement takes the network's place.

    lr                     7 7 7 7 7 7 7 3 5 4      one row of one band
    range of 5 pixels      0 0 0 0 0 4 4 4 4 2
    flat: 1 - range/FULL   1 1 1 1 1 0 0 0 0 0      at least 0
    most of 3 pixels       1 1 1 1 1 1 0 0 0 0      then linear from centre to centre
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from geosegsr.models.segsr.enlarge import bicubic

FULL = 1e-3
"""Range of the pixels around a place, in the model's range, from which on the network's result is left as it is.

Less than half a DN of 8 bits, so that only constant ground is flat there.
"""
_WINDOW = 5  # as far as the bicubic kernel sees: its result is constant where that is
REACH = _WINDOW // 2 + 2
"""How far around a pixel its result depends on what is flat, in lr pixels."""


def flat_bands(lr: Tensor) -> list[int]:
    """The bands that are flat anywhere; float32, shape (N, C, h, w), in the model's range."""
    bands: list[int] = torch.nonzero(_spread(lr).amin((0, 2, 3)) < FULL).flatten().tolist()
    return bands


def keep_flat(
    sr: Tensor, lr: Tensor, scale: int, sharpness: float, bands: Sequence[int] | None = None
) -> Tensor:
    """A network's result, with its bicubic enlargement where the input is flat, each band on its own.

    Results elsewhere keep their bits, and nothing depends on the other images of a batch.

    Args:
        sr: The network's result, float32, shape (N, C, scale*h, scale*w); changed in place.
        lr: Its input, float32, shape (N, C, h, w), in the model's range.
        scale: Output pixels per input pixel, along each side.
        sharpness: The bicubic kernel's parameter a.
        bands: What `flat_bands` finds in the input; by default it is asked here.

    Returns:
        `sr`; within the rounding of float32 constant wherever the lr pixels up to two away are.
    """
    for band in flat_bands(lr) if bands is None else bands:  # one at a time, to save memory
        own = slice(band, band + 1)
        flat = _flat(_spread(lr[:, own]))  # (N, 1, h, w)
        share = F.interpolate(flat, scale_factor=float(scale), mode="bilinear")  # (N, 1, sh, sw)
        # At a share of 0 this is exactly the first, and at 1 exactly the second.
        sr[:, own] = torch.lerp(sr[:, own], bicubic(lr[:, own], scale, sharpness), share)
    return sr


def flat_share(lr: Tensor) -> Tensor:
    """How flat the ground around each pixel is, 0 to 1, of the shape of `lr`."""
    return _flat(_highest(lr, _WINDOW) + _highest(-lr, _WINDOW))


def _flat(spread: Tensor) -> Tensor:
    return _highest(1 - spread / FULL, 3).clamp_(min=0)


def _spread(lr: Tensor) -> Tensor:
    """Range of the pixels around each pixel, (N, C, h, w)."""
    return _highest(lr, _WINDOW) + _highest(-lr, _WINDOW)


def _highest(image: Tensor, side: int) -> Tensor:
    """The highest value of the square around each pixel, within the image; several times as fast as torch's pooling."""
    reach = side // 2
    wide = F.pad(image, (reach, reach, reach, reach), mode="replicate")
    height, width = image.shape[-2:]
    down = reduce(torch.maximum, (wide[..., row : row + height, :] for row in range(side)))
    return reduce(torch.maximum, (down[..., col : col + width] for col in range(side)))
