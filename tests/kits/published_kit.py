"""A filled state of the published network, where the equality data is at hand."""

import json
import sys
from pathlib import Path

import numpy as np
import torch

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"


def published_state(which: str) -> tuple[dict, torch.Tensor]:
    """A filled state dict of the authors' program, and the prompts that belong to it."""
    sys.path.insert(0, str(REFERENCE))
    try:
        from fill import fill
    finally:
        sys.path.remove(str(REFERENCE))
    described = json.loads((REFERENCE / f"{which}.json").read_text())
    state = {
        name: torch.from_numpy(np.asarray(fill(name, tuple(shape)), np.float32))
        if dtype == "float32"
        else torch.zeros(shape, dtype=torch.int64)
        for name, shape, dtype in described["tensors"]
    }
    prompts = [torch.from_numpy(fill(f"text_locals.{i}", (512, 1))) for i in range(len(described["depths"]))]
    return state, torch.cat(prompts, 1).T
