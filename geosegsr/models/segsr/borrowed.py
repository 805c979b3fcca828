"""The trunk of a SwinIR, HAT or RCAN network inside SeG-SR's frame: same units, with a modulation after each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from geosegsr.errors import CheckpointError, ConfigError
from geosegsr.models.segsr.borrowed_rcan import is_rcan, rcan_fields, rcan_tensors
from geosegsr.models.segsr.config import RGB_MEAN
from geosegsr.models.segsr.network import SeGSR
from geosegsr.models.segsr.published import count, new_name, overlap_table, root, scale_of

_BLOCK = "layers.0.residual_group.blocks.0"
_UNUSED = re.compile(r"(^|\.)(relative_position_index(_SA|_OCA)?|attn_mask|mean)$")


def borrowed_fields(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The fields of SeGSRConfig that describe the trunk which a state dict belongs to.

    Args:
        state: Of SwinIR, HAT or RCAN, as their projects save it; enlargement by pixel shuffle.

    Returns:
        Fields for `preset`, scale and bands included. Modulation does not normalise, so that at rest it changes nothing.

    Raises:
        CheckpointError: It is no such network.
    """
    hat = any(".overlap_attn." in name for name in state)
    try:
        if is_rcan(state):
            return rcan_fields(state)
        fields = _shared_fields(state) | (_hat_fields(state) if hat else {"unit": "swin"})
    except (ConfigError, KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"it is no SwinIR, HAT or RCAN network whose units could be used ({type(error).__name__}: {error})"
        ) from error
    return fields


def borrow(network: SeGSR, state: Mapping[str, Tensor]) -> None:
    """Give a network the trunk of a state dict, with all modulations at rest.

    The network then computes what the other one did, until training moves its modulations.

    Args:
        network: Of a configuration with the `borrowed_fields` of the same state dict.
        state: Of SwinIR, HAT or RCAN.

    Raises:
        CheckpointError: A tensor is missing, unknown, or of another shape than the network's.
    """
    own = network.state_dict()
    given = rcan_tensors(state) if is_rcan(state) else _transformer_tensors(state, network)
    for name, tensor in given.items():
        if name not in own or own[name].shape != tensor.shape:
            raise CheckpointError(
                f"its tensor {name[:80]!r} has no place in the units of '{network.config.unit}'"
            )
    trunk = {n for n in own if not n.startswith(("features.", "localisation.", "modulations.", "sensor."))}
    if missing := sorted(trunk - given.keys()):
        raise CheckpointError(f"it lacks what becomes {missing[0]!r}")
    for name in [n for n in given if n.endswith("overlap.bias.table")]:
        given[name] = overlap_table(given[name], network.config)
    network.load_state_dict({**own, **given})
    for modulation in network.modulations:
        for parameter in modulation.gain_offset.parameters():  # type: ignore[union-attr]
            nn.init.zeros_(parameter)


def _transformer_tensors(state: Mapping[str, Tensor], network: SeGSR) -> dict[str, Tensor]:
    """The tensors of SwinIR or HAT under our names; unknown ones under their own."""
    given: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if _UNUSED.search(name):
            continue
        norm = name.startswith("norm.")
        new = re.sub(r"^norm\.", "final_norm.", name) if norm else new_name(name, network.config)
        given[new or name] = tensor.float()
    return given


def _shared_fields(state: Mapping[str, Tensor]) -> dict[str, Any]:
    width, bands = state["conv_first.weight"].shape[:2]
    if state["conv_last.weight"].shape[0] != bands or "conv_after_body.weight" not in state:
        raise ValueError("its enlargement or its last convolution is of another kind")
    table = state[f"{_BLOCK}.attn.relative_position_bias_table"]
    units = count(state, r"^layers\.(\d+)\.")
    return {
        "scale": scale_of(state),
        "bands": bands,
        "depths": tuple(
            count(state, rf"^layers\.{i}\.residual_group\.blocks\.(\d+)\.") for i in range(units)
        ),
        "width": width,
        "heads": table.shape[1],
        "window": (root(table.shape[0]) + 1) // 2,
        "mlp_ratio": state[f"{_BLOCK}.mlp.fc1.weight"].shape[0] / width,
        "embed_norm": "patch_embed.norm.weight" in state,
        "final_norm": True,
        "residual": False,
        "band_mean": RGB_MEAN if bands == 3 else (0.0,) * bands,
        "head": "stages",
        "head_width": state["conv_last.weight"].shape[1],
        "modulation_norm": False,
    }


def _hat_fields(state: Mapping[str, Tensor]) -> dict[str, Any]:
    width = state["conv_first.weight"].shape[0]
    window = (root(state[f"{_BLOCK}.attn.relative_position_bias_table"].shape[0]) + 1) // 2
    both = root(state["layers.0.residual_group.overlap_attn.relative_position_bias_table"].shape[0])
    return {
        "unit": "hat",
        "compress": width // state[f"{_BLOCK}.conv_block.cab.0.weight"].shape[0],
        "squeeze": width // state[f"{_BLOCK}.conv_block.cab.3.attention.1.weight"].shape[0],
        "reach": (both + 1 - 2 * window) / window,
    }
