"""TensorBoard, Weights & Biases and MLflow, through accelerate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from numpy.typing import NDArray

from geosegsr.errors import ConfigError, JobError
from geosegsr.notices import warn

_PROJECT = "geosegsr"
_PICTURE = "validation/lr, bicubic, sr, hr"


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers whose package is not installed.

    Raises:
        ConfigError: One is missing.
    """
    installed = {str(tracker) for tracker in get_available_trackers()}
    for name in names:
        if name not in installed:
            raise ConfigError(
                f"Cannot track the run with '{name}': its package is not installed. "
                f"Run 'pip install {name}', or leave out --tracker {name}."
            )


class Trackers:
    """The trackers of one run, in its main process."""

    def __init__(self, accelerator: Accelerator, run: Path, settings: Mapping[str, Any]) -> None:
        """Start them.

        Args:
            accelerator: Holds the names of the trackers.
            run: Folder of the run; its name becomes the name of the run.
            settings: The configuration, as nested plain values.

        Raises:
            JobError: One cannot be started, for example because its server needs a login.
        """
        self._accelerator, self._run = accelerator, run
        if not accelerator.log_with:
            return
        own = {
            "wandb": {"name": run.name, "dir": str(run)},
            "mlflow": {"run_name": run.name},
        }
        try:
            accelerator.init_trackers(_PROJECT, _flat(settings), own)
        except Exception as error:  # every tracker has errors of its own
            accelerator.trackers.clear()  # accelerate would finish what never started
            names = ", ".join(str(name) for name in accelerator.log_with)
            raise JobError(
                f"Cannot start the trackers of '{run}' ({names}): {_first_line(error)} "
                f"Correct this and pass --resume {run}."
            ) from error

    def log(self, step: int, numbers: Mapping[str, float], picture: NDArray[np.uint8] | None = None) -> None:
        """Send numbers, and a picture of shape (3, H, W).

        Raises:
            JobError: They cannot be written or sent.
        """
        for tracker in self._accelerator.trackers:
            try:
                tracker.log(dict(numbers), step=step)
                if picture is not None:
                    _log_picture(tracker, step, picture)
            except Exception as error:  # every tracker has errors of its own, and none is worth the run
                raise JobError(
                    f"Cannot log step {step} of '{self._run}' with '{tracker.name}': {_first_line(error)}"
                ) from error

    def close(self) -> None:
        """Let the trackers write what they still hold; a failure is a warning only."""
        trackers = self._accelerator.trackers
        while trackers:
            tracker = trackers.pop()
            try:
                tracker.finish()
            except Exception as error:  # what it has not written yet is a copy of log.csv and metrics.csv
                warn(f"cannot finish '{tracker.name}' of '{self._run}': {error}")


def _log_picture(tracker: Any, step: int, picture: NDArray[np.uint8]) -> None:
    pictures = {_PICTURE: picture.transpose(1, 2, 0)[None]}  # (1, H, W, 3)
    if tracker.name == "tensorboard":
        tracker.log_images(pictures, step=step, dataformats="NHWC")
    elif tracker.name == "mlflow":
        import mlflow

        mlflow.log_image(picture.transpose(1, 2, 0), f"pictures/step_{step:07d}.png")
    else:
        tracker.log_images(pictures, step=step)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """Nested values with dotted names; what is no plain value becomes text."""
    flat: dict[str, bool | int | float | str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat


def _first_line(error: Exception) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return f"{text}."
