"""The network of a run: built or loaded, partly frozen, and saved with its card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from geosegsr.errors import ConfigError, redacted
from geosegsr.models.card import ModelCard
from geosegsr.models.catalogue import bundled_checkpoint
from geosegsr.models.checkpoint import load_checkpoint, save_checkpoint
from geosegsr.models.contract import BUNDLED
from geosegsr.models.pretrained import load_tower, tower_fields
from geosegsr.models.segsr.config import SeGSRConfig
from geosegsr.models.segsr.network import SeGSR, preset
from geosegsr.notices import warn
from geosegsr.training.config import ModelConfig, TrainConfig
from geosegsr.training.dataset import Dataset
from geosegsr.training.equivariance import Equivariance
from geosegsr.training.told import reach_of


def build_network(config: TrainConfig, bands: int) -> SeGSR:
    """Build the configured network, ready for training.

    A tower named after a model of open_clip defines the shape of the tower; a file must fit the preset's shape.

    Args:
        config: Section `model` describes the network; the seed determines its initial weights.
        bands: Number of bands of the images.

    Raises:
        ConfigError: The preset, its changes or the initial checkpoint do not fit the images.
        CheckpointError: The initial file is no checkpoint.
    """
    torch.manual_seed(config.seed)
    network = _started(config.model, bands)
    if config.model.tower:
        load_tower(network, config.model.tower)
    elif config.model.init is None and network.config.lora_rank:
        warn(
            f"the tower of preset '{config.model.preset}' is frozen and starts from random weights: its "
            "guidance will mean little. Pass --tower with its pretrained weights"
        )
    if config.model.equivariance != "none":
        Equivariance(network, config.model.equivariance).start(trained=config.model.init is not None)
    _freeze(network, config.model.train)
    return network


def _started(model: ModelConfig, bands: int) -> SeGSR:
    if model.init is None:
        named = model.tower is not None and not Path(model.tower).exists()
        shape = tower_fields(str(model.tower)) if named else {}
        return SeGSR(preset(model.preset, scale=model.scale, bands=bands, **{**shape, **model.changes}))
    path = bundled_checkpoint(model.scale) if model.init == BUNDLED else Path(model.init)
    network, card = load_checkpoint(path)
    if card.bands != bands:
        raise ConfigError(
            f"Cannot start from '{path}': it is made for {card.bands} bands, and the images have {bands}. "
            "Pass --bands, or another --init."
        )
    return _reshaped(network, replace(_changed(network.config, model), scale=model.scale)).train()


def _changed(own: SeGSRConfig, model: ModelConfig) -> SeGSRConfig:
    """The shape of a checkpoint, with what tells it of the sensor where that is asked for and it has none.

    Raises:
        ConfigError: `model.changes` asks for another shape.
    """
    has = own.to_dict()
    changes = {name: value for name, value in model.changes.items() if has.get(name) != value}
    if set(changes) - {"sensor_width"} or (changes and own.sensor_width):
        raise ConfigError(
            f"Cannot change the network of '{model.init}': its shape is the checkpoint's, and only a sensor_width can be "
            "added where it has none. Leave model.changes out, or --init."
        )
    return SeGSRConfig.from_dict({**has, **changes})


def _reshaped(network: SeGSR, config: SeGSRConfig) -> SeGSR:
    """A network with the weights of this one.

    Of another scale, its enlargement starts anew. What tells it of the sensor starts without effect where there was none.
    """
    if config == network.config:
        return network
    other = SeGSR(config)
    own = other.state_dict()
    head_is_new = config.scale != network.config.scale
    kept = {
        name: value
        for name, value in network.state_dict().items()
        if name in own and own[name].shape == value.shape and not (head_is_new and name.startswith("head."))
    }
    other.load_state_dict({**own, **kept})
    return other


def _freeze(network: SeGSR, what: str) -> None:
    """Freeze the parameters outside the part `what`: "all", "trunk" or "lora"."""
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
            "Pass --train-only trunk or all, or a preset with adapters."
        )


def save_model(
    path: Path,
    network: SeGSR,
    config: TrainConfig,
    data: Dataset,
    metrics: dict[str, Any],
    notes: str = "",
) -> ModelCard:
    """Write a checkpoint: the weights, and the card that says how to use them.

    Raises:
        CheckpointError: The file cannot be written; an existing one is unchanged.
    """
    names = {"band_names": tuple(n or f"band {i + 1}" for i, n in enumerate(data.band_names))}
    shape: SeGSRConfig = network.config
    card = ModelCard.of(
        shape,
        f"{config.model.preset}-x{config.model.scale}",
        **(names if any(data.band_names) else {}),
        radiometry=data.policy,
        degradation=None if config.data.lr else config.degradation.to_dict(),
        grey=config.data.grey > 0 or any(source.grey > 0 for source in config.data.sources),
        told=reach_of(config.degradation, shape.scale, shape.bands) if shape.sensor_width else {},
        metrics=metrics,
        notes=notes,
        trained_on=_describe(config, data),
    )
    return save_checkpoint(path, network, card)


def _describe(config: TrainConfig, data: Dataset) -> str:
    places = [*config.data.hr, *(place for source in config.data.sources for place in source.hr)]
    folders = ", ".join(dict.fromkeys(Path(redacted(place)).name for place in places))
    side = "" if data.resolution_m is None else f", lr pixels of {data.resolution_m:.6g} m"
    return f"{data.patches.images} images of {folders}{side}, {data.bands} bands of {data.dtype}"
