"""The tensors of an RCAN network as those of a SeG-SR network of `residual` units."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from geosegsr.models.segsr.published import count

_RANGE = 255.0  # RCAN computes in 0 to 255
_GROUP = r"^body\.(\d+)\.body\."
_STAGE = r"^tail\.0\.(\d+)\."
_NAMES = [
    (r"^head\.0\.", "conv_first."),
    (_GROUP + r"(\d+)\.body\.3\.conv_du\.0\.", r"units.\1.blocks.\2.body.3.down."),
    (_GROUP + r"(\d+)\.body\.3\.conv_du\.2\.", r"units.\1.blocks.\2.body.3.up."),
    (_GROUP + r"(\d+)\.body\.([02])\.", r"units.\1.blocks.\2.body.\3."),
    (_GROUP + r"\d+\.", r"units.\1.conv."),
    (r"^body\.\d+\.", "conv_after."),
    (r"^tail\.0\.", "head."),
]


def is_rcan(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is that of RCAN, by its channel attention."""
    return "body.0.body.0.body.3.conv_du.0.weight" in state


def rcan_fields(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """As of `borrowed.borrowed_fields`.

    Raises:
        KeyError: A tensor that tells a size is missing.
        ValueError: Its first or last layers are of another kind.
    """
    width, bands = state["head.0.weight"].shape[:2]
    depth = count(state, r"^body\.0\.body\.(\d+)\.") - 1
    groups = count(state, r"^body\.(\d+)\.") - 1
    factors = [len(v) // v.shape[1] for name, v in state.items() if re.match(_STAGE + "weight$", name)]
    if state["tail.1.weight"].shape[0] != bands or not factors:
        raise ValueError("its enlargement is of another kind")
    return {
        "unit": "residual",
        "scale": 3 if factors == [9] else 2 ** len(factors),
        "bands": bands,
        "depths": (depth,) * groups,
        "width": width,
        "squeeze": width // state["body.0.body.0.body.3.conv_du.0.weight"].shape[0],
        "embed_norm": False,
        "final_norm": False,
        "residual": False,
        "band_mean": _mean(state, bands),
        "head": "plain stages",
        "modulation_norm": False,
    }  # fmt: skip


def rcan_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under our names, for images of 0 to 1; unknown ones under their own."""
    last = f"head.{count(state, _STAGE) + 1}"  # after the shuffle of the last stage
    ours: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.startswith(("sub_mean.", "add_mean.")):
            continue
        if name.startswith("tail.1."):
            ours[name.replace("tail.1", last)] = tensor.float() / _range(state)
            continue
        new = next((re.sub(old, our, name) for old, our in _NAMES if re.match(old, name)), name)
        ours[new] = tensor.float() * _range(state) if new == "conv_first.weight" else tensor.float()
    return ours


def _range(state: Mapping[str, Tensor]) -> float:
    """The white of the network: without a mean to subtract it computes in 0 to 1."""
    return _RANGE if "sub_mean.weight" in state else 1.0


def _mean(state: Mapping[str, Tensor], bands: int) -> tuple[float, ...]:
    """What it subtracts from each band, in 0 to 1."""
    if "sub_mean.weight" not in state:
        return (0.0,) * bands
    weight, bias = state["sub_mean.weight"].flatten(1), state["sub_mean.bias"]
    if not torch.equal(weight, torch.eye(bands)) or not torch.equal(state["add_mean.bias"], -bias):
        raise ValueError("it scales its bands")
    return tuple((-bias / _RANGE).tolist())
