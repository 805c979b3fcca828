"""Plain convolutions, made for processors: few channels, one cheap activation, no attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geosegsr.models.segsr.config import SeGSRConfig
from geosegsr.models.segsr.units import ConditionedUnit


class CompactUnit(ConditionedUnit):
    """3x3 convolutions with an activation between, and a sum over every `skip_every` of them."""

    def __init__(self, config: SeGSRConfig, depth: int) -> None:
        super().__init__()
        self.skip_every = config.skip_every
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [nn.Conv2d(config.width, config.width, 3, padding=1), nn.LeakyReLU(0.1, inplace=True)]
        self.body = nn.Sequential(*layers[:-1])

    def convolutions(self) -> list[nn.Conv2d]:
        """See ConditionedUnit."""
        return [layer for layer in self.body if isinstance(layer, nn.Conv2d)]

    def forward(self, x: Tensor, conditions: Tensor | None = None) -> Tensor:
        """(N, W, h, w) to what shall be added to it; conditions are gain and offset, (depth, 2, N, W, 1, 1)."""
        if conditions is None and not self.skip_every:
            out: Tensor = self.body(x)  # (N, W, h, w)
            return out
        kept, convolutions = x, self.convolutions()
        for i, conv in enumerate(convolutions):
            x = conv(x)
            if conditions is not None:
                gain, offset = conditions[i].to(x.dtype)
                x = torch.addcmul(offset, x, gain)
            if i + 1 == len(convolutions):
                break
            if self.skip_every and (i + 1) % self.skip_every == 0:
                x = kept = x + kept
            x = self.body[1](x.clone() if x is kept else x)  # in place, and `kept` is needed again
        return x
