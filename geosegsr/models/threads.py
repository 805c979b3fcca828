"""Number of threads for arithmetic."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from geosegsr.cpu import single_threaded_blas


def idle_threads() -> int:
    """Number of idle cores, at least 1: the number of threads to use for arithmetic.

    Threads that wait for one that another program keeps from running cost more than they gain: on two busy cores,
    a training step took ten times as long with two threads as with one.
    """
    try:
        busy = os.getloadavg()[0]
    except OSError:
        busy = 0.0
    most = torch.get_num_threads()
    return max(1, min(most, round(most - busy)))


@contextmanager
def arithmetic_threads(count: int) -> Iterator[None]:
    """Limit torch to `count` threads inside the block, and the BLAS of numpy to one."""
    with _threads(count), single_threaded_blas():
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch sum in one order inside the block.

    Otherwise the number of threads decides how MKL splits a product of few rows in float32, and so its last bits. Threads of
    the process that torch meets meanwhile begin with one, too.
    """
    with _threads(1):
        yield


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
