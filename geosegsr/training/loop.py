"""The training loop."""

from __future__ import annotations

import logging
import math
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from geosegsr.errors import Cancelled, CheckpointError, ConfigError, JobError
from geosegsr.imagery.pictures import contact_sheet, write_png
from geosegsr.models.inference import choose_device, choose_precision
from geosegsr.models.interpolation import repeat_pixels
from geosegsr.models.segsr.network import SeGSR
from geosegsr.models.threads import arithmetic_threads, idle_threads
from geosegsr.training.batches import Batch, Batches
from geosegsr.training.config import TrainConfig
from geosegsr.training.dataset import Dataset, prepare_data
from geosegsr.training.equivariance import Equivariance
from geosegsr.training.losses import Loss
from geosegsr.training.network import build_network, save_model
from geosegsr.training.optimisers import build_optimiser, set_rate
from geosegsr.training.run_folder import LoggedStep, RunFolder, StepLog
from geosegsr.training.schedule import Clock, learning_rate
from geosegsr.training.teacher import Teacher
from geosegsr.training.validation import Score, Validation, span_of

log = logging.getLogger("geosegsr")

_STEPS_OF_ROUNDING = 50
"""After so many steps, weights that shall be equivariant are made so again."""


@dataclass(frozen=True)
class Started:
    """The data is ready and the loop begins."""

    notes: tuple[str, ...]
    """What was found in the data."""
    device: str
    precision: str
    processes: int
    parameters: int
    """Numbers that are learnt."""
    first_step: int
    """0, or where a resumed run goes on."""
    baseline: Score | None
    """What bicubic scores."""


@dataclass(frozen=True)
class Stepped:
    """One step is done."""

    step: int
    """Steps so far, this one included."""
    share: float
    """Share of the run before it."""
    loss: float
    learning_rate: float
    steps_per_s: float
    """Since the loop began, validation left out."""
    data_wait: float
    """Share of the time in steps that was spent waiting for patches."""
    eta_s: float
    """Seconds that the rest will take."""


@dataclass(frozen=True)
class Validated:
    """The averaged weights were measured."""

    step: int
    score: Score
    baseline: Score
    is_best: bool


@dataclass(frozen=True)
class Noted:
    """Something a person should read."""

    text: str


Event: TypeAlias = Started | Stepped | Validated | Noted


@dataclass(frozen=True)
class TrainResult:
    """A finished run."""

    model: Path
    """The checkpoint to pass to upscale."""
    steps: int
    score: Score | None
    """Of that checkpoint."""
    baseline: Score | None
    """What bicubic scores on the same tiles."""
    data_wait: float
    """Share of the time in steps that was spent waiting for patches."""


def train(
    config: TrainConfig,
    folder: str | Path,
    *,
    resume: bool = False,
    on_event: Callable[[Event], None] | None = None,
) -> TrainResult:
    """Train a network, or go on with a run that was interrupted.

    Args:
        config: The whole run; use RunFolder.read_config to go on with one.
        folder: Where it is kept.
        resume: Go on from the folder's last checkpoint.
        on_event: Called with what happens, in the main process.

    Raises:
        GeoSegSRError: Bad data or configuration, a damaged checkpoint, or a loss that is not finite.
        Cancelled: The run was interrupted; it is saved and can be resumed.
    """
    with _accelerator(config) as accelerator:
        return _train(config, RunFolder(folder), accelerator, resume, on_event)


def _train(
    config: TrainConfig,
    run: RunFolder,
    accelerator: Accelerator,
    resume: bool,
    on_event: Callable[[Event], None] | None,
) -> TrainResult:
    main = accelerator.is_main_process
    tell = on_event if on_event is not None and main else _say_nothing
    data = prepare_data(config)  # before anything is written
    config = replace(config, threads=config.threads or idle_threads())
    if main:
        if not resume:
            run.create(config)
        run.lock()
    accelerator.wait_for_everyone()
    try:
        with arithmetic_threads(config.threads):
            return _Training(config, run, data, accelerator, tell, resume).run()
    finally:
        if main:
            run.close()


