"""Memory of a network call, measured by a call on tensors without storage."""

from __future__ import annotations

import weakref
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from geosegsr.models.segsr.blank import without_weights
from geosegsr.models.segsr.config import SeGSRConfig
from geosegsr.models.segsr.network import SeGSR

# What oneDNN keeps beside tensors: code, and weights in layouts of its own. Measured by benchmarks/workspace.py.
_BESIDE = 128_000_000


@lru_cache(maxsize=64)
def workspace_bytes(config: SeGSRConfig, height: int, width: int, dtype: torch.dtype) -> int:
    """Most memory that enlarging one tile on a CPU takes, beside the weights.

    Args:
        config: The network's.
        height: Rows of the tile, in lr pixels.
        width: Columns.
        dtype: What the network computes in.

    Returns:
        Bytes, estimated on the high side.
    """
    with without_weights():
        network = SeGSR(replace(config, lora_rank=0)).eval()  # adapters are merged before a network is used
    network.to(dtype)
    lr = torch.empty(1, config.bands, height, width, device="meta")
    with torch.no_grad(), _Held(network) as held:
        network(lr)
    most: int = held.most
    return most + _BESIDE


class _Held(TorchDispatchMode):
    """Adds up the memory behind the tensors that are in use, but for a network's own."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0
        """Bytes, at the worst moment so far."""
        self._now = 0
        own = (tensor.untyped_storage() for tensor in chain(network.parameters(), network.buffers()))
        self._sizes = {storage._cdata: 0 for storage in own}

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
