"""Reading the state dict of the authors' program: other names, a few quirks, and prompts it does not hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from geosegsr.errors import CheckpointError, ConfigError
from geosegsr.models.segsr.config import Compat, SeGSRConfig

HEADS, TOWER_HEADS = 6, 16  # not to be told from shapes
_TOWER = r"^clip1\.(?:base_model\.model\.)?"
_GROUP = r"^layers\.(\d+)\.residual_group\."

_UNUSED = [
    r"^relative_position_index_(SA|OCA)$",
    r"^attn_mask$",
    r"^mean$",
    r"^norm\.(weight|bias)$",
    r"^spades\.\d*[16]\.cross_attn\.",
    r"^spades\.\d*[49]\.param_free_norm\.",
    r"^text_locals\.\d+$",
]

_RENAMED = [
    (r"^conv_first\.", "conv_first."),
    (r"^patch_embed\.norm\.", "embed_norm."),
    (r"^conv_after_body\.", "conv_after."),
    (r"^conv_before_upsample\.0\.", "head.0."),
    (
        _GROUP + r"blocks\.(\d+)\.attn\.relative_position_bias_table$",
        r"units.\1.blocks.\2.attention.bias.table",
    ),
    (_GROUP + r"blocks\.(\d+)\.attn\.", r"units.\1.blocks.\2.attention."),
    (_GROUP + r"blocks\.(\d+)\.conv_block\.cab\.3\.attention\.1\.", r"units.\1.blocks.\2.conv.3.down."),
    (_GROUP + r"blocks\.(\d+)\.conv_block\.cab\.3\.attention\.3\.", r"units.\1.blocks.\2.conv.3.up."),
    (_GROUP + r"blocks\.(\d+)\.conv_block\.cab\.([02])\.", r"units.\1.blocks.\2.conv.\3."),
    (_GROUP + r"blocks\.(\d+)\.mlp\.fc1\.", r"units.\1.blocks.\2.mlp.0."),
    (_GROUP + r"blocks\.(\d+)\.mlp\.fc2\.", r"units.\1.blocks.\2.mlp.2."),
    (_GROUP + r"blocks\.(\d+)\.(norm[12])\.", r"units.\1.blocks.\2.\3."),
    (_GROUP + r"overlap_attn\.relative_position_bias_table$", r"units.\1.overlap.bias.table"),
    (_GROUP + r"overlap_attn\.mlp\.fc1\.", r"units.\1.overlap.mlp.0."),
    (_GROUP + r"overlap_attn\.mlp\.fc2\.", r"units.\1.overlap.mlp.2."),
    (_GROUP + r"overlap_attn\.(norm[12]|qkv|proj)\.", r"units.\1.overlap.\2."),
    (r"^layers\.(\d+)\.conv\.", r"units.\1.conv."),
    (r"^meta_global\.meta_net\.linear1\.", "localisation.meta.0."),
    (r"^meta_global\.meta_net\.linear2\.", "localisation.meta.2."),
    (r"^meta_fuser\.fc\.", "localisation.film."),
    (r"^meta_fuser\.fc_out\.", "localisation.film_out."),
    (r"^text_att\.to_([qkv])\.", r"localisation.attention.\1."),
    (r"^text_att\.to_out\.0\.", "localisation.attention.out."),
    (
        _TOWER + r"transformer\.resblocks\.(\d+)\.attn\.proj\.",
        r"tower.transformer.resblocks.\1.attn.out_proj.",
    ),
    (
        _TOWER + r"(transformer\.resblocks\.\d+\.)attn\.qkv\.(?:base_layer\.)?bias$",
        r"tower.\1attn.in_proj_bias",
    ),
    (
        _TOWER + r"(transformer\.resblocks\.\d+\.)attn\.qkv\.(?:base_layer\.)?weight$",
        r"tower.\1attn.in_proj_weight",
    ),
    (
        _TOWER + r"(transformer\.resblocks\.\d+\.)attn\.qkv\.lora_([AB])\.default\.weight$",
        r"tower.\1attn.parametrizations.in_proj_weight.0.\2",
    ),
    (
        _TOWER + r"(transformer\.resblocks\.\d+\.mlp\.c_(?:fc|proj))\.lora_([AB])\.default\.weight$",
        r"tower.\1.parametrizations.weight.0.\2",
    ),
    (
        _TOWER + r"(transformer\.resblocks\.\d+\.mlp\.c_(?:fc|proj)\.)(?:base_layer\.)?(weight|bias)$",
        r"tower.\1\2",
    ),
    (_TOWER + r"(transformer\.resblocks\.\d+\.ln_[12]\.)", r"tower.\1"),
    (
        _TOWER + r"(class_embedding|positional_embedding|proj|conv1\.weight|ln_(?:pre|post)\.\w+)$",
        r"tower.\1",
    ),
]


def unwrapped(contents: Any) -> dict[str, Tensor]:
    """The tensors of what a training program saved: under params_ema, under params, or bare.

    Raises:
        CheckpointError: It is no table of names and tensors.
    """
    for key in ("params_ema", "params"):
        if isinstance(contents, Mapping) and isinstance(contents.get(key), Mapping):
            contents = contents[key]
            break
    if not isinstance(contents, Mapping) or not contents:
        raise CheckpointError("it holds no table of tensors (params_ema, params, or the tensors themselves).")
    foreign = [str(k) for k, v in contents.items() if not (isinstance(k, str) and isinstance(v, Tensor))]
    if foreign:
        raise CheckpointError(f"it holds more than tensors: {', '.join(foreign[:5])}.")
    return {str(k): v for k, v in contents.items()}


def is_published(names: Iterable[str]) -> bool:
    """Whether tensors of these names come from the authors' program: its tower is called clip1."""
    return any(name.startswith("clip1.") for name in names)


