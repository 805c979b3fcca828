"""The memory behind the tensors that a computation holds, at its worst moment."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class HeldMemory(TorchDispatchMode):
    """Adds up the bytes of the tensors that operators make, until nothing refers to them; tensors without storage too."""

    def __init__(self, own: Iterable[torch.Tensor] = ()) -> None:
        """Begin to count.

        Args:
            own: Tensors that do not count, such as a network's parameters.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0
        """Bytes, at the worst moment so far."""
        self._now = 0
        self._sizes = {tensor.untyped_storage()._cdata: 0 for tensor in own}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._see(tensor.untyped_storage())
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        self._now += storage.nbytes()
        self.most = max(self.most, self._now)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self._now -= self._sizes.pop(key)
