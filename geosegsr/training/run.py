"""train(): images in, a model out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from geosegsr.imagery.find import Places, listed_places
from geosegsr.training.config import resolve_config
from geosegsr.training.events import Event
from geosegsr.training.loop import TrainResult
from geosegsr.training.loop import train as run
from geosegsr.training.run_folder import RunFolder


def train(
    hr: Places,
    folder: str | Path,
    scale: int = 4,
    *,
    lr: Places = (),
    preset: str | None = None,
    config: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[Event], None] | None = None,
) -> TrainResult:
    """Train a model on images of one sensor, for `upscale(model=...)`.

    Args:
        hr: High-resolution images: folders, patterns or files.
        folder: Of the run; `resume_training` continues one that was interrupted.
        scale: Output pixels per input pixel along each side: 2, 3, 4 or 8.
        lr: Real low-resolution images of the same ground; made from `hr` by default.
        preset: Network and recipe; by default "compact", or "compact-sensor" where the images are not sharp and clean.
        config: A TOML file with settings.
        settings: Any settings by their names in a configuration, such as {"schedule.minutes": 30}; they win.
        progress: Called with each event of `geosegsr.training.events`.

    Returns:
        The checkpoint, its scores, and those of bicubic, of the start and of the bundled model.

    Raises:
        GeoSegSRError: The images or the settings cannot work.
        Cancelled: The run was interrupted; it is saved.
    """
    places = {"data.hr": listed_places(hr), "data.lr": listed_places(lr)}
    own = {name: named for name, named in places.items() if named}
    resolved = resolve_config(preset, config, {**own, "model.scale": scale, **(settings or {})})
    return run(resolved, folder, on_event=progress)


def resume_training(folder: str | Path, *, progress: Callable[[Event], None] | None = None) -> TrainResult:
    """Continue an interrupted run with its own settings; arguments and errors as of `train`."""
    return run(RunFolder(folder).read_config(), folder, resume=True, on_event=progress)
