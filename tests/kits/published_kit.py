"""Filled states of the published network: the authors' own sizes beside the repository, and a small one inside it.

A fill is a function of a tensor's name and shape, so that two implementations can be given the same numbers.
"""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
"""What the published program computed: `segsr_x2` and `segsr_x4`, as .json and .npz. It may be absent."""
GOLDEN = Path(__file__).parents[1] / "models" / "golden"
"""What this package computed, when it equalled the reference, for a network a few kB in size: `segsr_small`."""


def fill(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Float32 values of the tensor called `name`, at the scale of trained ones."""
    noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, dtype=np.float32)
    if name == "text_global" or name.startswith("text_locals."):  # learnable prompts, (D, k)
        return noise / np.float32(math.sqrt(shape[0]))
    if len(shape) == 1 and name.endswith(".weight"):  # scale of a normalisation layer
        return 1 + np.float32(0.1) * noise
    if len(shape) == 1 or "position" in name:  # biases, class embedding, position tables
        return np.float32(0.02) * noise
    return noise / np.float32(math.sqrt(math.prod(shape[1:])))  # weights, by fan-in


def published_state(which: str, folder: Path = REFERENCE) -> tuple[dict[str, Any], torch.Tensor]:
    """A filled state dict of the authors' program, and the prompts that belong to it, shape (units, D)."""
    described = json.loads((folder / f"{which}.json").read_text())
    state = {
        name: torch.from_numpy(np.asarray(fill(name, tuple(shape)), np.float32))
        if dtype == "float32"
        else torch.zeros(shape, dtype=torch.int64)
        for name, shape, dtype in described["tensors"]
    }
    length = len(state["text_global"])
    prompts = [
        torch.from_numpy(fill(f"text_locals.{i}", (length, 1))) for i in range(len(described["depths"]))
    ]
    return state, torch.cat(prompts, 1).T
