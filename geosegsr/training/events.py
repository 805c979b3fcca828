"""What a run tells whoever started it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from geosegsr.errors import CheckpointError, JobError
from geosegsr.training.validation import Score


@dataclass(frozen=True)
class Started:
    """The data is ready and the loop begins."""

    notes: tuple[str, ...]
    """What was found in the data."""
    device: str
    """"cpu" or "cuda:N"."""
    precision: str
    """"fp32", "bf16" or "fp16"."""
    processes: int
    """Processes that train together."""
    parameters: int
    """Number of trainable parameters."""
    first_step: int
    """0, or the step at which a resumed run continues."""
    baseline: Score | None
    """Score of bicubic interpolation; None without validation."""


@dataclass(frozen=True)
class Stepped:
    """One step is done."""

    step: int
    """Steps so far, including this one."""
    share: float
    """Share of the run before this step, 0 to 1."""
    loss: float
    """Mean over all processes."""
    learning_rate: float
    """Learning rate of this step."""
    steps_per_s: float
    """Steps per second since the loop began, validation excluded."""
    data_wait: float
    """Share of the time in steps that was spent waiting for patches, 0 to 1."""
    eta_s: float
    """Seconds that the rest of the run will take."""


@dataclass(frozen=True)
class Validated:
    """The EMA weights were validated."""

    step: int
    """Steps so far."""
    score: Score
    """Score of the EMA weights."""
    baseline: Score
    """Score of bicubic interpolation on the same tiles."""
    start: Score | None
    """Score of the weights that the run started from; None if unknown."""
    is_best: bool
    """Whether no earlier score is as high."""


@dataclass(frozen=True)
class Noted:
    """Something a person should read."""

    text: str


Event: TypeAlias = Started | Stepped | Validated | Noted


class Reporter:
    """Passes events on, and lets a run continue where a file cannot be written."""

    def __init__(self, on_event: Callable[[Event], None] | None) -> None:
        self._on_event = on_event
        self._noted: set[str] = set()

    def tell(self, event: Event) -> None:
        """Pass an event on."""
        if self._on_event is not None:
            self._on_event(event)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Report what could not be written, each message once, and continue."""
        try:
            yield
        except (JobError, CheckpointError, OSError) as error:
            if str(error) not in self._noted:
                self._noted.add(str(error))
                self.tell(Noted(f"{error} The run continues."))
