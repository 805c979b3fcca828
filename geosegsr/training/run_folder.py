"""Everything a run leaves on disk, and how it is found again.

RUN/config.toml          the resolved configuration
RUN/log.csv              one line a step: loss, learning rate, share of the run, seconds, data wait
RUN/metrics.csv          one line a validation
RUN/pictures/            lr, bicubic, sr, hr of some tiles, at each validation
RUN/events/              the same for TensorBoard, where it is asked for
RUN/last.pt              all that is needed to go on
RUN/best.safetensors     the averaged weights that validated best, with their card
RUN/model.safetensors    what the run is for: written when it is done
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import tomlkit
import torch
from filelock import FileLock, Timeout

from geosegsr.errors import CheckpointError, JobError
from geosegsr.files import whole_file
from geosegsr.schema import read_toml
from geosegsr.training.config import TrainConfig

LOG_COLUMNS = ("step", "elapsed_s", "share", "learning_rate", "loss", "data_wait_s")


@dataclass(frozen=True)
class LoggedStep:
    """One line of log.csv."""

    step: int
    """Steps before it."""
    elapsed_s: float
    """Seconds of the run before it, breaks left out."""
    share: float
    """Share of the run before it."""
    learning_rate: float
    """That it was made with."""
    loss: float
    """Mean over all processes."""
    data_wait_s: float
    """Seconds spent waiting for its patches."""


class RunFolder:
    """One run on disk."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = FileLock(self.path / ".lock")

    @property
    def last(self) -> Path:
        return self.path / "last.pt"

    @property
    def best(self) -> Path:
        return self.path / "best.safetensors"

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    def create(self, config: TrainConfig) -> None:
        """Begin a run.

        Raises:
            JobError: The folder holds something already, or cannot be written.
        """
        if self.path.exists() and any(entry.name != ".lock" for entry in self.path.iterdir()):
            raise JobError(
                f"Cannot start a run in '{self.path}': the folder is not empty. "
                f"Pass --resume {self.path} to go on with its run, or another --run."
            )
        try:
            (self.path / "pictures").mkdir(parents=True, exist_ok=True)
            (self.path / "config.toml").write_text(tomlkit.dumps(config.to_dict()), encoding="utf-8")
        except OSError as error:
            raise JobError(f"Cannot start a run in '{self.path}': {error.strerror or error}.") from error

    def read_config(self) -> TrainConfig:
        """The configuration the run was started with.

        Raises:
            JobError: There is no run in the folder.
        """
        file = self.path / "config.toml"
        if not file.exists():
            raise JobError(
                f"Cannot resume '{self.path}': it holds no run (no config.toml). Pass the run's folder."
            )
        return TrainConfig.from_dict(read_toml(file), f"'{file}'")

    def lock(self) -> None:
        """Keep other processes out of the run until this one ends.

        Raises:
            JobError: Another process is at it.
        """
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise JobError(
                f"Cannot train in '{self.path}': another process is at it. Wait, or pass another --run."
            ) from error

    def close(self) -> None:
        """Let other processes use the run."""
        self._lock.release()

    def save_last(self, state: Mapping[str, Any]) -> None:
        """Replace last.pt as a whole: it is the old one or the new one, never half of one.

        Raises:
            JobError: It cannot be written; the old one is still there.
        """
        self.write_whole(self.last, lambda file: torch.save(dict(state), file))

    def load_last(self) -> dict[str, Any] | None:
        """What save_last wrote; None if nothing was saved yet.

        Raises:
            CheckpointError: The file is damaged.
        """
        if not self.last.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self.last, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises half a dozen kinds for damaged files
            raise CheckpointError(
                f"Cannot resume from '{self.last}': it is damaged ({type(error).__name__}). "
                "Remove it to start the run over, or go on from best.safetensors with --init."
            ) from error
        return state

    def write_whole(self, target: Path, write: Callable[[IO[bytes]], Any]) -> None:
        """Write a file beside its target and move it into place once it is complete.

        Raises:
            JobError: The disk is full or the folder cannot be written; the target is untouched.
        """
        try:
            with whole_file(target, sync=True) as file:
                write(file)
        except (OSError, RuntimeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            kept = " The one written before is kept." if target.exists() else ""
            raise JobError(
                f"Cannot write '{target}': {reason}.{kept} Free some space on its disk."
            ) from error

    def read_log(self) -> list[LoggedStep]:
        """The steps of log.csv in order; a last line that was cut off in mid-write is left out."""
        file = self.path / "log.csv"
        if not file.exists():
            return []
        rows = []
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                try:
                    rows.append(LoggedStep(int(row["step"]), *(float(row[name]) for name in LOG_COLUMNS[1:])))
                except (TypeError, ValueError, KeyError):
                    break
        return rows

    def open_log(self, known: list[LoggedStep]) -> StepLog:
        """Go on with log.csv after the steps that it is known to hold."""
        return StepLog(self.path / "log.csv", known)

    def add_metrics(self, step: int, values: Mapping[str, float]) -> None:
        """A line of metrics.csv, replacing one of the same step."""
        file = self.path / "metrics.csv"
        rows: list[dict[str, Any]] = []
        if file.exists():
            with file.open(newline="") as lines:
                rows = [row for row in csv.DictReader(lines) if row.get("step", "").isdigit()]
        rows = [row for row in rows if int(row["step"]) < step]
        rows.append({"step": step, **{name: repr(value) for name, value in values.items()}})
        columns = list(dict.fromkeys(name for row in rows for name in row))

        def write(binary: IO[bytes]) -> None:
            lines = [",".join(columns), *(",".join(str(row.get(c, "")) for c in columns) for row in rows)]
            binary.write(("\n".join(lines) + "\n").encode())

        self.write_whole(file, write)


class StepLog:
    """log.csv, appended to line by line; steps it holds already are not written again."""

    def __init__(self, path: Path, known: list[LoggedStep]) -> None:
        self._next = known[-1].step + 1 if known else 0
        lines = [",".join(LOG_COLUMNS), *(_line(row) for row in known)]
        self._file = path.open("w", encoding="utf-8")
        self._file.write("\n".join(lines) + "\n")
        self._file.flush()

    def add(self, row: LoggedStep) -> None:
        """Write one step, at once.

        Raises:
            JobError: It cannot be written.
        """
        if row.step < self._next:
            return
        try:
            self._file.write(_line(row) + "\n")
            self._file.flush()
        except OSError as error:
            raise JobError(f"Cannot write '{self._file.name}': {error.strerror or error}.") from error

    def close(self) -> None:
        with suppress(OSError):  # the line that did not fit was reported when it was written
            self._file.close()


def _line(row: LoggedStep) -> str:
    return ",".join(repr(getattr(row, name)) for name in LOG_COLUMNS)
