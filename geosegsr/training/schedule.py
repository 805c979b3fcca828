"""How far a run has come, and the learning rate that belongs to it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

from geosegsr.training.config import OptimiserConfig, ScheduleConfig
from geosegsr.training.run_folder import LoggedStep


def learning_rate(share: float, optimiser: OptimiserConfig, schedule: ScheduleConfig) -> float:
    """The learning rate at a share of the run.

    Args:
        share: From 0 to 1.
        optimiser: Holds the highest learning rate.
        schedule: Holds warm-up and shape.
    """
    top = optimiser.learning_rate
    if share < schedule.warmup:
        # Never quite 0, so that the first step is one.
        return top * max(share / schedule.warmup, 1e-3)
    if schedule.shape == "constant":
        return top
    if schedule.shape == "steps":
        return float(top * 0.5 ** sum(share >= milestone for milestone in schedule.milestones))
    along = (share - schedule.warmup) / (1 - schedule.warmup)
    return top * (schedule.floor + (1 - schedule.floor) * 0.5 * (1 + math.cos(math.pi * min(along, 1.0))))


class Clock:
    """The share of a run that is over.

    By steps it is a plain quotient. By minutes it follows the clock, but a step that was logged before keeps
    the share it was logged with: a run that is killed and resumed repeats the steps after its last
    checkpoint with the learning rates they had.
    """

    def __init__(self, schedule: ScheduleConfig, logged: Sequence[LoggedStep], elapsed: float) -> None:
        self.schedule = schedule
        self._logged: Mapping[int, LoggedStep] = {row.step: row for row in logged}
        self._before = elapsed
        self._started = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds of the run so far, breaks left out."""
        return self._before + time.monotonic() - self._started

    def at(self, step: int) -> tuple[float, float]:
        """(seconds, share) of the run before a step; a share of 1 or more means that it is over."""
        row = self._logged.get(step)
        if row is not None:
            self._before, self._started = row.elapsed_s, time.monotonic()
            return row.elapsed_s, row.share
        elapsed = self.elapsed
        if self.schedule.minutes is None:
            return elapsed, step / self.schedule.steps
        return elapsed, elapsed / (60 * self.schedule.minutes)
