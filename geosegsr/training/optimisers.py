"""Optimisers: Adam, AdamW, and Muon for matrices together with AdamW for the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from geosegsr.training.config import OptimiserConfig

_LEAST_SIDE = 16  # of a matrix that is worth orthogonalising


def build_optimiser(network: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """Build the configured optimiser for all trainable parameters."""
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
    """Set the learning rate of each group to its share of `rate`."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["share"]


def _groups(network: nn.Module, config: OptimiserConfig) -> list[dict[str, Any]]:
    """Trainable parameters, grouped by optimiser and by share of the learning rate."""
    learning = {name: p for name, p in network.named_parameters() if p.requires_grad}
    adapted = any(".parametrizations." in name for name in learning)
    groups: dict[tuple[bool, float], list[Tensor]] = {}
    for name, p in learning.items():
        guides = name.startswith(("features.", "localisation.")) and not adapted
        matrix = config.name == "muon" and is_matrix(name, p)
        groups.setdefault((matrix, config.tower_share if guides else 1.0), []).append(p)
    return [{"params": p, "matrices": matrix, "share": share} for (matrix, share), p in groups.items()]


class MuonAndAdamW(torch.optim.Optimizer):
    """Muon for matrices and convolution kernels, AdamW for all other parameters.

    torch.optim.Muon takes matrices only. A kernel (O, I, k, k) is handed to it as the matrix (O, k*k*I) that
    shares the kernel's memory. Muon's steps are scaled to the size of AdamW's, so both use one learning rate.

    Source:
        Muon: K. Jordan and others, 2024. The scaling: "Muon is Scalable for LLM Training", arXiv 2502.16982,
        section 2.2.
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
        """Build both optimisers.

        Args:
            groups: Parameter groups; `matrices` says whether a group is for Muon.
            lr: Learning rate of groups without one of their own.
            betas: AdamW's memory of the mean and the variance of gradients.
            weight_decay: Decoupled weight decay.
            momentum: Muon's memory of gradients.
        """
        super().__init__(groups, {"lr": lr})
        kernels = [group for group in self.param_groups if group["matrices"]]
        others = [group for group in self.param_groups if not group["matrices"]]
        self._matrices = {p: nn.Parameter(as_matrix(p.detach(), p)) for g in kernels for p in g["params"]}
        self._parts: list[tuple[list[dict[str, Any]], torch.optim.Optimizer]] = []
        if kernels:
            muon = torch.optim.Muon(
                [{"params": [self._matrices[p] for p in group["params"]]} for group in kernels],
                weight_decay=weight_decay,
                momentum=momentum,
                adjust_lr_fn="match_rms_adamw",
            )
            self._parts.append((kernels, muon))
        if others:
            rest = [{"params": group["params"]} for group in others]
            adamw = torch.optim.AdamW(rest, betas=betas, weight_decay=weight_decay, fused=True)
            self._parts.append((others, adamw))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._share_memory()
        for p, matrix in self._matrices.items():
            matrix.grad = None if p.grad is None else as_matrix(p.grad, p)
        for groups, part in self._parts:
            for group, own in zip(groups, part.param_groups, strict=True):
                own["lr"] = group["lr"]
            part.step()
        for matrix in self._matrices.values():
            matrix.grad = None  # frees the gradient's memory together with the parameter's own
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The states of Muon and of AdamW, in this order, under "parts"."""
        return {"parts": [part.state_dict() for _, part in self._parts]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from what state_dict returned.

        Raises:
            KeyError: The state belongs to another kind of optimiser.
            ValueError: The state belongs to other parameters.
        """
        self._share_memory()
        for (_, part), state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)

    def _share_memory(self) -> None:
        """Lay the matrices over their parameters, which moving a network to a device puts elsewhere."""
        for p, matrix in self._matrices.items():
            matrix.data = as_matrix(p.detach(), p)
            assert matrix.data_ptr() == p.data_ptr(), "a parameter with gaps has no matrix of its own memory"


def is_matrix(name: str, parameter: Tensor) -> bool:
    """Whether a parameter maps features to features; layers that read or write images are left to AdamW."""
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


def as_matrix(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A parameter or its gradient as a matrix with one row per output, (O, I), (O, I*k*k) or (O, k*k*I).

    The columns are in the order in which the parameter lies in memory, so its matrix is a view.
    """
    if tensor.ndim == 2:
        return tensor
    if not parameter.is_contiguous():  # channels last
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.reshape(len(tensor), -1)
