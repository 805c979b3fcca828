"""Networks whose weights have no storage yet, to be filled from a file or compared with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

# What first weights are made by, all of which keep the shape of their first argument.
_MAKING = frozenset(
    {"normal_", "uniform_", "mul", "mul_", "add_", "__mul__", "__rmul__", "__imul__", "__iadd__"}
)


@contextmanager
def without_weights() -> Iterator[None]:
    """Modules built inside have shapes only, and nothing is computed for them."""
    with torch.device("meta"), _NothingMade():
        yield


class _NothingMade(TorchFunctionMode):
    """Leaves out what makes first weights: for tensors without memory torch would import its compiler, for a second."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.randn:
            return torch.empty(*args, **(kwargs or {}))
        made = func.__name__ in _MAKING or getattr(func, "__module__", None) == "torch.nn.init"
        if not made:
            return func(*args, **(kwargs or {}))
        return args[0] if args else kwargs["tensor"]
