"""What a run trains on and starts from, in words, before its first step."""

from __future__ import annotations

from geosegsr.training.config import TrainConfig
from geosegsr.training.dataset import Dataset
from geosegsr.training.network import describe_init


def overview(config: TrainConfig, data: Dataset) -> tuple[str, ...]:
    """The data and the start of a run, a line for each finding.

    Raises:
        CheckpointError: The file that the run starts from is no checkpoint.
    """
    return (
        *data.notes,
        _bands(data),
        f"value range: {_value_range(data)}",
        _lr(config),
        describe_init(config, data.band_keys),
    )


def _bands(data: Dataset) -> str:
    side = "" if data.resolution_m is None else f"; lr pixels of {data.resolution_m:.6g} m"
    return f"bands: {', '.join(key or 'unnamed' for key in data.band_keys)}{side}"


def _value_range(data: Dataset) -> str:
    kind = data.policy["kind"]
    if kind == "range":
        return f"DN {data.policy['lo']:g} to {data.policy['hi']:g}"
    if kind == "standard":
        return "mean and standard deviation of each band, or its declared scale and offset"
    return f"all of {data.dtype}" if kind == "dtype" else "of each image, as upscale finds it"


def _lr(config: TrainConfig) -> str:
    if config.data.lr:
        return "lr: real images"
    return f"lr: made from hr, kernel {' or '.join(dict.fromkeys(config.degradation.kernel))}"
