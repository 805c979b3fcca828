"""What a run trains on and starts from, in words, before its first step."""

from __future__ import annotations

from pathlib import Path

from rasterio.errors import RasterioError

from geosegsr.errors import JobError
from geosegsr.imagery.pictures import write_png
from geosegsr.models.contract import BUNDLED
from geosegsr.training.config import TrainConfig
from geosegsr.training.dataset import Dataset, has_clean_lr
from geosegsr.training.network import describe_init
from geosegsr.training.sensing import sensor_toml


def overview(config: TrainConfig, data: Dataset) -> tuple[str, ...]:
    """The data and the start of a run, a line for each finding.

    Raises:
        CheckpointError: The file that the run starts from is no checkpoint.
    """
    return (
        *data.notes,
        _bands(data),
        f"value range: {_value_range(data)}",
        _lr(config, data),
        f"network: {_network(config)}",
        describe_init(config, data.band_keys, data.grouping),
        *_better_start(config, data),
    )


def write_pictures(data: Dataset, folder: Path) -> list[str]:
    """Write pictures of what a run trains on: pairs.png, for real pairs. Other files of the folder are untouched.

    Returns:
        A line for each file.

    Raises:
        JobError: The folder cannot be written.
    """
    if data.pairs is None:
        return []
    target = folder / "pairs.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_png(target, data.pairs.picture())
    except (OSError, RasterioError) as error:
        raise JobError(f"Cannot write '{target}': {error}.") from error
    return [f"{target}: lr, hr without the ground that is left out, and hr"]


def sensor_text(data: Dataset) -> str | None:
    """The text of sensor.toml: how lr is made, or was in real pairs; None where that is not one sensor, or unknown."""
    if data.degradation is None:
        return None
    origin = "given"
    if data.pairs is not None:
        origin = "measured between hr and lr"
    elif data.sensor is not None:
        origin = f"found from the images: {data.sensor}"
    return sensor_toml(data.degradation, origin)


def _bands(data: Dataset) -> str:
    side = "" if data.resolution_m is None else f"; lr pixels of {data.resolution_m:.6g} m"
    return f"bands: {', '.join(key or 'unnamed' for key in data.band_keys)}{side}"


def _network(config: TrainConfig) -> str:
    told = ", which is told the blur, noise and compression of each image"
    return f"{config.model.preset}{told if config.model.preset == 'compact-sensor' else ''}"


def _better_start(config: TrainConfig, data: Dataset) -> list[str]:
    """A hint where the bundled network of another preset knows sensors like that of the images."""
    if (config.model.preset, config.model.init) == ("compact", BUNDLED) and not has_clean_lr(config, data):
        return ["lr is not sharp and clean: --preset compact-sensor starts from the network for such sensors"]
    return []


def _value_range(data: Dataset) -> str:
    kind = data.policy["kind"]
    if kind == "range":
        return f"DN {data.policy['lo']:g} to {data.policy['hi']:g}"
    if kind == "standard":
        return "mean and standard deviation of each band, or its declared scale and offset"
    return f"all of {data.dtype}" if kind == "dtype" else "of each image, as upscale finds it"


def _lr(config: TrainConfig, data: Dataset) -> str:
    if data.pairs is not None:
        blur = data.pairs.degradation
        shown = (
            "the blur between both is not to be seen" if blur is None else f"MTF {blur.mtf[0]:.2f} at Nyquist"
        )
        return f"lr: real images, {shown}"
    if data.sensor is not None:
        return f"lr: made from hr with the blur and noise that the images show: {data.sensor}; --degradation bicubic for sharp and clean lr"
    return f"lr: made from hr, kernel {' or '.join(dict.fromkeys(config.degradation.kernel))}"
