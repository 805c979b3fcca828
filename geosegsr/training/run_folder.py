"""The files of a run.

RUN/config.toml          the resolved configuration
RUN/sensor.toml          how lr is made, or was in real pairs; for --degradation
RUN/log.csv              one line per step: loss, learning rate, share of the run, seconds, data wait
RUN/metrics.csv          one line per validation
RUN/pictures/            lr, bicubic, sr, hr of some tiles, at each validation
RUN/report.html          what the run has come to, written anew after each validation
RUN/curves.png           scores and losses
RUN/events/              for TensorBoard, where it is one of the trackers
RUN/last.pt              all that is needed to resume
RUN/best.safetensors     the EMA weights that validated best, with their card
RUN/model.safetensors    the finished model, written at the end of the run
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
    """One line of log.csv, for one step."""

    step: int
    """Number of steps before this one."""
    elapsed_s: float
    """Seconds of the run before this step, breaks excluded."""
    share: float
    """Share of the run before this step, 0 to 1."""
    learning_rate: float
    """Learning rate of this step."""
    loss: float
    """Mean over all processes."""
    data_wait_s: float
    """Seconds spent waiting for patches."""


class RunFolder:
    """The folder of one run."""

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
        """Create the folder, with config.toml.

        Raises:
            JobError: The folder is not empty, or cannot be written.
        """
        try:
            if self.path.exists() and any(not _is_lock(entry) for entry in self.path.iterdir()):
                raise self._not_empty()
            self.path.mkdir(parents=True, exist_ok=True)
            with (self.path / "config.toml").open("x", encoding="utf-8") as file:
                file.write(tomlkit.dumps(config.to_dict()))
            (self.path / "pictures").mkdir(exist_ok=True)
        except FileExistsError as error:  # another run has just begun there
            raise self._not_empty() from error
        except OSError as error:
            raise JobError(f"Cannot start a run in '{self.path}': {error.strerror or error}.") from error

    def write_sensor(self, text: str | None) -> None:
        """Write sensor.toml; nothing where there is no text.

        Raises:
            JobError: It cannot be written.
        """
        if text is not None:
            self.write_whole(self.path / "sensor.toml", lambda file: file.write(text.encode()))

    def _not_empty(self) -> JobError:
        return JobError(
            f"Cannot start a run in '{self.path}': the folder is not empty. "
            f"Pass --resume {self.path} to resume its run, or another --run."
        )

    def read_config(self) -> TrainConfig:
        """The configuration of the run, from config.toml.

        Raises:
            JobError: The folder holds no run.
        """
        file = self.path / "config.toml"
        if not file.exists():
            raise JobError(
                f"Cannot resume '{self.path}': it holds no run (no config.toml). Pass the folder of a run."
            )
        return TrainConfig.from_dict(read_toml(file), f"'{file}'")

    def lock(self) -> None:
        """Lock the folder until `close`.

        Raises:
            JobError: Another process has locked it.
        """
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise JobError(
                f"Cannot train in '{self.path}': another process trains there. Wait, or pass another --run."
            ) from error

    def close(self) -> None:
        """Unlock the folder."""
        self._lock.release()

    def save_last(self, state: Mapping[str, Any]) -> None:
        """Replace last.pt, atomically.

        Raises:
            JobError: It cannot be written; the previous file is unchanged.
        """
        self.write_whole(self.last, lambda file: torch.save(dict(state), file))

    def load_last(self) -> dict[str, Any] | None:
        """The state that save_last wrote; None before the first checkpoint.

        Raises:
            CheckpointError: The file is damaged.
        """
        if not self.last.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self.last, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many types for damaged files
            raise CheckpointError(
                f"Cannot resume from '{self.last}': it is damaged ({type(error).__name__}). "
                "Remove it to restart the run, or start another run from best.safetensors with --init."
            ) from error
        return state

    def write_whole(self, target: Path, write: Callable[[IO[bytes]], Any]) -> None:
        """Write a file completely or not at all.

        Raises:
            JobError: The disk is full or the folder cannot be written; the target is untouched.
        """
        try:
            with whole_file(target, sync=True) as file:
                write(file)
        except (OSError, RuntimeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            kept = " The previous file is kept." if target.exists() else ""
            raise JobError(
                f"Cannot write '{target}': {reason}.{kept} Free some space on its disk."
            ) from error

    def read_log(self) -> list[LoggedStep]:
        """The steps of log.csv in order; an incomplete last line is ignored."""
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
        """Open log.csv to append after the `known` steps; later lines are dropped."""
        return StepLog(self.path / "log.csv", known)

    def add_metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Add a line to metrics.csv, in place of lines of this and later steps."""
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
    """Appends lines to log.csv; steps that it holds already are skipped."""

    def __init__(self, path: Path, known: list[LoggedStep]) -> None:
        self._next = known[-1].step + 1 if known else 0
        lines = [",".join(LOG_COLUMNS), *(_line(row) for row in known)]
        self._file = path.open("w", encoding="utf-8")
        self._file.write("\n".join(lines) + "\n")
        self._file.flush()

    def add(self, row: LoggedStep) -> None:
        """Append one step and flush.

        Raises:
            JobError: The line cannot be written.
        """
        if row.step < self._next:
            return
        try:
            self._file.write(_line(row) + "\n")
            self._file.flush()
        except OSError as error:
            raise JobError(f"Cannot write '{self._file.name}': {error.strerror or error}.") from error

    def close(self) -> None:
        with suppress(OSError):  # a line that did not fit was reported when it was written
            self._file.close()


def _is_lock(entry: Path) -> bool:
    """Whether a file is what `lock` leaves; it is empty."""
    return entry.name == ".lock" and entry.is_file() and entry.stat().st_size == 0


def _line(row: LoggedStep) -> str:
    return ",".join(repr(getattr(row, name)) for name in LOG_COLUMNS)
