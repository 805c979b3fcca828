"""As many threads for arithmetic as there are idle cores."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from geosegsr.cpu import single_threaded_blas


def idle_threads() -> int:
    """Threads that arithmetic on this machine's processor can use now: one for each idle core, at least one.

    Threads that wait for one that another program keeps from running are worse than none: on two busy cores
    a step of training was measured to take ten times as long with two threads as with one.
    """
    try:
        busy = os.getloadavg()[0]
    except OSError:
        busy = 0.0
    most = torch.get_num_threads()
    return max(1, min(most, round(most - busy)))


@contextmanager
def arithmetic_threads(count: int) -> Iterator[None]:
    """Torch computes with `count` threads inside, and numpy's linear algebra with one."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with single_threaded_blas():
            yield
    finally:
        torch.set_num_threads(before)