class _Training:
    """What the loop works with; `run` is the loop."""

    def __init__(
        self,
        config: TrainConfig,
        run: RunFolder,
        data: Dataset,
        accelerator: Accelerator,
        tell: Callable[[Event], None],
        resume: bool,
    ) -> None:
        self.config, self.folder, self.data, self.accelerator, self.tell = (
            config,
            run,
            data,
            accelerator,
            tell,
        )
        self.loss = Loss(config.loss)
        self.network = build_network(config, data.bands).to(accelerator.device)
        self.network.to(memory_format=torch.channels_last)
        self.averaged = _averaged(self.network, config.optimiser.ema).to(accelerator.device)
        self.model, self.optimiser = accelerator.prepare(
            self.network, build_optimiser(self.network, config.optimiser)
        )
        group = config.model.equivariance
        self.equivariance = None if group == "none" else Equivariance(self.network, group)
        self.teacher = (
            Teacher(config.teacher, config.model.scale, data.bands, accelerator.device)
            if config.teacher.model
            else None
        )
        self.validation = self._validation()
        self.best: Score | None = None
        self.step, elapsed = self._restore() if resume else (0, 0.0)
        self.first = self.step
        self.logged = run.read_log() if resume else []
        self.clock = Clock(config.schedule, self.logged, elapsed)
        self.waited = self.busy = 0.0
        self.reported: set[str] = set()

    def run(self) -> TrainResult:
        config, batches = self.config, self._batches()
        self.tell(self._started())
        steps = self.folder.open_log(self.logged) if self.accelerator.is_main_process else None
        with _stop_requests() as stop, _closing(batches, steps):
            stream = iter(batches)
            while True:
                elapsed, share, stopped = self._agree(*self.clock.at(self.step), stop.is_set())
                if stopped:
                    self._save_last()
                    raise Cancelled(
                        f"Stopped after {self.step} steps. Go on with --resume {self.folder.path}."
                    )
                if share >= 1:
                    return self._finish()
                began = time.perf_counter()
                rate = learning_rate(share, config.optimiser, config.schedule)
                loss, waited = self._one_step(stream, rate)
                self.busy += time.perf_counter() - began
                self.waited += waited
                if steps is not None:
                    with self._going_on():
                        steps.add(LoggedStep(self.step, elapsed, share, rate, loss, waited))
                self.step += 1
                self._report(share, loss, rate)
                if self.step % config.validation.every == 0:
                    self._validate()
                if self.step % config.checkpoint_every == 0:
                    self._save_last(or_go_on=True)

    def _one_step(self, stream: Iterator[Batch], rate: float) -> tuple[float, float]:
        """All batches of one step; the loss (mean over processes) and the seconds waited for patches."""
        set_rate(self.optimiser, rate)
        torch.manual_seed(_number(self.config.seed, self.step, self.accelerator.process_index))
        self.model.train()
        total, waited = 0.0, 0.0
        for _ in range(self.config.optimiser.accumulate):
            batch = next(stream)
            waited += batch.waited_s
            with self.accelerator.accumulate(self.model):
                lr, hr = self._on_device(batch.lr), self._on_device(batch.hr)
                if self.teacher is not None:
                    with self.accelerator.autocast():
                        hr = self.teacher.target(lr, hr)
                sr = self.model(lr)  # (N, C, sh, sw)
                loss = self.loss(sr.float(), hr)
                self._refuse_non_finite(loss, sr, batch)
                self.accelerator.backward(loss)
            mean: Tensor = self.accelerator.reduce(loss.detach(), "mean")
            total += float(mean) / self.config.optimiser.accumulate
        if not math.isfinite(total):
            raise JobError(f"Cannot go on: the loss of step {self.step} is {total} in another process.")
        if self.equivariance is not None:
            self.equivariance.project_gradients()
        if self.config.optimiser.clip_norm:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.optimiser.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if self.equivariance is not None and self.step % _STEPS_OF_ROUNDING == 0:
            self.equivariance.project_weights()
        self.averaged.update_parameters(self.network)
        return total, waited

    def _refuse_non_finite(self, loss: Tensor, sr: Tensor, batch: Batch) -> None:
        if bool(torch.isfinite(loss)):
            return
        bad = [
            origin
            for origin, lr, hr, out in zip(batch.origins, batch.lr, batch.hr, sr, strict=True)
            if not all(bool(torch.isfinite(t).all()) for t in (lr, hr, out))
        ]
        raise JobError(
            f"Cannot go on: the loss of step {self.step} is {float(loss.detach())}. Its patches came from "
            f"{'; '.join(bad or batch.origins)}. Look at these pixels (undeclared nodata?), or pass "
            f"a lower --learning-rate. '{self.folder.last}' holds the run as it was before."
        )

    def _validate(self) -> None:
        """Measure the averaged weights, draw their picture, keep them if they are the best."""
        if self.validation is None or not self.accelerator.is_main_process:
            return
        network = self._averaged_network()
        with self.accelerator.autocast():
            score, enlarged = self.validation.run(network, self.accelerator.device)
        is_best = self.best is None or score.main > self.best.main
        self.tell(Validated(self.step, score, self.validation.baseline, is_best))
        with self._going_on():
            self._record(score, enlarged)
        if is_best:
            with self._going_on():
                save_model(self.folder.best, network, self.config, self.data, self._metrics(score))
                self.best = score

    def _averaged_network(self) -> SeGSR:
        network = self.averaged.module.eval()
        assert isinstance(network, SeGSR)
        return network

    def _record(self, score: Score, enlarged: list[Any]) -> None:
        assert self.validation is not None
        baseline = self.validation.baseline
        values = {"psnr": score.psnr, "bicubic_psnr": baseline.psnr}
        if score.psnr_y is not None and baseline.psnr_y is not None:
            values |= {"psnr_y": score.psnr_y, "bicubic_psnr_y": baseline.psnr_y}
        self.folder.add_metrics(self.step, values)
        picture = self._picture(enlarged)
        write_png(self.folder.path / "pictures" / f"step_{self.step:07d}.png", picture)
        self.folder.show(self.step, {f"validation/{name}": value for name, value in values.items()}, picture)

    def _picture(self, enlarged: list[Any]) -> Any:
        assert self.validation is not None
        tiles = self.validation.tiles
        chosen = (
            np.linspace(0, len(tiles) - 1, min(len(tiles), self.config.validation.pictures))
            .round()
            .astype(int)
        )
        scale = self.config.model.scale
        rows = [
            (
                repeat_pixels(tiles[i].lr, scale),
                self.validation.bicubic[i],
                enlarged[i],
                tiles[i].hr,
            )
            for i in chosen
        ]
        return contact_sheet(rows)

    def _finish(self) -> TrainResult:
        """Validate once more, save for resuming, and write the model: the best weights, or the last ones."""
        self._save_last(or_go_on=True)
        if self.step % self.config.validation.every:
            self._validate()
        if self.accelerator.is_main_process:
            if self.best is not None and self.folder.best.exists():
                content = self.folder.best.read_bytes()
                self.folder.write_whole(self.folder.model, lambda file: file.write(content))
            else:
                save_model(self.folder.model, self._averaged_network(), self.config, self.data, {})
        return TrainResult(
            model=self.folder.model,
            steps=self.step,
            score=self.best,
            baseline=self.validation.baseline if self.validation else None,
            data_wait=self.waited / max(self.busy, 1e-9),
        )

    def _save_last(self, *, or_go_on: bool = False) -> None:
        """Everything that is needed to go on; on a full disk the run goes on with the older checkpoint."""
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process:
            return
        scaler = self.accelerator.scaler
        state = {
            "step": self.step,
            "elapsed_s": self.clock.elapsed,
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "best": None if self.best is None else [self.best.psnr, self.best.psnr_y],
            "processes": self.accelerator.num_processes,
        }
        if not or_go_on:
            self.folder.save_last(state)
            return
        with self._going_on():
            self.folder.save_last(state)

    def _restore(self) -> tuple[int, float]:
        """Load the last checkpoint; (step, seconds of the run so far)."""
        state = self.folder.load_last()
        if state is None:
            return 0, 0.0
        if state["processes"] != self.accelerator.num_processes:
            raise ConfigError(
                f"Cannot resume '{self.folder.path}' with {self.accelerator.num_processes} processes: it was "
                f"trained with {state['processes']}, and other ones would see other patches. Use as many."
            )
        try:
            self.network.load_state_dict(state["network"])
            self.averaged.load_state_dict(state["averaged"])
            self.optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"Cannot resume from '{self.folder.last}': it does not fit the run's config.toml "
                f"({str(error).splitlines()[0]})."
            ) from error
        if state["scaler"] is not None and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.best = None if state["best"] is None else Score(*state["best"])
        return state["step"], state["elapsed_s"]

    def _agree(self, elapsed: float, share: float, stopped: bool) -> tuple[float, float, bool]:
        """The main process's clock and wish to stop, for all processes."""
        if self.accelerator.num_processes == 1:
            return elapsed, share, stopped
        said: list[Any] = [(elapsed, share, stopped)]
        broadcast_object_list(said)
        agreed: tuple[float, float, bool] = said[0]
        return agreed

    def _batches(self) -> Batches:
        steps = self.config.optimiser
        return Batches(
            self.data.patches,
            steps.batch,
            first=self.step * steps.accumulate,
            process=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
            workers=self.config.data.workers,
        )

    def _validation(self) -> Validation | None:
        if not self.data.tiles or not self.accelerator.is_main_process:
            return None
        kind = self.data.policy["kind"]
        clip = kind == "dtype" or (kind == "auto" and self.data.dtype == "uint8")
        span = span_of(self.data.tiles, kind)
        return Validation(self.data.tiles, self.config.model.scale, clip=clip, data_range=span)

    def _metrics(self, score: Score) -> dict[str, Any]:
        assert self.validation is not None
        found: dict[str, Any] = {
            "psnr": score.psnr,
            "psnr_bicubic": self.validation.baseline.psnr,
            "steps": self.step,
        }
        if score.psnr_y is not None:
            found |= {"psnr_y": score.psnr_y, "psnr_y_bicubic": self.validation.baseline.psnr_y}
        return found

    def _on_device(self, images: Tensor) -> Tensor:
        return images.to(self.accelerator.device, non_blocking=True)

    def _started(self) -> Started:
        return Started(
            notes=self.data.notes,
            device=str(self.accelerator.device),
            precision=_PRECISION_NAMES[self.accelerator.mixed_precision],
            processes=self.accelerator.num_processes,
            parameters=sum(p.numel() for p in self.network.parameters() if p.requires_grad),
            first_step=self.step,
            baseline=self.validation.baseline if self.validation else None,
        )

    def _report(self, share: float, loss: float, rate: float) -> None:
        per_s = (self.step - self.first) / max(self.busy, 1e-9)
        plan = self.config.schedule
        rest = (plan.steps - self.step) / per_s if plan.minutes is None else 60 * plan.minutes * (1 - share)
        wait = self.waited / max(self.busy, 1e-9)
        self.tell(Stepped(self.step, share, loss, rate, per_s, wait, max(rest, 0.0)))
        if self.step % 50 == 0 and self.accelerator.is_main_process:
            numbers = {"train/loss": loss, "train/learning_rate": rate, "train/data_wait": wait}
            with self._going_on():
                self.folder.show(self.step, numbers)

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        """What cannot be written is reported, once a message, and does not end the run."""
        try:
            yield
        except (JobError, CheckpointError, OSError) as error:
            if str(error) not in self.reported:
                self.reported.add(str(error))
                self.tell(Noted(f"{error} The run goes on."))