def convert(state: Mapping[str, Tensor], prompts: Tensor) -> tuple[SeGSRConfig, dict[str, Tensor]]:
    """Turn a published state dict into a configuration and a state dict of ours.

    Args:
        state: As the authors' program saves it, with or without separate low-rank adapters.
        prompts: The units' prompts, which it does not hold, shape (units, D).

    Returns:
        The configuration, with the authors' departures from the paper, and float32 tensors for
        SeGSR(config).load_state_dict.

    Raises:
        CheckpointError: A tensor is missing, unknown, or of a shape that does not fit the others.
    """
    config = infer_config(state)
    ours, unknown = _renamed(state, config)
    if unknown:
        raise CheckpointError(
            f"it holds tensors that the published network does not have: {', '.join(unknown[:5])}."
        )
    if tuple(prompts.shape) != (len(config.depths), config.tower_output):
        raise CheckpointError(
            f"it needs {len(config.depths)} prompts of length {config.tower_output}, "
            f"and was given the shape {tuple(prompts.shape)}."
        )
    ours["localisation.prompts"] = prompts
    return config, {k: v.float().contiguous() for k, v in ours.items()}


def infer_config(state: Mapping[str, Tensor]) -> SeGSRConfig:
    """Sizes of the network, from the shapes of its tensors.

    Raises:
        CheckpointError: A tensor that tells a size is missing, or the sizes contradict each other.
    """
    try:
        return _config_of(state)
    except KeyError as missing:
        raise CheckpointError(
            f"it has no tensor {missing}, so it is no published SeG-SR network."
        ) from missing
    except (IndexError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"its tensors have shapes that make no SeG-SR network ({error}).") from error


def _config_of(state: Mapping[str, Tensor]) -> SeGSRConfig:
    tower = {
        re.sub(_TOWER, "", k).replace(".base_layer", ""): v for k, v in state.items() if re.match(_TOWER, k)
    }
    width, bands = state["conv_first.weight"].shape[:2]
    hidden, cab = (
        state[f"layers.0.residual_group.blocks.0.conv_block.cab.{n}.weight"] for n in ("0", "3.attention.1")
    )
    side = root(state["layers.0.residual_group.blocks.0.attn.relative_position_bias_table"].shape[0])
    both = root(state["layers.0.residual_group.overlap_attn.relative_position_bias_table"].shape[0])
    window = (side + 1) // 2
    tower_width, _, patch, _ = tower["conv1.weight"].shape
    fc = tower["transformer.resblocks.0.mlp.c_fc.weight"]
    lora = tower.get("transformer.resblocks.0.attn.qkv.lora_A.default.weight")
    rank = 0 if lora is None else lora.shape[0]
    return SeGSRConfig(
        scale=scale_of(state),
        bands=bands,
        unit="hat",
        depths=_depths(state),
        width=width,
        heads=HEADS,
        window=window,
        mlp_ratio=state["layers.0.residual_group.blocks.0.mlp.fc1.weight"].shape[0] / width,
        compress=width // hidden.shape[0],
        squeeze=width // cab.shape[0],
        reach=(both + 1 - 2 * window) / window,
        final_norm=False,
        head_width=state["conv_last.weight"].shape[1],
        modulation_width=state["spades.4.mlp_shared.0.weight"].shape[0],
        tower_width=tower_width,
        tower_layers=count(tower, r"^transformer\.resblocks\.(\d+)\."),
        tower_heads=TOWER_HEADS,
        tower_patch=patch,
        tower_grid=root(tower["positional_embedding"].shape[0] - 1),
        tower_output=tower["proj"].shape[1],
        tower_mlp_ratio=fc.shape[0] / tower_width,
        lora_rank=rank,
        lora_alpha=float(rank),
        compat=Compat.published(),
    )


