"""The network of a run: built, started from other weights, frozen where it shall not learn, saved."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from geosegsr.checkpoint import ModelCard, load_checkpoint, read_card, save_checkpoint
from geosegsr.errors import CheckpointError, ConfigError, DependencyError, GeoSegSRWarning
from geosegsr.models.segsr import SeGSR, SeGSRConfig, preset
from geosegsr.training.config import ModelConfig, TrainConfig
from geosegsr.training.dataset import Dataset


def build_network(config: TrainConfig, bands: int) -> SeGSR:
    """The network that a configuration asks for, ready to learn.

    Args:
        config: Its section `model` says which; the seed decides the first weights.
        bands: Bands of the images.

    Raises:
        ConfigError: The preset, its changes or the start do not fit the images.
        CheckpointError: The file to start from is no checkpoint.
        DependencyError: The tower is to come from a package that is not installed.
    """
    torch.manual_seed(config.seed)
    network = _started(config.model, bands)
    if config.model.tower:
        load_tower(network, config.model.tower)
    elif config.model.init is None and network.config.lora_rank:
        warnings.warn(
            f"the tower of preset '{config.model.preset}' is frozen and starts from random weights: its "
            "guidance will mean little. Pass --tower with its pretrained weights",
            GeoSegSRWarning,
            stacklevel=3,
        )
    _freeze(network, config.model.train)
    return network


def _started(model: ModelConfig, bands: int) -> SeGSR:
    if model.init is None:
        return SeGSR(preset(model.preset, scale=model.scale, bands=bands, **model.changes))
    if model.changes:
        raise ConfigError(
            f"Cannot change the network of '{model.init}': its shape is the checkpoint's. "
            "Leave model.changes out, or --init."
        )
    path = bundled(model.scale, bands) if model.init == "bundled" else Path(model.init)
    network, card = load_checkpoint(path)
    if (card.scale, card.bands) != (model.scale, bands):
        raise ConfigError(
            f"Cannot start from '{path}': it is made for scale {card.scale} and {card.bands} bands, and "
            f"needed are scale {model.scale} and {bands} bands. Pass --scale {card.scale} and --bands, or "
            "another --init."
        )
    return network.train()


def bundled(scale: int, bands: int) -> Path:
    """The checkpoint for a scale that comes with the package.

    Raises:
        ConfigError: There is none.
    """
    folder = Path(__file__).parent.parent / "weights"
    for path in sorted(folder.glob("*.safetensors")):
        card = read_card(path)
        if (card.scale, card.bands) == (scale, bands):
            return path
    raise ConfigError(
        f"Cannot find bundled weights for scale {scale} and {bands} bands. Pass --init FILE, or leave it out."
    )


def load_tower(network: SeGSR, source: str) -> None:
    """Fill the semantic tower with pretrained weights.

    Args:
        network: Its tower is changed in place.
        source: A file of a vision transformer's tensors (safetensors, or a torch file of tensors only), or
            one of open_clip's models as "NAME" or "NAME/TAG", such as "ViT-B-16/openai".

    Raises:
        CheckpointError: The tensors are not those of the tower.
        DependencyError: open_clip is needed and missing.
        ConfigError: No such file or model.
    """
    tensors = _read_tower_file(Path(source)) if Path(source).exists() else _download_tower(source)
    tensors = {name.removeprefix("visual."): t for name, t in tensors.items() if _is_visual(name, tensors)}
    vit: Any = network.features.tower.vit
    renamed = {}
    for name in vit.state_dict():
        plain = name.replace("parametrizations.", "").replace(".original", "")
        if ".0.A" in name or ".0.B" in name:  # the adapters keep their own start
            continue
        if plain not in tensors or tensors[plain].shape != vit.state_dict()[name].shape:
            found = tuple(tensors[plain].shape) if plain in tensors else "none"
            raise CheckpointError(
                f"Cannot use '{source}' as the tower: its tensor '{plain}' has shape {found}, and needed is "
                f"{tuple(vit.state_dict()[name].shape)}. Pass weights of the same kind of transformer."
            )
        renamed[name] = tensors[plain].float()
    vit.load_state_dict(renamed, strict=False)


def _is_visual(name: str, tensors: dict[str, Any]) -> bool:
    """A file of a whole CLIP holds text weights too; its image side is called visual."""
    whole = any(other.startswith("visual.") for other in tensors)
    return name.startswith("visual.") or not whole


def _read_tower_file(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        tensors: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both readers raise many kinds for damaged and foreign files
        raise CheckpointError(f"Cannot read '{path}' as the tower's weights: {error}.") from error
    return dict(tensors.get("state_dict", tensors))


def _download_tower(name: str) -> dict[str, Any]:
    try:
        import open_clip
    except ImportError as error:
        raise DependencyError("Cannot load a tower by name: open_clip_torch is not installed.") from error
    kind, _, tag = name.partition("/")
    if kind not in open_clip.list_models():
        raise ConfigError(
            f"Cannot find a tower '{name}': it is no file and none of open_clip's models. "
            "Pass --tower FILE, or NAME/TAG such as ViT-B-16/openai."
        )
    try:
        model = open_clip.create_model(kind, pretrained=tag or "openai")
    except Exception as error:  # the hub's client raises its own kinds when there is no network
        raise ConfigError(f"Cannot get the tower '{name}': {error}. Pass --tower FILE instead.") from error
    return dict(model.visual.state_dict())


def _freeze(network: SeGSR, what: str) -> None:
    """Let only a part of the network learn."""
    if what == "all":
        return
    tower = network.features.tower
    for name, parameter in network.named_parameters():
        in_tower = name.startswith("features.")
        adapter = in_tower and "parametrizations" in name and not name.endswith("original")
        parameter.requires_grad_(adapter if what == "lora" else not in_tower and parameter.requires_grad)
    if what == "lora" and not tower.adapted:
        raise ConfigError(
            "Cannot train the adapters only: this network's tower has none (lora_rank 0). "
            "Pass --train trunk or all, or a preset with adapters."
        )


def save_model(
    path: Path, network: SeGSR, config: TrainConfig, data: Dataset, metrics: dict[str, Any]
) -> ModelCard:
    """Write weights with all that is needed to use them.

    Raises:
        CheckpointError: The file cannot be written; one that was there is untouched.
    """
    names = {"band_names": tuple(n or f"band {i + 1}" for i, n in enumerate(data.band_names))}
    shape: SeGSRConfig = network.config
    card = ModelCard.of(
        shape,
        f"{config.model.preset}-x{config.model.scale}",
        **(names if any(data.band_names) else {}),
        radiometry=data.policy,
        degradation=None if config.data.lr else config.degradation.to_dict(),
        grey=config.data.grey > 0,
        metrics=metrics,
        trained_on=_describe(config, data),
    )
    return save_checkpoint(path, network, card)


def _describe(config: TrainConfig, data: Dataset) -> str:
    folders = ", ".join(sorted({Path(source).name for source in config.data.hr}))
    side = "" if data.resolution_m is None else f", lr pixels of {data.resolution_m:.6g} m"
    return f"{data.patches.images} images of {folders}{side}, {data.bands} bands of {data.dtype}"
