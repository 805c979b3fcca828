"""How much of a run is over, the learning rate at that point, and when the run is validated."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence

from geosegsr.training.config import OptimiserConfig, ScheduleConfig, ValidationConfig
from geosegsr.training.run_folder import LoggedStep

_STEPS_APART = 50
"""Fewest steps between two validations, in runs long enough for five of them."""
_EARLY_STEPS, _EARLY_MINUTES = 100, 1.0
"""The first validation after that of the start comes no later than this."""
_FEWEST = 5  # validations after that of the start
_MOST_OF_THE_TIME = 0.2  # of a run of minutes, for validation


def learning_rate(share: float, step: int, optimiser: OptimiserConfig, schedule: ScheduleConfig) -> float:
    """The learning rate of a step.

    Args:
        share: Share of the run before the step, 0 to 1.
        step: Number of steps before it.
        optimiser: Holds the highest learning rate.
        schedule: Holds warm-up and shape.
    """
    top = optimiser.learning_rate * min(1.0, (step + 1) / max(schedule.warmup_steps, 1))
    if share < schedule.warmup:
        # Above 0, so that the first step changes the weights.
        return top * max(share / schedule.warmup, 1e-3)
    if schedule.shape == "constant":
        return top
    if schedule.shape == "steps":
        return float(top * 0.5 ** sum(share >= milestone for milestone in schedule.milestones))
    along = (share - schedule.warmup) / (1 - schedule.warmup)
    return top * (schedule.floor + (1 - schedule.floor) * 0.5 * (1 + math.cos(math.pi * min(along, 1.0))))


class Clock:
    """How much of a run is over.

    The share is the quotient of steps, or of minutes where the schedule has them. A step that was logged before
    keeps its logged share: an interrupted run that is resumed repeats the steps after its last checkpoint with
    the same learning rates.
    """

    def __init__(
        self,
        schedule: ScheduleConfig,
        logged: Sequence[LoggedStep],
        elapsed: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the clock.

        Args:
            schedule: Holds the length of the run.
            logged: Steps made before the run was interrupted.
            elapsed: Seconds of the run so far, breaks excluded.
            now: Seconds since any fixed moment.
        """
        self.schedule = schedule
        self.reserve = 0.0
        """Seconds that a run of `minutes` keeps for its last validation; at most half of them count."""
        self._logged: Mapping[int, LoggedStep] = {row.step: row for row in logged}
        self._before = elapsed
        self._now = now
        self._started = now()

    @property
    def elapsed(self) -> float:
        """Seconds of the run so far, breaks excluded."""
        return self._before + self._now() - self._started

    def at(self, step: int) -> tuple[float, float]:
        """Seconds and share of the run before a step; a share of 1 or more means that the run is over."""
        row = self._logged.get(step)
        if row is not None:
            self._before, self._started = row.elapsed_s, self._now()
            return row.elapsed_s, row.share
        elapsed = self.elapsed
        if self.schedule.minutes is None:
            return elapsed, step / self.schedule.steps
        whole = 60 * self.schedule.minutes
        return elapsed, elapsed / (whole - min(self.reserve, whole / 2))


class Timetable:
    """When a run is validated: at its start, soon after it, and then at even shares of the run, the last at its end."""

    def __init__(self, validation: ValidationConfig, schedule: ScheduleConfig, cost: float = 0.0) -> None:
        """Plan the validations.

        Args:
            validation: Holds how many, or the steps between them.
            schedule: Holds the length of the run.
            cost: Seconds that one takes; 0 if unknown.
        """
        self._every = validation.every
        if schedule.minutes is None:
            most = schedule.steps // _STEPS_APART
            early = _EARLY_STEPS / schedule.steps
        else:
            seconds = _MOST_OF_THE_TIME * 60 * schedule.minutes
            most = int(min(seconds / cost, validation.times)) if cost else validation.times
            early = _EARLY_MINUTES / schedule.minutes
        count = max(_FEWEST, min(validation.times, most))
        even = [k / count for k in range(count + 1)]
        self._shares = sorted({*even, min(early, even[1])})

    def due(self, step: int, share: float, before: float | None) -> bool:
        """Whether to validate before a step.

        Args:
            step: Number of steps before it.
            share: Share of the run before it; 1 or more at the end.
            before: Share of the run before the step that precedes it; None at the start.
        """
        if self._every is not None:
            return step % self._every == 0 or share >= 1
        return before is None or bisect_right(self._shares, share) > bisect_right(self._shares, before)
