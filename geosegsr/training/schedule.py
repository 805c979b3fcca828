"""How much of a run is over, and the learning rate at that point."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

from geosegsr.training.config import OptimiserConfig, ScheduleConfig
from geosegsr.training.run_folder import LoggedStep


def learning_rate(share: float, optimiser: OptimiserConfig, schedule: ScheduleConfig) -> float:
    """The learning rate at a share of the run.

    Args:
        share: Share of the run before the step, 0 to 1.
        optimiser: Holds the highest learning rate.
        schedule: Holds warm-up and shape.
    """
    top = optimiser.learning_rate
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
        return elapsed, elapsed / (60 * self.schedule.minutes)
