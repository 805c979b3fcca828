"""Pretrained towers: vision transformers of open_clip's, by name or from a file of their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geosegsr.errors import CheckpointError, ConfigError, require
from geosegsr.models.conversion import read_tensors
from geosegsr.models.segsr.network import SeGSR

_KNOWN = {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"}


def tower_fields(name: str) -> dict[str, Any]:
    """The fields of SeGSRConfig that describe a tower of open_clip's; downloads nothing.

    Args:
        name: Such as "ViT-B-16", or "ViT-B-16:openai" where the weights decide the activation.

    Raises:
        ConfigError: There is no such tower, or it is not a plain vision transformer.
    """
    require("clip", f"build tower '{name}'", "open_clip")
    import open_clip

    model, _, tag = name.partition(":")
    found = open_clip.get_model_config(model)
    if found is None:
        known = [n for n in open_clip.list_models() if n.startswith("ViT-") and "SigLIP" not in n]
        raise ConfigError(
            f"Cannot find a tower '{model}'. It can be one of open_clip's: {', '.join(known[:12])}, .."
        )
    vision = found["vision_cfg"]
    strange = sorted(set(vision) - _KNOWN)
    if strange or not isinstance(vision["layers"], int):
        fault = ", ".join(strange) or "layers in stages"
        raise ConfigError(
            f"Cannot use tower '{model}': it is not a plain vision transformer ({fault}). Try ViT-B-16."
        )
    weights = open_clip.get_pretrained_cfg(model, tag) if tag else {}
    quick = weights.get("quick_gelu", found.get("quick_gelu", False))
    return {
        "tower_width": vision["width"],
        "tower_layers": vision["layers"],
        "tower_heads": vision["width"] // vision.get("head_width", 64),
        "tower_patch": vision["patch_size"],
        "tower_grid": vision["image_size"] // vision["patch_size"],
        "tower_output": found["embed_dim"],
        "tower_mlp_ratio": float(vision.get("mlp_ratio", 4.0)),
        "tower_act": "quick_gelu" if quick else "gelu",
    }


def load_tower(model: SeGSR, source: str | Path) -> None:
    """Load pretrained weights into a network's tower; adapters and all else stay unchanged.

    Args:
        model: Its configuration must describe such a tower; see tower_fields.
        source: A file (.safetensors, .pt, .pth, .bin) of a whole CLIP model or its image tower, such as those of
            RemoteCLIP and GeoRSCLIP, or OpenAI's ViT-B-16.pt, a TorchScript archive whose program is not run;
            or "NAME:TAG" of open_clip's, which downloads once and is cached.

    Raises:
        CheckpointError: The file is damaged or foreign, or cannot be fetched.
        ConfigError: There are no such weights, or they do not fit the network.
    """
    path = Path(source) if Path(source).exists() else _fetched(str(source))
    weights = _of_image_tower(read_tensors(path))
    own = model.features.tower.base_weights()
    wrong = sorted(k for k in own if k not in weights or weights[k].shape != own[k].shape)
    if wrong:
        found = tuple(weights[wrong[0]].shape) if wrong[0] in weights else "none"
        raise ConfigError(
            f"Cannot use '{path}' as the tower: '{wrong[0]}' has shape {found}, and the network needs "
            f"{tuple(own[wrong[0]].shape)}. Configure the network for these weights "
            "(tower_width, tower_patch, ..)."
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(weights[name])


def _of_image_tower(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in ("module.visual.", "visual.", "module."):
        if any(name.startswith(prefix) for name in tensors):
            return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    return tensors


def _fetched(name: str) -> Path:
    require("clip", f"fetch tower weights '{name}'", "open_clip")
    from open_clip.pretrained import HF_SAFE_WEIGHTS_NAME, download_pretrained, get_pretrained_cfg

    model, _, tag = name.partition(":")
    weights = get_pretrained_cfg(model, tag) if tag else None
    if not weights:
        raise ConfigError(
            f"Cannot find tower weights '{name}': it is neither a file nor a NAME:TAG of open_clip, "
            "such as ViT-B-16:openai."
        )
    repository, _, file = weights.get("hf_hub", "").rpartition("/")
    address = weights.get("url", "")
    if repository:
        address = f"https://huggingface.co/{repository}/resolve/main/{file or HF_SAFE_WEIGHTS_NAME}"
    try:
        return Path(download_pretrained(weights))
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"Cannot fetch tower weights '{name}' ({type(error).__name__}). On a machine with a network, "
            f"fetch {address}, put the file where this machine can read it, and pass its path instead of the name."
        ) from error
