"""The network of a run: built or loaded, partly frozen, and saved with its card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import torch

from geosegsr.errors import CheckpointError, ConfigError, redacted
from geosegsr.evaluation.table import counted
from geosegsr.models.card import ModelCard
from geosegsr.models.catalogue import is_foreign
from geosegsr.models.checkpoint import has_card, load_checkpoint, read_card, save_checkpoint
from geosegsr.models.conversion import read_tensors
from geosegsr.models.foreign.network import ForeignNetwork, load_foreign_network, save_foreign_network
from geosegsr.models.pretrained import load_tower, tower_fields
from geosegsr.models.segsr.borrowed import borrow, borrowed_fields
from geosegsr.models.segsr.config import SeGSRConfig
from geosegsr.models.segsr.network import SeGSR, preset
from geosegsr.notices import warn
from geosegsr.raster.bands import band_key, find_bands
from geosegsr.training.config import RANDOM, ModelConfig, TrainConfig
from geosegsr.training.dataset import Dataset
from geosegsr.training.equivariance import Equivariance
from geosegsr.training.grouped import Grouping
from geosegsr.training.mixture import NumberedPatches
from geosegsr.training.start import init_file, starts_foreign
from geosegsr.training.told import reach_of
from geosegsr.training.transfer import scale_new_detail, with_bands, with_shape

Network: TypeAlias = SeGSR | ForeignNetwork
"""What can be trained."""
_TUNED = ", fine-tuned"
_PATCHES_TO_FIT = 32


def build_network(
    config: TrainConfig, bands: int, names: Sequence[str] = (), patches: NumberedPatches | None = None
) -> Network:
    """Build the configured network, ready for training.

    A tower named after a model of open_clip defines the shape of the tower; a file must fit the preset's shape.

    Args:
        config: Section `model` describes the network; the seed determines its initial weights.
        bands: Number of bands of the images.
        names: What each of them is ("red", "nir"), as far as it is known.
        patches: To fit what bands begin with that the initial checkpoint lacks.

    Raises:
        ConfigError: The preset, its changes or the initial checkpoint do not fit the images.
        CheckpointError: The initial file is no checkpoint.
    """
    torch.manual_seed(config.seed)
    if starts_foreign(config.model):
        return _foreign(config.model, names or ("",) * bands)
    network = _started(config.model, names or ("",) * bands, patches)
    if config.model.tower:
        load_tower(network, config.model.tower)
    elif config.model.init == RANDOM and network.config.lora_rank:
        warn(
            f"the tower of preset '{config.model.preset}' is frozen and starts from random weights: its "
            "guidance will mean little. Pass --tower with its pretrained weights"
        )
    if config.model.equivariance != "none":
        Equivariance(network, config.model.equivariance).start(trained=config.model.init != RANDOM)
    _freeze(network, config.model.train)
    return network


def _started(model: ModelConfig, names: Sequence[str], patches: NumberedPatches | None) -> SeGSR:
    if model.init == RANDOM:
        named = model.tower is not None and not Path(model.tower).exists()
        shape = tower_fields(str(model.tower)) if named else {}
        if model.unit_from is not None:
            return _borrowed(model, shape, len(names))
        return SeGSR(preset(model.preset, scale=model.scale, bands=len(names), **{**shape, **model.changes}))
    network, card = load_checkpoint(init_file(model))
    wanted = replace(_changed(network.config, model), scale=model.scale)
    known = [band_key(name) for name in card.band_names]
    network = with_bands(with_shape(network, wanted), names, known)
    new = [band for band, name in enumerate(names) if name not in known]
    if patches is not None and wanted.residual and len(names) > 1 and len(names) != len(known):
        scale_new_detail(network, new, patches.batch(0, _PATCHES_TO_FIT))
    return network.train()


def _foreign(model: ModelConfig, names: Sequence[str]) -> ForeignNetwork:
    """The network of another project, all of whose weights are trained.

    Raises:
        ConfigError: It is for another scale or other bands, or has not what the settings ask for.
        CheckpointError: The file is damaged, or not converted.
    """
    check_foreign(model, names)
    return load_foreign_network(init_file(model))[0].train()


def check_foreign(model: ModelConfig, names: Sequence[str]) -> None:
    """Refuse settings and images that another project's network cannot be trained with; errors as of `build_network`."""
    path = init_file(model)
    if not has_card(path):
        raise CheckpointError(
            f"Cannot train from '{path}': it has no card. Convert it first: geosegsr convert {path} -o model.safetensors, "
            "then pass --init model.safetensors."
        )
    card = read_card(path)
    asked = {
        "model.changes": bool(model.changes), "--tower": model.tower is not None, "--train-only": model.train == "lora",
        "--unit-from": model.unit_from is not None, "model.equivariance": model.equivariance != "none",
    }  # fmt: skip
    if unfit := [name for name, wanted in asked.items() if wanted]:
        raise ConfigError(
            f"Cannot train the {card.architecture} network of '{path}' with {unfit[0]}: that is for SeG-SR networks. "
            "Leave it out."
        )
    if (card.scale, card.bands) != (model.scale, len(names)):
        raise ConfigError(
            f"Cannot train from '{path}': it is for scale {card.scale} and {card.bands} bands, and this run for scale "
            f"{model.scale} and {len(names)} bands. Pass --scale {card.scale}, and --bands to choose {card.bands} bands."
        )
    known = tuple(band_key(name) for name in card.band_names)
    found = find_bands(tuple(names), known, len(known))
    if found is not None and found != tuple(range(len(known))):
        order = ",".join(str(band + 1) for band in found)
        raise ConfigError(
            f"Cannot train from '{path}': its bands are {', '.join(known)}, and those of the images "
            f"{', '.join(names)}. Pass --bands {order}, counted among the bands of this run."
        )


