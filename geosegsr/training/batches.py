"""Batches, prepared by threads while the network computes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geosegsr.training.mixture import NumberedPatches


@dataclass(frozen=True)
class Batch:
    """Patches of one forward pass."""

    lr: Tensor
    """float32, shape (N, C, h, w), in the model's value range."""
    hr: Tensor
    """float32, shape (N, C, scale*h, scale*w)."""
    origins: tuple[str, ...]
    """Image and window of each patch, for messages."""
    waited_s: float
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
        self._waiting: deque[Future[tuple[Tensor, Tensor, tuple[str, ...]]]] = deque()

    def __iter__(self) -> Iterator[Batch]:
        while True:
            while len(self._waiting) < self._ahead:
                self._waiting.append(self._pool.submit(self._make, self._next))
                self._next += 1
            started = time.perf_counter()
            lr, hr, origins = self._waiting.popleft().result()
            yield Batch(lr, hr, origins, time.perf_counter() - started)

    def close(self) -> None:
        """Drop the batches that are prepared but not used."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _make(self, number: int) -> tuple[Tensor, Tensor, tuple[str, ...]]:
        first = (number * self._processes + self._process) * self._size
        patches = self._patches.batch(first, self._size)
        lr, hr = (torch.from_numpy(np.stack([getattr(p, side) for p in patches])) for side in ("lr", "hr"))
        return lr, hr, tuple(patch.origin for patch in patches)
