"""A network of another project as a checkpoint of this package: its tensors, its architecture, and a card."""

from __future__ import annotations

from pathlib import Path

from geosegsr.errors import CheckpointError
from geosegsr.models.card import ModelCard, usual_band_names
from geosegsr.models.checkpoint import check_new_file, save_tensors
from geosegsr.models.foreign.network import ForeignNetwork, whole
from geosegsr.models.foreign.open import known_tensors, refused
from geosegsr.models.foreign.probe import Findings, warn_if_unsettled


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
    try:
        tensors = known_tensors(source)
        network = ForeignNetwork(tensors)
        bands = network.program.bands
        card = network.described(
            ModelCard(
                name=name or source.stem,
                architecture=network.program.architecture,
                config={},
                scale=network.scale,
                bands=bands,
                band_names=usual_band_names(bands),
                licence=licence,
                trained_on=trained_on or "see the authors of the weights",
                notes=f"Converted from {source.name}.",
            )
        )
    except CheckpointError as error:
        raise refused(source, error) from error
    warn_if_unsettled(Findings(**card.config), source.name)
    # Under the names of the file, which its own project can read; some networks change their tensors while they compute.
    return save_tensors(target, whole(tensors), card, replace_existing=overwrite)
