"""Muon on stacks of matrices of one shape: as many kernels as there are shapes, not as there are matrices.

`torch.optim.Muon` takes one matrix after the other and refuses `foreach`. The compact network has more than 50 small matrices
of few shapes; fifteen products and more for each would keep a GPU waiting for the next launch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from benchmarks.gpu.gradients import lying_as
from geosegsr.training.optimisers import as_matrix

STEPS, COEFFICIENTS, EPSILON = 5, (3.4445, -4.7750, 2.0315), 1e-7
"""Of the Newton-Schulz iteration, as in torch.optim.Muon."""


class BatchedMuon:
    """The steps of torch.optim.Muon with Nesterov momentum, without weight decay, scaled by "match_rms_adamw".

    Source:
        K. Jordan and others, "Muon", 2024. The scaling: "Muon is Scalable for LLM Training", arXiv 2502.16982,
        section 2.2.
    """

    def __init__(self, parameters: Iterable[tuple[nn.Parameter, float]], momentum: float = 0.95) -> None:
        """Sort matrices by their shape.

        Args:
            parameters: Matrices and convolution kernels, each with its share of the learning rate.
            momentum: Memory of gradients.
        """
        self.momentum = momentum
        self.stacks: dict[tuple[int, int, float], list[nn.Parameter]] = {}
        for p, share in parameters:
            self.stacks.setdefault((len(p), p.numel() // len(p), share), []).append(p)
        self.means = [
            torch.zeros(len(own), rows, columns, device=own[0].device)
            for (rows, columns, _), own in self.stacks.items()
        ]

    @torch.no_grad()
    def step(self, rate: Tensor) -> None:
        """Update all matrices at a rate, one number on their device; each needs a gradient."""
        for ((rows, columns, share), own), mean in zip(self.stacks.items(), self.means, strict=True):
            gradients = torch.stack([as_matrix(_gradient(p), p) for p in own])  # (n, rows, columns)
            mean.lerp_(gradients, 1 - self.momentum)
            length = rate * (-share * 0.2 * math.sqrt(max(rows, columns)))
            updates = (orthogonal(gradients.lerp(mean, self.momentum)) * length).contiguous()
            shaped = [lying_as(p, update) for update, p in zip(updates, own, strict=True)]
            torch._foreach_add_([*own], shaped)


def orthogonal(matrices: Tensor) -> Tensor:
    """Nearly the orthogonal matrix nearest to each of (n, rows, columns), by a Newton-Schulz iteration in bfloat16."""
    a, b, c = COEFFICIENTS
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.transpose(1, 2)
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(EPSILON)
    for _ in range(STEPS):
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.transpose(1, 2) if tall else x).float()


def _gradient(p: nn.Parameter) -> Tensor:
    assert p.grad is not None
    return p.grad
