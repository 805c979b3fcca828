"""What the weights of a run start from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geosegsr.models.catalogue import bundled_checkpoint, is_foreign, located
from geosegsr.models.checkpoint import clean_beside, read_card
from geosegsr.models.contract import BUNDLED
from geosegsr.raster.bands import find_bands, group_bands
from geosegsr.training.config import GROUPS, RANDOM, ModelConfig
from geosegsr.training.grouped import Grouping


def starts_foreign(model: ModelConfig) -> bool:
    """Whether a run starts from the network of another project."""
    return model.init not in (RANDOM, BUNDLED) and is_foreign(init_file(model))


def init_file(model: ModelConfig) -> Path:
    """The checkpoint that a run starts from; `model.init` must not be "none"."""
    if model.init != BUNDLED:
        return Path(str(located(model.init)))
    path = bundled_checkpoint(model.scale)
    return clean_beside(path) if model.preset == "compact" else path


def grouping_of(model: ModelConfig, bands: Sequence[str]) -> Grouping | None:
    """How images go through a network that keeps the bands of its start.

    Args:
        model: Section `model` of the configuration.
        bands: What each band of the images is; "" where unknown.

    Returns:
        None where the network takes all bands together: those of its start, a single one as grey, and any where the start is
        random, is nobody's that knows grey, or `model.bands` asks for it.
    """
    if model.init == RANDOM or model.bands != GROUPS or starts_foreign(model) or len(bands) < 2:
        return None
    card = read_card(init_file(model))
    found = find_bands(tuple(bands), card.band_names, card.bands)
    if not card.knows_grey or (found is not None and len(found) == len(bands)):
        return None
    groups = group_bands(
        tuple(bands),
        model=card.name,
        model_bands=card.bands,
        model_band_names=card.band_names,
        knows_grey=True,
    )
    return Grouping(groups, card.band_names)