def scale_of(state: Mapping[str, Tensor]) -> int:
    """The scale of a staged enlargement, from the shapes of its convolutions."""
    factors = [v.shape[0] // v.shape[1] for k, v in state.items() if re.match(r"^upsample\.\d+\.weight$", k)]
    return 3 if factors == [9] else int(2 ** len(factors))


def _depths(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    units = count(state, r"^layers\.(\d+)\.")
    return tuple(count(state, rf"^layers\.{i}\.residual_group\.blocks\.(\d+)\.") for i in range(units))


def count(names: Mapping[str, Tensor], pattern: str) -> int:
    """How many parts have names that match a pattern, whose group is a number from 0 on."""
    found = [int(m[1]) for m in (re.match(pattern, name) for name in names) if m]
    return 1 + max(found, default=-1)


def root(square: int) -> int:
    """The side of a square table; raises ConfigError if it is none."""
    root = int(square**0.5 + 0.5)
    if root * root != square:
        raise ConfigError(f"{square} is no square")
    return root


def _renamed(state: Mapping[str, Tensor], config: SeGSRConfig) -> tuple[dict[str, Tensor], list[str]]:
    ours: dict[str, Tensor] = {}
    unknown: list[str] = []
    for name, tensor in state.items():
        if any(re.match(pattern, name) for pattern in _UNUSED):
            continue
        new = new_name(name, config)
        if new is None:
            unknown.append(name)
        else:
            ours[new] = tensor
    _join_modulation(ours, len(config.depths))
    for name in [n for n in ours if n.endswith("overlap.bias.table")]:
        ours[name] = overlap_table(ours[name], config)
    if "localisation.prompt" in ours:
        ours["localisation.prompt"] = ours["localisation.prompt"].flatten()
    return ours, unknown


def new_name(name: str, config: SeGSRConfig) -> str | None:
    """Our name of a tensor of theirs; None for an unknown one."""
    if name == "text_global":
        return "localisation.prompt"
    if match := re.match(r"^spades\.(\d+)\.(.+)$", name):
        return _spade_name(int(match[1]), match[2])
    if match := re.match(r"^upsample\.(\d+)\.(weight|bias)$", name):
        return f"head.{int(match[1]) + 2}.{match[2]}"
    if name.startswith("conv_last."):
        stages = 1 if config.scale == 3 else config.scale.bit_length() - 1
        return name.replace("conv_last", f"head.{2 + 2 * stages}")
    for pattern, replacement in _RENAMED:
        if re.match(pattern, name):
            return _tower_name(re.sub(pattern, replacement, name), config)
    return None


def _tower_name(name: str, config: SeGSRConfig) -> str:
    """Where adapters are separate, the weight they adapt is the original of a parametrization."""
    if config.lora_rank:
        name = re.sub(r"(^tower\..*\.attn)\.(in_proj_weight)$", r"\1.parametrizations.\2.original", name)
        name = re.sub(r"(^tower\..*\.mlp\.c_\w+)\.(weight)$", r"\1.parametrizations.\2.original", name)
    return re.sub(r"^tower\.", "features.tower.vit.", name)


def _spade_name(index: int, rest: str) -> str | None:
    unit, part = divmod(index, 5)
    module, _, leaf = rest.rpartition(".")
    places = {
        (0, "fc_x"): f"localisation.fusions.{unit}.gate",
        (0, "fc_y"): f"localisation.fusions.{unit}.value",
        (0, "fc_out"): f"localisation.fusions.{unit}.out",
        (3, ""): f"modulations.{unit}.norm",
        (4, "mlp_shared.0"): f"modulations.{unit}.shared",
        (4, "mlp_gamma"): f"modulations.{unit}.gain",
        (4, "mlp_beta"): f"modulations.{unit}.offset",
    }
    if part == 2 and module.isdigit():
        return f"localisation.upsamplers.{unit}.{module}.{leaf}"
    return f"{places[part, module]}.{leaf}" if (part, module) in places else None


def _join_modulation(ours: dict[str, Tensor], units: int) -> None:
    for i in range(units):
        for leaf in ("weight", "bias"):
            names = [f"modulations.{i}.{part}.{leaf}" for part in ("gain", "offset")]
            if all(name in ours for name in names):
                ours[f"modulations.{i}.gain_offset.{leaf}"] = torch.cat([ours.pop(name) for name in names])


def overlap_table(table: Tensor, config: SeGSRConfig) -> Tensor:
    """HAT's table of positions as ours: the published index runs below zero and wraps round the table's end; ours starts at its first row."""
    margin = round(config.window * config.reach)
    columns = 2 * config.window + margin - 1
    first = config.window - 1 + margin - 1
    return table.roll(first * columns + first, 0)
