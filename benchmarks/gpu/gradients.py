"""The gradients of a network in one piece of memory, so that a few kernels treat all of them."""

from __future__ import annotations

import torch
from torch import Tensor

from geosegsr.models.segsr.network import SeGSR
from geosegsr.training.equivariance import Equivariance


class Gradients:
    """Every parameter's `grad` is a part of one vector."""

    def __init__(self, network: SeGSR, equivariance: Equivariance) -> None:
        """Lay out the gradients.

        Args:
            network: On the device that trains.
            equivariance: Of that network.
        """
        learning = [p for p in network.parameters() if p.requires_grad]
        self.flat = torch.zeros(sum(p.numel() for p in learning), device=learning[0].device)
        orders = {id(p): places for _, p, places in equivariance.places}
        order = max(len(places) for places in orders.values())
        rows, start = [], 0
        for p in learning:
            part = slice(start, start + p.numel())
            p.grad = lying_as(p, self.flat[part])
            at = torch.arange(part.start, part.stop, device=self.flat.device)
            own = orders.get(id(p))
            if own is None:  # tower and prompts are free
                rows.append(at.expand(order, -1))
            else:
                where = lying_as(p, at).flatten()  # of each weight, in the order of its indices
                rows.append(torch.empty_like(own).index_copy_(1, where - start, where[own]))
            start += p.numel()
        self._places = torch.cat(rows, 1)  # (order, numbers)

    def average(self) -> None:
        """Over the group, as `Equivariance.project_gradients` does."""
        self.flat.copy_(self.flat[self._places].mean(0))

    def clip(self, length: float) -> None:
        """Shorten them together to a length, where they are longer."""
        self.flat.mul_((length / (self.flat.norm() + 1e-6)).clamp(max=1))

    def clear(self) -> None:
        self.flat.zero_()


def lying_as(p: Tensor, values: Tensor) -> Tensor:
    """Part of a vector in the shape of p, each number where p has it in memory."""
    return values.as_strided(p.shape, p.stride(), values.storage_offset())