def _borrowed(model: ModelConfig, tower: dict[str, Any], bands: int) -> SeGSR:
    """A network with the trunk of another project's.

    Raises:
        ConfigError: The trunk is for another scale or other bands.
        CheckpointError: The file is damaged, or no network whose units could be used.
    """
    path = Path(str(model.unit_from))
    state = read_tensors(path)
    try:
        fields = borrowed_fields(state)
        if (fields["scale"], fields["bands"]) != (model.scale, bands):
            raise ConfigError(
                f"Cannot train with the units of '{path}': they are for scale {fields['scale']} and {fields['bands']} "
                f"bands, and this run for scale {model.scale} and {bands} bands. "
                f"Pass --scale {fields['scale']}, and --bands to choose {fields['bands']} bands."
            )
        network = SeGSR(preset(model.preset, **{**tower, **model.changes, **fields}))
        borrow(network, state)
    except CheckpointError as error:
        raise CheckpointError(f"Cannot train with the units of '{path}': {error}.") from error
    return network


def describe_init(config: TrainConfig, names: Sequence[str], grouping: Grouping | None = None) -> str:
    """For the user: what the network starts from, and how its bands were found.

    Args:
        config: The run.
        names: What each band of the images is.
        grouping: How they go through the network, if not together.
    """
    if config.model.unit_from is not None:
        return f"start: the trunk of {Path(config.model.unit_from).name}, modulations at rest"
    if config.model.init == RANDOM:
        return "start: random weights"
    path = init_file(config.model)
    if starts_foreign(config.model):
        check_foreign(config.model, names)
        return f"start: {path.stem}, a network of architecture {read_card(path).architecture}"
    known = [band_key(name) for name in read_card(path).band_names]
    if find_bands(tuple(names), tuple(known), len(known)) is not None and len(names) == len(known):
        return f"start: {path.stem}"
    if grouping is not None:
        alone = sum(group.through != "model" for group in grouping.groups)
        single = "" if alone == 1 else ", one at a time"
        if alone < len(grouping.groups):
            return f"start: {path.stem}; {', '.join(known)} together, {counted(alone, 'other band')} as grey{single}"
        return (
            f"start: {path.stem}; {counted(alone, 'band')} one at a time as grey, because the images do not say which are "
            f"{', '.join(known)}. To use these alone, pass --bands with their numbers"
        )
    by_name = [name for name in names if name and name in known]
    others = f"{counted(len(names) - len(by_name), 'other band')} with the mean detail of its bands"
    return f"start: {path.stem}, {', '.join(by_name) + ' by name, ' if by_name else ''}{others}"


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
    network: Network,
    config: TrainConfig,
    data: Dataset,
    metrics: dict[str, Any],
    notes: str = "",
) -> ModelCard:
    """Write a checkpoint: the weights, and the card that says how to use them.

    Raises:
        CheckpointError: The file cannot be written; an existing one is unchanged.
    """
    own = data.band_names if data.grouping is None else data.grouping.band_names
    names = {"band_names": tuple(n or f"band {i + 1}" for i, n in enumerate(own))}
    entries: dict[str, Any] = {
        **(names if any(own) else {}),
        "radiometry": data.policy,
        "degradation": _degradation(config, data),
        "grey": data.grouping is not None
        or config.data.grey > 0
        or any(source.grey > 0 for source in config.data.sources),
        "metrics": metrics,
        "notes": notes,
        "trained_on": _describe(config, data),
        "parents": _parents(config.model),
    }
    if isinstance(network, ForeignNetwork):
        start = read_card(init_file(config.model))
        named = start.name.removesuffix(_TUNED) + _TUNED
        return save_network(path, network, replace(start, name=named, **entries))
    shape: SeGSRConfig = network.config
    told = reach_of(config.degradation, shape.scale, shape.bands) if shape.sensor_width else {}
    name = f"{config.model.preset}-x{config.model.scale}"
    return save_network(path, network, ModelCard.of(shape, name, told=told, **entries))


def save_network(path: Path, network: Network, card: ModelCard) -> ModelCard:
    """Write a network with its card, which gets the sizes and the configuration of the network.

    Raises:
        CheckpointError: The file cannot be written; an existing one is unchanged.
    """
    if isinstance(network, ForeignNetwork):
        return save_foreign_network(path, network, card)
    return save_checkpoint(path, network, card)


def load_network(path: Path) -> Network:
    """The network that `save_network` wrote.

    Raises:
        CheckpointError: The file is damaged, or no checkpoint.
    """
    return load_foreign_network(path)[0] if is_foreign(path) else load_checkpoint(path)[0]


def _parents(model: ModelConfig) -> tuple[str, ...]:
    """The checkpoint that the run started from, and those that this one came from."""
    if model.init == RANDOM:
        return ()
    card = read_card(init_file(model))
    return (f"{card.name} (sha256 {card.sha256})", *card.parents)


def _degradation(config: TrainConfig, data: Dataset) -> dict[str, Any] | None:
    """How lr was made, or the blur that real pairs show; None if they show none."""
    if data.pairs is None:
        return (data.degradation or config.degradation).to_dict()
    return None if data.degradation is None else data.degradation.to_dict()


def _describe(config: TrainConfig, data: Dataset) -> str:
    places = [*config.data.hr, *(place for source in config.data.sources for place in source.hr)]
    folders = ", ".join(dict.fromkeys(Path(redacted(place)).name for place in places))
    side = "" if data.resolution_m is None else f", lr pixels of {data.resolution_m:.6g} m"
    start = "" if config.model.init == RANDOM else f"; started from {init_file(config.model).stem}"
    return f"{data.patches.images} images of {folders}{side}, {data.bands} bands of {data.dtype}{start}"
