"""How much main memory a call takes: what its tensors hold together, and what the process grew by."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_of(call: Callable[[], Tensor]) -> tuple[Tensor, int]:
    """The result of a call, and the bytes that it took on the way.

    Tensors are counted one by one, since freed memory that the process kept hides what it needs anew. A program that
    torch does not see inside, such as ONNX, only shows in the size of the process.
    """
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the process' peak begins anew
    before = _process("VmRSS")
    with _LiveTensors() as live:
        result = call()
    return result, max(live.peak, _process("VmHWM") - before)


class _LiveTensors(TorchDispatchMode):
    """Counts the bytes of the tensors that operators make, until nothing refers to them any more."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._held = 0
        self._users: Counter[int] = Counter()  # of each storage, by its address

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._take(tensor)
        return result

    def _take(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        if not self._users[address]:
            self._held += size
            self.peak = max(self.peak, self._held)
        self._users[address] += 1
        weakref.finalize(tensor, self._drop, address, size).atexit = False

    def _drop(self, address: int, size: int) -> None:
        self._users[address] -= 1
        if not self._users[address]:
            self._held -= size


def _process(entry: str) -> int:
    """An entry of the process' status in bytes; 0 where the system has none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{entry}:")), 0)
