"""The training loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVarTuple

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import ProjectConfiguration, broadcast_object_list

from geosegsr.errors import Cancelled, CheckpointError, ConfigError
from geosegsr.models.device import choose_device, choose_precision
from geosegsr.models.threads import arithmetic_threads, idle_threads
from geosegsr.training.batches import Batch, Batches
from geosegsr.training.config import RANDOM, TrainConfig
from geosegsr.training.dataset import Dataset, as_found, prepare_data
from geosegsr.training.events import Event, Noted, Reporter, Started, Stepped
from geosegsr.training.learner import Learner
from geosegsr.training.overview import overview, sensor_text, write_pictures
from geosegsr.training.run_folder import LoggedStep, RunFolder
from geosegsr.training.schedule import Clock, Timetable, learning_rate
from geosegsr.training.selection import Selection
from geosegsr.training.stop import stop_requests
from geosegsr.training.trackers import Trackers, check_trackers
from geosegsr.training.validation import Score
from geosegsr.training.wise import VALIDATIONS

Values = TypeVarTuple("Values")

_TRACKED_EVERY = 50  # steps
_BUNDLED_AT_THE_END = 4
"""What scoring the bundled model takes, in validations: it is larger than most, and is told of the sensor or not."""


@dataclass(frozen=True)
class TrainResult:
    """A finished run."""

    model: Path
    """The checkpoint to pass to upscale."""
    steps: int
    """Steps that were made."""
    score: Score | None
    """Score of that checkpoint; None without validation."""
    baseline: Score | None
    """Score of bicubic interpolation on the same tiles."""
    start: Score | None
    """Score of the weights that the run started from, on the same tiles."""
    bundled: Score | None
    """Score of the bundled model, told how lr was made, on the same tiles."""
    data_wait: float
    """Share of the time in steps that was spent waiting for patches, 0 to 1."""

    @property
    def falls_short_of(self) -> str | None:
        """What the model is not better than, in words: bicubic, its start, the bundled model. None if nothing, or unknown."""
        if self.score is None or self.baseline is None:
            return None
        return self.score.falls_short_of(self.baseline, self.start, self.bundled)


def train(
    config: TrainConfig,
    folder: str | Path,
    *,
    resume: bool = False,
    on_event: Callable[[Event], None] | None = None,
    now: Callable[[], float] = time.monotonic,
) -> TrainResult:
    """Train a network, or resume an interrupted run.

    Args:
        config: The whole run; RunFolder.read_config returns that of a run to resume.
        folder: Folder of the run.
        resume: Continue from the folder's last checkpoint.
        on_event: Called with what happens, in the main process.
        now: Seconds since any fixed moment; runs of a number of minutes go by it.

    Raises:
        GeoSegSRError: Bad data or configuration, a damaged checkpoint, or a loss that is not finite.
        Cancelled: The run was interrupted; it is saved and can be resumed.
    """
    check_trackers(config.trackers)
    run = RunFolder(folder)
    with _accelerator(config, run) as accelerator, ExitStack() as stack:
        main = accelerator.is_main_process
        data = prepare_data(config)  # before anything is written
        config = replace(as_found(config, data), threads=config.threads or idle_threads())
        if main:
            if not resume:
                run.create(config)
                write_pictures(data, run.path / "pictures")
                run.write_sensor(sensor_text(data))
            run.lock()
            stack.callback(run.close)
        accelerator.wait_for_everyone()
        trackers = Trackers(accelerator, run.path, config.to_dict())
        stack.callback(trackers.close)
        stack.enter_context(arithmetic_threads(config.threads))
        reporter = Reporter(on_event if main else None)
        learner = Learner(config, len(data.network_bands), accelerator, data.network_bands, data.patches)
        selection = Selection(config, data, run, reporter, trackers, accelerator)
        loop = _Loop(learner, selection, run, reporter, trackers, now)
        if resume:
            loop.restore()
        return loop.run(data)


class _Loop:
    """The state of a run between two steps; `run` is the loop."""

    def __init__(
        self,
        learner: Learner,
        selection: Selection,
        folder: RunFolder,
        reporter: Reporter,
        trackers: Trackers,
        now: Callable[[], float],
    ) -> None:
        self.learner, self.selection, self.folder = learner, selection, folder
        self.reporter, self.trackers = reporter, trackers
        self.config, self.accelerator = learner.config, learner.accelerator
        self.step = self.first = 0
        self.logged: list[LoggedStep] = []
        self.now = now
        self.clock = Clock(self.config.schedule, self.logged, 0.0, now)
        self.timetable = Timetable(self.config.validation, self.config.schedule)
        self.validation_s = 0.0
        self.before: float | None = None  # share of the run before the last step
        self.validated_now = False  # whether the weights of this step are validated
        self.waited = self.busy = (
            0.0  # seconds since the loop began: waiting for patches, and in steps at all
        )

    def run(self, data: Dataset) -> TrainResult:
        """Make all steps that are left."""
        self.reporter.tell(self._started(data))
        with ExitStack() as stack:
            stop = stack.enter_context(stop_requests())
            batches = self._batches(data)
            stack.callback(batches.close)
            stream = iter(batches)
            log = self.folder.open_log(self.logged) if self.accelerator.is_main_process else None
            if log is not None:
                stack.callback(log.close)
            while True:
                elapsed, share, stopped = self._agree(*self.clock.at(self.step), stop.is_set())
                if stopped:
                    self._save()
                    raise Cancelled(
                        f"Stopped after {self.step} steps. Resume with --resume {self.folder.path}."
                    )
                if share >= 1:
                    return self._finish(share)
                self._validate_where_due(share)
                if self._nothing_gained():
                    return self._finish(share)
                made = self._one_step(stream, elapsed, share)
                if log is not None:
                    with self.reporter.going_on():
                        log.add(made)
                self._after(made)

    def _one_step(self, batches: Iterator[Batch], elapsed: float, share: float) -> LoggedStep:
        began = time.perf_counter()
        rate = learning_rate(share, self.step, self.config.optimiser, self.config.schedule)
        loss, waited = self.learner.step(self.step, batches, rate)
        self.busy += time.perf_counter() - began
        self.waited += waited
        self.step += 1
        self.before = share
        return LoggedStep(self.step - 1, elapsed, share, rate, loss, waited)

    def _after(self, made: LoggedStep) -> None:
        """Report a step; save where that is due."""
        per_s = (self.step - self.first) / max(self.busy, 1e-9)
        plan = self.config.schedule
        rest = (
            (plan.steps - self.step) / per_s if plan.minutes is None else 60 * plan.minutes * (1 - made.share)
        )
        self.reporter.tell(
            Stepped(
                self.step, made.share, made.loss, made.learning_rate, per_s, self._data_wait, max(rest, 0.0)
            )
        )
        if self.step % _TRACKED_EVERY == 0 and self.accelerator.is_main_process:
            numbers = {
                "train/loss": made.loss,
                "train/learning_rate": made.learning_rate,
                "train/data_wait": self._data_wait,
            }
            with self.reporter.going_on():
                self.trackers.log(self.step, numbers)
        if self.step % self.config.checkpoint_every == 0:
            self._save_or_go_on()

    def _nothing_gained(self) -> bool:
        """Whether the validations of late say that the run may end; asked once for each validation."""
        if not self.validated_now or self.step == 0:
            return False
        (over,) = self._agree(self.selection.exhausted)
        if over:
            patience = self.config.validation.patience
            text = f"The run ends after {self.step} steps: the last {patience} validations gained nothing."
            self.reporter.tell(Noted(f"{text} With --set validation.patience=0 it goes on to its end."))
        return over

    def _validate_where_due(self, share: float) -> None:
        self.validated_now = self.timetable.due(self.step, share, self.before)
        if not self.validated_now:
            return
        began = self.now()
        self.selection.validate(self.step, self.learner.averaged)
        if self.step == 0:
            self._plan_validations(self.now() - began)

    def _plan_validations(self, cost: float) -> None:
        """Fit the validations, which take `cost` seconds each, and the bundled model on the same tiles into a run of minutes."""
        self.validation_s = cost
        plan = self.config.validation
        nearer = 0 if self.config.model.init == RANDOM else VALIDATIONS
        self.clock.reserve = cost * (1 + nearer + (_BUNDLED_AT_THE_END if plan.bundled else 0))
        self.timetable = Timetable(self.config.validation, self.config.schedule, cost)

    @property
    def _data_wait(self) -> float:
        """Share of the time in steps that was spent waiting for patches."""
        return self.waited / max(self.busy, 1e-9)

    def _finish(self, share: float) -> TrainResult:
        """Save for resuming, validate the end of a whole run, and write the model."""
        self._save_or_go_on()
        if share >= 1:
            self._validate_where_due(share)
        bundled = self.selection.score_bundled()
        score = self.selection.best
        if self.accelerator.is_main_process:
            score = self.selection.write_model(self.learner.averaged, bundled)
            self.selection.finish_report(bundled, score)
        return TrainResult(
            model=self.folder.model,
            steps=self.step,
            score=score,
            baseline=self.selection.baseline,
            start=self.selection.start,
            bundled=bundled,
            data_wait=self._data_wait,
        )

    def _save(self) -> None:
        """Write last.pt, all that is needed to resume.

        Raises:
            JobError: It cannot be written; the one written before is kept.
        """
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process:
            return
        self.folder.save_last(
            {
                "step": self.step,
                "elapsed_s": self.clock.elapsed,
                **self.learner.state(),
                **self.selection.state(),
                "validation_s": self.validation_s,
                "processes": self.accelerator.num_processes,
            }
        )

    def _save_or_go_on(self) -> None:
        with self.reporter.going_on():
            self._save()

    def restore(self) -> None:
        """Continue from last.pt, or from the first step where there is none.

        Raises:
            CheckpointError: The file is damaged, or belongs to another configuration.
            ConfigError: The run had another number of processes.
        """
        self.logged = self.folder.read_log()
        state = self.folder.load_last()
        elapsed = 0.0
        if state is not None:
            if state["processes"] != self.accelerator.num_processes:
                raise ConfigError(
                    f"Cannot resume '{self.folder.path}' with {self.accelerator.num_processes} processes: "
                    f"another number would see other patches. Use {state['processes']}, as the run did."
                )
            try:
                self.learner.restore(state)
            except (RuntimeError, ValueError, KeyError) as error:
                raise CheckpointError(
                    f"Cannot resume from '{self.folder.last}': it does not fit the run's config.toml "
                    f"({str(error).splitlines()[0]})."
                ) from error
            self.selection.restore(state)
            self.step, elapsed = state["step"], state["elapsed_s"]
        self.first = self.step
        self.clock = Clock(self.config.schedule, self.logged, elapsed, self.now)
        self.before = next((row.share for row in self.logged if row.step == self.step - 1), None)
        if state is not None:
            self._plan_validations(state.get("validation_s", 0.0))

    def _agree(self, *values: *Values) -> tuple[*Values]:
        """What the main process says of clock, stop requests and validations, for all processes."""
        if self.accelerator.num_processes == 1:
            return values
        said: list[Any] = [values]
        broadcast_object_list(said)
        agreed: tuple[*Values] = said[0]
        return agreed

    def _batches(self, data: Dataset) -> Batches:
        steps = self.config.optimiser
        return Batches(
            data.patches,
            steps.batch,
            first=self.step * steps.accumulate,
            process=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
            workers=self.config.data.workers,
        )

    def _started(self, data: Dataset) -> Started:
        return Started(
            notes=overview(self.config, data),
            device=str(self.accelerator.device),
            precision=_PRECISION_NAMES[self.accelerator.mixed_precision],
            processes=self.accelerator.num_processes,
            parameters=self.learner.parameters,
            first_step=self.step,
            baseline=self.selection.baseline,
        )


_PRECISION_NAMES = {"no": "fp32", "bf16": "bf16", "fp16": "fp16"}


@contextmanager
def _accelerator(config: TrainConfig, run: RunFolder) -> Iterator[Accelerator]:
    """The processes of this run, and their group, unless the caller made it."""
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    AcceleratorState._reset_state()  # a second run in this process may need another precision
    borrowed = torch.distributed.is_available() and torch.distributed.is_initialized()
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="no" if precision == "fp32" else precision,
        gradient_accumulation_steps=config.optimiser.accumulate,
        log_with=list(config.trackers) or None,
        project_config=ProjectConfiguration(logging_dir=str(run.path / "events")),
    )
    try:
        yield accelerator
    finally:
        if not borrowed:
            accelerator.end_training()  # a process that leaves its group standing may abort while it exits
