"""Memory of a network call, measured by a call on tensors without storage."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import chain

import torch

from geosegsr.models.held_memory import HeldMemory
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
    own = chain(network.parameters(), network.buffers())
    lr = torch.empty(1, config.bands, height, width, device="meta")
    with torch.no_grad(), HeldMemory(own) as held:
        network(lr)
    most: int = held.most
    return most + _BESIDE
