"""How much main memory a call takes: what its tensors hold together, and what the process grew by."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from geosegsr.models.held_memory import HeldMemory


def peak_of(call: Callable[[], Tensor]) -> tuple[Tensor, int]:
    """The result of a call, and the bytes that it took on the way.

    Tensors are counted one by one, since freed memory that the process kept hides what it needs anew. A program that
    torch does not see inside, such as ONNX, only shows in the size of the process.
    """
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the process' peak begins anew
    before = _process("VmRSS")
    with HeldMemory() as held:
        result = call()
    return result, max(held.most, _process("VmHWM") - before)


def _process(entry: str) -> int:
    """An entry of the process' status in bytes; 0 where the system has none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{entry}:")), 0)
