"""Batches, prepared by threads while the network computes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from geosegsr.sensor.descriptor import SensorDescriptor
from geosegsr.training.mixture import NumberedPatches


@dataclass(frozen=True)
class Batch:
    """Patches of one forward pass."""

    lr: Tensor
    """float32, shape (N, C, h, w), in the model's value range."""
    hr: Tensor
    """float32, shape (N, C, scale*h, scale*w)."""
    valid: Tensor
    """bool, shape (N, scale*h, scale*w): pixels that count."""
    descriptor: Tensor
    """What the network is told of each patch's sensor: float32, shape (N, 4), see `models.segsr.config.DESCRIPTOR`."""
    origins: tuple[str, ...]
    """Image and window of each patch, for messages."""
    waited_s: float = 0.0
    """Seconds that the network waited for this batch."""


class Batches:
    """The batches of one process, in order.

    Batch k of process r holds `size` patches from number (k * processes + r) * size on. In each step, two processes
    together see the patches that one process with twice the batch would see.
    """

    def __init__(
        self, patches: NumberedPatches, size: int, *, first: int, process: int, processes: int, workers: int
    ) -> None:
        self._patches, self._size = patches, size
        self._next, self._process, self._processes = first, process, processes
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="patches")
        self._ahead = workers + 2
        self._waiting: deque[Future[Batch]] = deque()

    def __iter__(self) -> Iterator[Batch]:
        while True:
            while len(self._waiting) < self._ahead:
                self._waiting.append(self._pool.submit(self._make, self._next))
                self._next += 1
            started = time.perf_counter()
            batch = self._waiting.popleft().result()
            yield replace(batch, waited_s=time.perf_counter() - started)

    def close(self) -> None:
        """Drop the batches that are prepared but not used."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _make(self, number: int) -> Batch:
        first = (number * self._processes + self._process) * self._size
        patches = self._patches.batch(first, self._size)
        return Batch(
            lr=torch.from_numpy(np.stack([patch.lr for patch in patches])),
            hr=torch.from_numpy(np.stack([patch.hr for patch in patches])),
            valid=torch.from_numpy(np.stack([patch.valid for patch in patches])),
            descriptor=descriptors_of([patch.sensor for patch in patches]),
            origins=tuple(patch.origin for patch in patches),
        )


def descriptors_of(sensors: Sequence[SensorDescriptor]) -> Tensor:
    """What a network is told of each sensor; float32, shape (N, 4)."""
    return torch.tensor([sensor.numbers for sensor in sensors], dtype=torch.float32)
