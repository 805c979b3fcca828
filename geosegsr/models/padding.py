"""Images made larger at their ends, where a network takes certain sizes only."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def padded(image: Tensor, multiple: int, least: int = 1) -> Tensor:
    """An image whose sides are multiples of a number, and at least of a length; padded by reflection at bottom and right.

    Args:
        image: Shape (N, C, h, w).
        multiple: Of pixels.
        least: Pixels.
    """
    lengths = [max(side, least) for side in image.shape[-2:]]
    bottom, right = (
        length + -length % multiple - side for length, side in zip(lengths, image.shape[-2:], strict=True)
    )
    return _pad(_pad(image, bottom, 2), right, 3) if bottom or right else image


def _pad(image: Tensor, more: int, axis: int) -> Tensor:
    """Grow one axis at its end by reflection, or by its last line where there is too little to reflect."""
    if not more:
        return image
    mode = "reflect" if more < image.shape[axis] else "replicate"
    return F.pad(image, (0, 0, 0, more) if axis == 2 else (0, more, 0, 0), mode=mode)
