"""What the bundled model makes of the validation tiles: the rival that a training has to beat."""

from __future__ import annotations

import warnings

from geosegsr.errors import GeoSegSRWarning
from geosegsr.evaluation.enlarge import Enlarger
from geosegsr.models.catalogue import resolve_upscaler
from geosegsr.models.contract import BUNDLED
from geosegsr.sensor.descriptor import SensorDescriptor
from geosegsr.training.dataset import Dataset
from geosegsr.training.validation import Score, Validation


def score_of_bundled(validation: Validation, data: Dataset, device: str) -> Score:
    """Score of the bundled model on the tiles, computed as `upscale` does, bands grouped by their colours.

    A tile is too small to estimate a sensor as from a whole scene. Where lr was made, the model is also told how: the better
    of both scores counts. Results are not made consistent with their input, which helps any model, and is not part of the
    scores of a run.

    Args:
        validation: Its tiles, in the range of the model that is trained.
        data: Says what the bands are.
        device: "cpu", "cuda" or "cuda:N".

    Raises:
        ConfigError: There is no bundled model for the scale.
    """
    upscaler = resolve_upscaler(BUNDLED, validation.scale, device=device)
    sensors: list[str | SensorDescriptor] = ["auto"]
    if data.pairs is None:
        sensors += [validation.tiles[0].sensor]  # of all tiles: they are made by one degradation at rest
    scores = []
    with warnings.catch_warnings():
        # Of one tile; they concern whoever would use that model.
        warnings.simplefilter("ignore", GeoSegSRWarning)
        for sensor in sensors:
            enlarge = Enlarger(upscaler, consistency=False, sensor=sensor)
            images = [enlarge.values(tile.origin, tile.lr, data.colours) for tile in validation.tiles]
            scores.append(validation.score(images))
    return max(scores, key=lambda score: score.main)
