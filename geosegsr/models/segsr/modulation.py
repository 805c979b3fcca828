"""Modulation: gain and offset for each pixel and channel, from the guidance."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


def channel_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Layer normalisation over the channels of (N, C, h, w), in its dtype; copies nothing where memory is channels-last."""
    weight, bias = norm.weight.to(x.dtype), norm.bias.to(x.dtype)
    x = F.layer_norm(x.permute(0, 2, 3, 1), norm.normalized_shape, weight, bias, norm.eps)  # (N, h, w, C)
    return x.permute(0, 3, 1, 2)


class Modulation(nn.Module):
    """Normalises features, unless told not to, then scales and shifts them by the guidance (LMM).

    Source:
        The method's paper, section III-D.
    """

    def __init__(self, channels: int, hidden: int, kernel: int, *, normalise: bool = True) -> None:
        super().__init__()
        pad = kernel // 2
        self.norm = nn.LayerNorm(channels) if normalise else None
        self.shared = nn.Conv2d(1, hidden, kernel, padding=pad)
        self.gain_offset = nn.Conv2d(hidden, 2 * channels, kernel, padding=pad)
        self.start_plain()

    def start_plain(self) -> None:
        """Make the modulation close to plain normalisation, or to no change at all."""
        nn.init.normal_(self.gain_offset.weight, std=1e-3)
        nn.init.zeros_(self._bias)

    @property
    def _bias(self) -> Tensor:
        assert self.gain_offset.bias is not None
        return self.gain_offset.bias

    def forward(self, x: Tensor, guidance: Tensor) -> Tensor:
        """Features (N, C, h, w), changed by the map (N, 1, h, w), which may have fewer bits than they."""
        hidden = F.relu(self.shared(guidance.to(self.shared.weight.dtype)))  # (N, H, h, w)
        gain_weight, offset_weight = self.gain_offset.weight.chunk(2)
        gain_bias, offset_bias = self._bias.chunk(2)
        # Two convolutions, and the one in the gain's bias, so that what remains is a single pass over memory.
        gain = F.conv2d(hidden, gain_weight, gain_bias + 1, padding="same")  # (N, C, h, w), 1 + gain
        offset = F.conv2d(hidden, offset_weight, offset_bias, padding="same")  # (N, C, h, w)
        # addcmul would cast them itself, but unseen by workspace_bytes; and of two names for each, one would be held too long.
        gain, offset = gain.to(x.dtype), offset.to(x.dtype)
        return torch.addcmul(offset, x if self.norm is None else channel_norm(x, self.norm), gain)
