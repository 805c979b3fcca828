"""The network of a run, the EMA of its weights, and one step of both."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from geosegsr.errors import JobError
from geosegsr.models.foreign.network import ForeignNetwork
from geosegsr.models.segsr.network import SeGSR
from geosegsr.training.batches import Batch
from geosegsr.training.config import TrainConfig
from geosegsr.training.equivariance import Equivariance
from geosegsr.training.losses import Loss
from geosegsr.training.mixture import NumberedPatches
from geosegsr.training.network import Network, build_network
from geosegsr.training.optimisers import build_optimiser, set_rate
from geosegsr.training.teacher import Teacher

_STEPS_OF_ROUNDING = 50
"""Equivariant weights are projected each time this many steps have rounded them."""


class Learner:
    """The network, the EMA of its weights, its optimiser, and what a step needs beside them."""

    def __init__(
        self,
        config: TrainConfig,
        bands: int,
        accelerator: Accelerator,
        names: Sequence[str] = (),
        patches: NumberedPatches | None = None,
    ) -> None:
        """Build the network on the device of this process.

        Args:
            config: The run.
            bands: Bands of the images.
            accelerator: The processes of the run.
            names: What the bands are; see `build_network`.
            patches: Of the run; see `build_network`.

        Raises:
            ConfigError: Network, teacher and images do not fit each other.
            CheckpointError: A file to start from, or the teacher, is no checkpoint.
        """
        self.config, self.accelerator = config, accelerator
        self.loss = Loss(config.loss)
        self.network: Network = build_network(config, bands, names, patches)
        self.network.to(memory_format=torch.channels_last)
        self.ema = average_weights(self.network, config.optimiser.ema).to(accelerator.device)
        self.model, self.optimiser = accelerator.prepare(
            self.network, build_optimiser(self.network, config.optimiser)
        )
        group = config.model.equivariance
        self.equivariance = None
        if group != "none" and isinstance(self.network, SeGSR):
            self.equivariance = Equivariance(self.network, group)
        self.teacher = (
            Teacher(config.teacher, config.model.scale, bands, accelerator.device)
            if config.teacher.model
            else None
        )

    @property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(p.numel() for p in self.network.parameters() if p.requires_grad)

    @property
    def averaged(self) -> Network:
        """The network with the EMA weights, in evaluation mode."""
        network = self.ema.module.eval()
        assert isinstance(network, SeGSR | ForeignNetwork)
        return network

    def step(self, number: int, batches: Iterator[Batch], rate: float) -> tuple[float, float]:
        """Make one step.

        Args:
            number: Steps before this one.
            batches: As many batches as the step accumulates are taken from here.
            rate: Learning rate.

        Returns:
            The loss, a mean over processes, and the seconds spent waiting for patches.

        Raises:
            JobError: The loss is not finite.
        """
        set_rate(self.optimiser, rate)
        torch.manual_seed(_seed(self.config.seed, number, self.accelerator.process_index))
        self.model.train()
        total, waited = 0.0, 0.0
        for _ in range(self.config.optimiser.accumulate):
            batch = next(batches)
            waited += batch.waited_s
            with self.accelerator.accumulate(self.model):
                loss = self._backward(number, batch)
            mean: Tensor = self.accelerator.reduce(loss, "mean")
            total += float(mean) / self.config.optimiser.accumulate
        if not math.isfinite(total):
            raise JobError(f"Cannot go on: the loss of step {number} is {total} in another process.")
        self._update(number)
        return total, waited

    def _backward(self, number: int, batch: Batch) -> Tensor:
        """Add the gradients of one batch; its loss, a scalar without a graph."""
        lr, hr, descriptor = (self._on_device(t) for t in (batch.lr, batch.hr, batch.descriptor))
        valid = None if bool(batch.valid.all()) else self._on_device(batch.valid)[:, None]
        if self.teacher is not None:
            with self.accelerator.autocast():
                hr = self.teacher.target(lr, hr, descriptor)
        sr = self.model(lr, None, descriptor)  # (N, C, scale*h, scale*w)
        if valid is not None:  # what the network says itself there costs nothing
            hr = torch.where(valid, hr, sr.detach().float())
        loss = self.loss(sr.float(), hr)
        if not bool(torch.isfinite(loss)):
            raise _not_finite(number, loss, sr, batch)
        self.accelerator.backward(loss)
        return loss.detach()

    def _update(self, number: int) -> None:
        """Change the weights by the gradients, and the EMA by the weights."""
        if self.equivariance is not None:
            self.equivariance.project_gradients()
        if self.config.optimiser.clip_norm:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.optimiser.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if self.equivariance is not None and number % _STEPS_OF_ROUNDING == 0:
            self.equivariance.project_weights()
        self.ema.update_parameters(self.network)

    def _on_device(self, values: Tensor) -> Tensor:
        return values.to(self.accelerator.device, non_blocking=True)

    def state(self) -> dict[str, Any]:
        """All that changes from step to step, for torch.save."""
        scaler = self.accelerator.scaler
        return {
            "network": self.network.state_dict(),
            "averaged": self.ema.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned.

        Raises:
            RuntimeError: The state belongs to another network.
            ValueError: It belongs to another optimiser.
            KeyError: It belongs to another optimiser.
        """
        self.network.load_state_dict(state["network"])
        self.ema.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
        if state["scaler"] is not None and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])


def average_weights(network: torch.nn.Module, memory: float) -> AveragedModel:
    """The exponential moving average (EMA) of a network's weights.

    Update number n (from 1) keeps the smaller of `memory` and n / (9 + n) of the average, so that a short run
    forgets its start. The first update copies the weights.

    Source:
        The warm-up of tf.train.ExponentialMovingAverage.
    """

    def update(averages: Any, weights: Any, updates: Any) -> None:
        n = int(updates)
        keep = min(memory, (1 + n) / (10 + n))
        torch._foreach_lerp_(list(averages), list(weights), 1 - keep)

    return AveragedModel(network, multi_avg_fn=update)


def _not_finite(number: int, loss: Tensor, sr: Tensor, batch: Batch) -> JobError:
    bad = [
        origin
        for origin, lr, hr, out in zip(batch.origins, batch.lr, batch.hr, sr, strict=True)
        if not all(bool(torch.isfinite(t).all()) for t in (lr, hr, out))
    ]
    return JobError(
        f"Cannot go on: the loss of step {number} is {float(loss.detach())}. Its patches came from "
        f"{'; '.join(bad or batch.origins)}. Check these pixels for undeclared nodata, or pass a lower "
        "--learning-rate. The run's last checkpoint is unchanged."
    )


def _seed(*parts: int) -> int:
    """A seed that differs wherever a part does."""
    return random.Random(repr(parts)).getrandbits(62)
