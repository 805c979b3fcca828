"""A model as a STAC item: what it takes and gives, what it was trained on, and its file, by the extension for machine learning."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pystac
from pystac.extensions.file import FileExtension
from pystac.extensions.mlm import (
    AssetGeneralMLMExtension,
    Hyperparameters,
    InputStructure,
    MLMExtension,
    ModelBand,
    ModelInput,
    ModelOutput,
    ResultStructure,
    TaskType,
    ValueScaling,
    ValueScalingType,
)
from pystac.extensions.raster import DataType

from geosegsr.errors import JobError, SceneError
from geosegsr.files import check_place, is_same, read_json, sha256_of, whole_file
from geosegsr.models.card import ModelCard
from geosegsr.models.checkpoint import count_parameters, read_card
from geosegsr.version import __version__

_EARTH = (-180.0, -90.0, 180.0, 90.0)
# Fits any moment; the interval that the extension's best practices name for it.
_ANY_TIME = {"start_datetime": "1900-01-01T00:00:00Z", "end_datetime": "9999-12-31T23:59:59Z"}
_ASSET = "model"
_SHA256_MULTIHASH = "1220"
_SPDX = re.compile(r"[\w.+-]+")
_DIMENSIONS = ["batch", "channel", "height", "width"]


def write_model_item(model: str | Path, path: Path, *, overwrite: bool = False) -> Path:
    """Write the item of a checkpoint, whole or not at all. An item of a model that is there is replaced.

    Args:
        model: The checkpoint.
        path: A .json file.
        overwrite: Whether another file of that name is replaced.

    Raises:
        CheckpointError: The model is no checkpoint.
        JobError: Another file has that name.
        SceneError: It is no name of a JSON file, or the item cannot be written.
    """
    refused = f"Cannot write the STAC item '{path}'"
    if path.suffix.lower() != ".json" or is_same(path, Path(model)):
        raise SceneError(f"{refused}: a STAC item is a JSON file. Name it '{path.with_suffix('.json')}'.")
    check_place(path, "STAC item")
    if path.exists() and not overwrite and "mlm:name" not in read_json(path).get("properties", {}):
        raise JobError(f"{refused}: another file has that name. Pass --overwrite, or another name.")
    item = model_item(Path(model), path.absolute().parent)
    text = json.dumps(item.to_dict(include_self_link=False), indent=2, ensure_ascii=False, allow_nan=False)
    try:
        with whole_file(path) as file:
            file.write(text.encode() + b"\n")
    except OSError as error:
        raise SceneError(
            f"{refused}: {error.strerror or error}. Fix the cause, or pass another name."
        ) from error
    return path


def model_item(model: Path, folder: Path) -> pystac.Item:
    """The item of a checkpoint, for a file in a folder.

    It is valid anywhere and at any time: a card does not bind a model to a place or a time.

    Raises:
        CheckpointError: The model is no checkpoint.
    """
    card = read_card(model)
    item = pystac.Item(
        id=f"{card.name}-{card.sha256[:8]}",
        geometry=_rectangle(*_EARTH),
        bbox=list(_EARTH),
        datetime=None,
        properties={
            **_ANY_TIME,
            "title": f"{card.name}: super-resolution by {card.scale}",
            "description": " ".join(
                part
                for part in (f"Trained on {card.trained_on}." if card.trained_on else "", card.notes)
                if part
            ),
            "license": card.licence if _SPDX.fullmatch(card.licence) else "other",
            "geosegsr:version": __version__,
            "geosegsr:licence": card.licence,
            "geosegsr:metrics": card.metrics,
        },
    )
    _describe(MLMExtension.ext(item, add_if_missing=True), card, model)
    asset = pystac.Asset(
        href=f"./{Path(os.path.relpath(model.absolute(), folder)).as_posix()}",
        media_type="application/octet-stream; framework=safetensors",
        roles=["mlm:model", "mlm:weights", "data"],
        title="Checkpoint: tensors and model card",
    )
    item.add_asset(_ASSET, asset)
    AssetGeneralMLMExtension.ext(asset).artifact_type = "safetensors.torch.save"
    file = FileExtension.ext(asset, add_if_missing=True)
    file.size, file.checksum = model.stat().st_size, _SHA256_MULTIHASH + sha256_of(model)
    return item


def _describe(item: MLMExtension[pystac.Item], card: ModelCard, model: Path) -> None:
    item.apply(
        name=card.name,
        architecture="SeG-SR" if card.architecture == "segsr" else card.architecture,
        tasks=[TaskType.SUPER_RESOLUTION],
        input=[_input(card)],
        output=[
            ModelOutput.create(
                name="sr",
                tasks=[TaskType.SUPER_RESOLUTION],
                result=ResultStructure.create([-1, card.bands, -1, -1], _DIMENSIONS, DataType.FLOAT32),
                description=f"The same bands on a grid {card.scale} times as fine along each side, scaled as the input.",
            )
        ],
        framework="pytorch",
        total_parameters=count_parameters(model),
        pretrained=True,
        pretrained_source=", ".join(card.parents) or None,
        hyperparameters=Hyperparameters.create(
            scale=card.scale, tile=card.tile, overlap=card.overlap, halo=card.halo, multiple_of=card.multiple_of, **{
                name: value for name, value in card.config.items() if name not in ("scale", "bands")
            },
        ),
    )  # fmt: skip


def _input(card: ModelCard) -> ModelInput:
    kind = card.radiometry["kind"]
    described = ", ".join(f"{key} {value}" for key, value in card.radiometry.items() if key != "kind")
    single = kind == "range"
    return ModelInput.create(
        name="lr",
        bands=[ModelBand.create(name) for name in card.band_names],
        input=InputStructure.create([-1, card.bands, -1, -1], _DIMENSIONS, DataType.FLOAT32),
        description=f"Digital numbers scaled to 0 and 1 by the rule '{kind}' of the model card{f' ({described})' if described else ''}.",
        value_scaling=ValueScaling.create(
            ValueScalingType.MIN_MAX, minimum=card.radiometry["lo"], maximum=card.radiometry["hi"]
        )
        if single
        else None,
    )


def _rectangle(west: float, south: float, east: float, north: float) -> dict[str, object]:
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}
