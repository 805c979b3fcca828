"""Plain convolutions, made for processors: few channels, one cheap activation, no attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from geosegsr.models.segsr.config import SeGSRConfig
from geosegsr.models.segsr.fused import conv_add, conv_leaky
from geosegsr.models.segsr.units import ConditionedUnit

_SLOPE = 0.1


class CompactUnit(ConditionedUnit):
    """3x3 convolutions with an activation between, and a sum over every `skip_every` of them."""

    def __init__(self, config: SeGSRConfig, depth: int) -> None:
        super().__init__()
        self.skip_every = config.skip_every
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [
                nn.Conv2d(config.width, config.width, 3, padding=1),
                nn.LeakyReLU(_SLOPE, inplace=True),
            ]
        self.body = nn.Sequential(*layers[:-1])

    def convolutions(self) -> list[nn.Conv2d]:
        """See ConditionedUnit."""
        return [layer for layer in self.body if isinstance(layer, nn.Conv2d)]

    def forward(self, x: Tensor, conditions: Tensor | None = None) -> Tensor:
        """(N, W, h, w) to what shall be added to it; conditions are gain and offset, (depth, 2, N, W, 1, 1)."""
        kept, convolutions = x, self.convolutions()
        for i, conv in enumerate(convolutions[:-1]):
            if self.skip_every and (i + 1) % self.skip_every == 0:
                if conditions is None:
                    kept = conv_add(conv, x, kept)
                else:
                    kept = _conditioned(conv(x), conditions[i]) + kept
                x = F.leaky_relu(kept, _SLOPE)
            elif conditions is None:
                x = conv_leaky(conv, x, _SLOPE)
            else:
                x = F.leaky_relu_(_conditioned(conv(x), conditions[i]), _SLOPE)
        x = convolutions[-1](x)
        return x if conditions is None else _conditioned(x, conditions[-1])


def _conditioned(x: Tensor, condition: Tensor) -> Tensor:
    """Gain and offset, (2, N, W, 1, 1), on the result of a convolution."""
    gain, offset = condition.to(x.dtype)
    return torch.addcmul(offset, x, gain)