_PRECISION_NAMES = {"no": "fp32", "bf16": "bf16", "fp16": "fp16"}


@contextmanager
def _accelerator(config: TrainConfig) -> Iterator[Accelerator]:
    """The processes of this run, and their group, unless the caller made it."""
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    AcceleratorState._reset_state()  # a second run in this process may want another precision
    borrowed = torch.distributed.is_available() and torch.distributed.is_initialized()
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="no" if precision == "fp32" else precision,
        gradient_accumulation_steps=config.optimiser.accumulate,
    )
    try:
        yield accelerator
    finally:
        if not borrowed:
            accelerator.end_training()  # a process that leaves its group standing may abort while it exits


def _averaged(network: torch.nn.Module, memory: float) -> AveragedModel:
    """Weights averaged over steps; memory grows with their number, so that a short run forgets its start."""

    def update(averages: Any, weights: Any, steps: Any) -> None:
        n = int(steps)
        keep = min(memory, (1 + n) / (10 + n))
        torch._foreach_lerp_(list(averages), list(weights), 1 - keep)

    return AveragedModel(network, multi_avg_fn=update)


def _number(*parts: int) -> int:
    """A seed that differs wherever a part does."""
    return random.Random(repr(parts)).getrandbits(62)


@contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM ask for a stop between two steps; a second Ctrl-C stops at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(signum: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _closing(batches: Batches, steps: StepLog | None) -> Iterator[None]:
    try:
        yield
    finally:
        batches.close()
        if steps is not None:
            steps.close()


def _say_nothing(event: Event) -> None:
    pass
