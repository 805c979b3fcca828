"""What stays in float32 where a network computes in 16 bits."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def conv_in_float32(image: Tensor, weight: Tensor, bias: Tensor | None = None, padding: int = 0) -> Tensor:
    """A convolution of an image whose own steps are finer than 16 bits can tell, under autocast too.

    Args:
        image: Shape (N, C, h, w).
        weight: As F.conv2d takes it, of any float dtype.
        bias: Likewise.
        padding: Pixels, likewise.

    Returns:
        float32, channels-last.
    """
    image = image.float().contiguous(memory_format=torch.channels_last)
    device = "cpu" if image.is_meta else image.device.type  # tensors without memory know no autocast
    with torch.autocast(device, enabled=False):
        return F.conv2d(image, weight.float(), None if bias is None else bias.float(), padding=padding)
