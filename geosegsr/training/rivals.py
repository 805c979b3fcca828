"""What the bundled model makes of the validation tiles: the rival that a training has to beat."""

from __future__ import annotations

import warnings

from geosegsr.errors import GeoSegSRWarning
from geosegsr.evaluation.enlarge import Enlarger
from geosegsr.models.catalogue import resolve_upscaler
from geosegsr.models.contract import BUNDLED
from geosegsr.training.dataset import Dataset
from geosegsr.training.validation import Score, Validation


def score_of_bundled(validation: Validation, data: Dataset, device: str) -> Score:
    """Score of the bundled model on the tiles, computed as `upscale` does: sensor estimated, bands grouped by their colours.

    Args:
        validation: Its tiles, in the range of the model that is trained.
        data: Says what the bands are.
        device: "cpu", "cuda" or "cuda:N".

    Raises:
        ConfigError: There is no bundled model for the scale.
    """
    enlarge = Enlarger(resolve_upscaler(BUNDLED, validation.scale, device=device))
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", GeoSegSRWarning
        )  # of one tile; they concern whoever would use that model
        return validation.score(
            [enlarge.values(tile.origin, tile.lr, data.colours) for tile in validation.tiles]
        )
