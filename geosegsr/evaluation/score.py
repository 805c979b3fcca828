"""evaluate(): the scores of a finished file, or of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, overload

from geosegsr.errors import ConfigError
from geosegsr.evaluation.evaluate import evaluate_file, evaluate_model
from geosegsr.evaluation.table import Evaluation
from geosegsr.imagery.find import Places, listed_places
from geosegsr.models.contract import Upscaler
from geosegsr.sensor.degradation import Degradation
from geosegsr.sensor.descriptor import SensorDescriptor


@overload
def evaluate(
    sr: str | Path,
    *,
    hr: str | Path,
    lr: str | Path | None = None,
    scale: int | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    value_range: tuple[float, float] | None = None,
    border: int | None = None,
    picture: Path | None = None,
    warp: bool = False,
) -> Evaluation: ...


@overload
def evaluate(
    *,
    model: str | Path | Upscaler,
    hr: Places,
    lr: Places = (),
    scale: int | None = None,
    degradation: Degradation | None = None,
    bands: Sequence[int] = (),
    value_range: tuple[float, float] | None = None,
    border: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    sensor: str | Path | SensorDescriptor = "auto",
    consistency: bool | None = None,
    ensemble: bool = False,
    picture: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation: ...


def evaluate(sr: Any = None, *, model: Any = None, hr: Any = (), lr: Any = (), **options: Any) -> Evaluation:
    """Measure a finished file, or the results of a model, beside bicubic interpolation.

    Args:
        sr: A finished file; see `geosegsr.evaluation.evaluate.evaluate_file` for what goes with it.
        model: A model instead; see `geosegsr.evaluation.evaluate.evaluate_model`.
        hr: The truth: a file beside `sr`; folders, patterns or files for a model.
        lr: The input, where it is known.
        **options: Those of the two functions.

    Raises:
        ConfigError: Both or neither of `sr` and `model` were given.
        GeoSegSRError: The model or the images cannot be used.
    """
    if (sr is None) == (model is None):
        raise ConfigError("Cannot evaluate both or neither. Pass either a file sr, or model=.")
    if sr is not None:
        return evaluate_file(sr, hr, lr or None, **options)
    return evaluate_model(model, listed_places(hr), listed_places(lr), **options)
