"""Optimisers: torch's Adam and AdamW, and Muon for the matrices of a network beside AdamW for the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim._muon import muon
from torch.optim.adamw import adamw

from geosegsr.training.config import OptimiserConfig

_LEAST_SIDE = 16  # of a matrix that is worth orthogonalising
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def build_optimiser(network: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """The optimiser that a configuration asks for, over all parameters that learn."""
    rest: dict[str, Any] = {
        "lr": config.learning_rate,
        "betas": config.betas,
        "weight_decay": config.weight_decay,
    }
    groups = _groups(network, config)
    if config.name == "muon":
        return MuonAndAdamW(groups, **rest, momentum=config.momentum)
    if config.name == "adam":
        return torch.optim.Adam(groups, lr=config.learning_rate, betas=config.betas, fused=True)
    return torch.optim.AdamW(groups, **rest, fused=True)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give all parameters a learning rate, those that learn more slowly their share of it."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["share"]


def _groups(network: nn.Module, config: OptimiserConfig) -> list[dict[str, Any]]:
    """Parameters that learn, apart by what they are and by their share of the learning rate."""
    learning = {name: p for name, p in network.named_parameters() if p.requires_grad}
    adapted = any(".parametrizations." in name for name in learning)
    groups: dict[tuple[bool, float], list[Tensor]] = {}
    for name, p in learning.items():
        guides = name.startswith(("features.", "localisation.")) and not adapted
        matrix = config.name == "muon" and _is_matrix(name, p)
        groups.setdefault((matrix, config.tower_share if guides else 1.0), []).append(p)
    return [{"params": p, "matrices": matrix, "share": share} for (matrix, share), p in groups.items()]


class MuonAndAdamW(torch.optim.Optimizer):
    """Muon on matrices and convolution kernels, AdamW on all that is none.

    A kernel (O, I, k, k) is the matrix (O, I*k*k). Steps are scaled to the size that AdamW's have, so both
    take one learning rate.

    Source:
        Muon: K. Jordan and others, 2024, as torch.optim.Muon has it; the scaling: "Muon is Scalable for LLM
        Training", arXiv 2502.16982, section 2.2.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ) -> None:
        """Groups say by `matrices` whether they are for Muon."""
        super().__init__(
            groups, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "momentum": momentum}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step downhill from the gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            (self._muon if group["matrices"] else self._adamw)(group)
        return loss

    def _muon(self, group: dict[str, Any]) -> None:
        learning = [p for p in group["params"] if p.grad is not None]
        for p in learning:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        muon(
            [_as_matrix(p) for p in learning],
            [_as_matrix(p.grad) for p in learning],
            [_as_matrix(self.state[p]["momentum"]) for p in learning],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            nesterov=True,
            ns_coefficients=_NEWTON_SCHULZ,
            eps=1e-7,
            ns_steps=5,
            adjust_lr_fn="match_rms_adamw",
            has_complex=False,
        )

    def _adamw(self, group: dict[str, Any]) -> None:
        learning = [p for p in group["params"] if p.grad is not None]
        for p in learning:
            if not self.state[p]:
                self.state[p] |= {
                    "step": torch.zeros((), dtype=torch.float32, device=p.device),
                    "mean": torch.zeros_like(p),
                    "square": torch.zeros_like(p),
                }
        adamw(
            learning,
            [p.grad for p in learning],
            [self.state[p]["mean"] for p in learning],
            [self.state[p]["square"] for p in learning],
            [],
            [self.state[p]["step"] for p in learning],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            maximize=False,
        )


def _is_matrix(name: str, parameter: Tensor) -> bool:
    """Whether a parameter maps features to features; what reads images or writes them is left to AdamW."""
    ends = (
        "conv_first",
        "head",
        "features.tower.vit.conv1",
        "positional",
        "upsamplers",
        "prompts",
        "sensor.",
    )
    if parameter.ndim not in (2, 4) or any(end in name for end in ends):
        return False
    rows = len(parameter)
    return min(rows, parameter.numel() // rows) >= _LEAST_SIDE


def _as_matrix(tensor: Tensor) -> Tensor:
    """A view of it with a row for each output; the order of the columns follows the layout in memory."""
    if tensor.ndim == 2:
        return tensor
    rows = len(tensor)
    if tensor.is_contiguous():
        return tensor.view(rows, -1)
    return tensor.permute(0, 2, 3, 1).view(rows, -1)
