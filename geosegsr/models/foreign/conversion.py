"""A network of another project as a checkpoint of this package: its tensors, its architecture, and a card."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from geosegsr.models.card import ModelCard, usual_band_names
from geosegsr.models.checkpoint import check_new_file, save_tensors
from geosegsr.models.foreign.open import known_tensors
from geosegsr.models.foreign.upscaler import ForeignUpscaler


def convert_foreign(
    source: str | Path,
    target: str | Path,
    *,
    name: str | None = None,
    licence: str = "",
    trained_on: str = "",
    overwrite: bool = False,
) -> ModelCard:
    """Write a checkpoint that computes the same values as a network of another project.

    What had to be measured of the network goes into the card, so that it is not measured again.

    Args:
        source: Tensors of an architecture that spandrel knows.
        target: The .safetensors checkpoint to write.
        name: Of the model; default: the source's file name.
        licence: Of the weights, as their authors say.
        trained_on: Data of the training, or where the weights come from.
        overwrite: Whether an existing target may be replaced.

    Returns:
        The card of the checkpoint.

    Raises:
        CheckpointError: The file is damaged or foreign, or holds a program.
        ConfigError: The target's name does not end in .safetensors, or spandrel is not installed.
        JobError: The target exists.
    """
    source, target = Path(source), Path(target)
    check_new_file(target, ".safetensors", "a checkpoint's name", overwrite=overwrite)
    tensors = known_tensors(source)
    model = ForeignUpscaler(source, "cpu", "fp32")
    facts, bands = model.facts, model.facts.bands or 1
    card = ModelCard(
        name=name or source.stem,
        architecture=model.architecture,
        config=asdict(model.findings),
        scale=facts.scale,
        bands=bands,
        band_names=usual_band_names(bands),
        tile=facts.tile,
        overlap=facts.overlap,
        halo=facts.halo,
        multiple_of=facts.multiple_of,
        min_size=facts.min_size,
        licence=licence,
        trained_on=trained_on or "see the authors of the weights",
        notes=f"Converted from {source.name}.",
    )
    whole = {
        key: value.to(torch.float32) if value.is_floating_point() else value for key, value in tensors.items()
    }
    return save_tensors(target, whole, card, replace_existing=overwrite)
