"""Model selection: the EMA weights are validated again and again, and the best are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from geosegsr.imagery.pictures import contact_sheet, write_png
from geosegsr.imagery.sources import Floats
from geosegsr.models.checkpoint import read_card
from geosegsr.models.interpolation import repeat_pixels
from geosegsr.training.config import RANDOM, TrainConfig
from geosegsr.training.dataset import Dataset
from geosegsr.training.events import Noted, Reporter, Validated
from geosegsr.training.memory import Memory
from geosegsr.training.network import Network, build_network, load_network, save_model, save_network
from geosegsr.training.overview import overview, sensor_text
from geosegsr.training.report import Overview, write_report
from geosegsr.training.rivals import score_of_bundled
from geosegsr.training.run_folder import RunFolder
from geosegsr.training.trackers import Trackers
from geosegsr.training.validation import Score, Validation, span_of
from geosegsr.training.wise import Between, farthest_that_remembers, interpolated

_GAIN = 0.01
"""Smallest rise of a score that counts as a gain, in dB."""
_KEPT = 0.25
"""Share of the gain of the best weights that weights nearer to the start must keep, counted from the strongest that was beaten."""


class Selection:
    """Validates the EMA weights of a run in its main process, and keeps the best of them in its folder."""

    def __init__(
        self,
        config: TrainConfig,
        data: Dataset,
        folder: RunFolder,
        reporter: Reporter,
        trackers: Trackers,
        accelerator: Accelerator,
    ) -> None:
        self._config, self._data, self._folder = config, data, folder
        self._reporter, self._trackers, self._accelerator = reporter, trackers, accelerator
        self._validation = _validation(config, data) if accelerator.is_main_process else None
        self.best: Score | None = None
        """Score of the best weights so far; None where nothing was validated."""
        self.start: Score | None = None
        """Score of the weights that the run started from; None where nothing was validated."""
        self._overview = Overview(overview(config, data), data.notices, sensor_text(data), data.band_keys)
        self._enlarged: Sequence[Floats] | None = None  # by the best weights of this process
        self._scores: dict[int, float] = {}  # by step, without that of the start
        self.between: Between | None = None
        """Weights nearer to the start that became the model; None if those with the best score did."""

    @property
    def baseline(self) -> Score | None:
        """Score of bicubic interpolation; None without validation."""
        return None if self._validation is None else self._validation.baseline

    def validate(self, step: int, network: Network) -> None:
        """Score the weights, record scores and a picture, and save the weights if they are the best so far."""
        validation = self._validation
        if validation is None:
            return
        with self._accelerator.autocast():
            score, enlarged = validation.run(network, self._accelerator.device)
        if step == 0:
            self.start = score
        else:
            self._scores[step] = score.main
        is_best = self.best is None or score.main > self.best.main
        self._reporter.tell(Validated(step, score, validation.baseline, self.start, is_best))
        values = _values(score, validation.baseline)
        with self._reporter.going_on():
            self._folder.add_metrics(step, values)
        picture = self._picture(validation, enlarged)
        with self._reporter.going_on():
            write_png(self._folder.path / "pictures" / f"step_{step:07d}.png", picture)
        with self._reporter.going_on():
            self._trackers.log(step, {f"validation/{name}": value for name, value in values.items()}, picture)
        if is_best:
            with self._reporter.going_on():
                metrics = _metrics(step, score, validation.baseline, self.start)
                behind = score.falls_short_of(validation.baseline, self.start)
                notes = f"Not better than {behind} on its validation images." if behind else ""
                save_model(self._folder.best, network, self._config, self._data, metrics, notes)
                self.best = score
        if is_best or self._enlarged is None:
            self._enlarged = enlarged
        self._report({}, f"The run goes on: {step} steps so far.", finished=False)

    def finish_report(self, bundled: Score | None, score: Score | None) -> None:
        """Write the report of a finished run.

        Args:
            bundled: Score of the bundled model, if it is known.
            score: Score of the run's model.
        """
        if score is None or self.baseline is None:
            return
        behind = score.falls_short_of(self.baseline, self.start, bundled)
        verdict = (
            f"The model is not better than {behind}."
            if behind
            else "The model is better than all that it was compared with."
        )
        self._report({"bundled model": bundled, "this model": score}, verdict, finished=True)

    def _report(self, more: Mapping[str, Score | None], verdict: str, *, finished: bool) -> None:
        if self._validation is None or self._enlarged is None:
            return
        best = "best trained weights" if finished else "best so far"
        scores = {"bicubic": self.baseline, "start of the run": self.start, best: self.best, **more}
        with self._reporter.going_on():
            write_report(
                self._folder,
                self._overview,
                self._validation,
                self._enlarged,
                scores,
                verdict,
                finished=finished,
            )

    @property
    def exhausted(self) -> bool:
        """Whether none of the last `validation.patience` validations gained anything over the one before them.

        The start does not count: after it a score may fall first.
        """
        patience = self._config.validation.patience
        recent = [self._scores[step] for step in sorted(self._scores)][-patience - 1 :]
        return 0 < patience < len(recent) and max(recent[1:]) < recent[0] + _GAIN

    def state(self) -> dict[str, Any]:
        """What a resumed run needs, for torch.save."""
        return {"best": _numbers(self.best), "start": _numbers(self.start), "scores": self._scores}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned; runs of older versions did not validate their start."""
        self.best, self.start = _score(state["best"]), _score(state.get("start"))
        self._scores = dict(state.get("scores", {}))

    def write_model(self, network: Network, bundled: Score | None = None) -> Score | None:
        """Write the model of the finished run.

        It has the best weights, or weights nearer to the start where the best ones have forgotten too much. Without
        validation it has those of `network`.

        Args:
            network: With the weights at the end of the run.
            bundled: Score of the bundled model, where it is known.

        Returns:
            The score of the model; None without validation.

        Raises:
            JobError: The file cannot be written.
            CheckpointError: The file cannot be written.
        """
        if self.best is None or not self._folder.best.exists():
            save_model(self._folder.model, network, self._config, self._data, {})
            return self.best
        with self._reporter.going_on():
            self.between = self._nearer_to_the_start(bundled)
        if self.between is None:
            content = self._folder.best.read_bytes()
            self._folder.write_whole(self._folder.model, lambda file: file.write(content))
            return self.best
        self._write_between(self.between)
        return self.between.score

    def _nearer_to_the_start(self, bundled: Score | None) -> Between | None:
        """Weights between start and best that have forgotten less, and keep a share of the gain over the strongest rival."""
        best, start, validation = self.best, self.start, self._validation
        if best is None or start is None or validation is None or self._config.model.init == RANDOM:
            return None
        if best.main <= start.main:
            return None
        device, data = self._accelerator.device, self._data
        rivals = [rival.main for rival in (validation.baseline, start, bundled) if rival is not None]
        strongest = max(rival for rival in rivals if rival < best.main)
        wanted = strongest + _KEPT * (best.main - strongest)

        bands = data.network_bands
        origin = build_network(self._config, len(bands), bands, data.patches).eval().to(device)
        with self._accelerator.autocast():
            return farthest_that_remembers(
                lambda share: interpolated(origin, load_network(self._folder.best).to(device), share),
                Memory(validation, origin, device).lost,
                self._config.validation.forget,
                lambda network: validation.run(network, device)[0],
                lambda score: score.main >= wanted,
            )

    def _write_between(self, between: Between) -> None:
        assert self._validation is not None
        card = read_card(self._folder.best)
        steps = int(card.metrics["steps"])
        metrics = _metrics(steps, between.score, self._validation.baseline, self.start)
        said = (
            f"Its weights lie {between.share:g} of the way from its start to the trained ones: sharp and clean scenes of such "
            f"ground lose about {between.lost:.2f} dB, and of other ground up to five times as much."
        )
        metrics |= {"trained_share": between.share, "forgotten": between.lost}
        card = replace(card, metrics=metrics, notes=f"{card.notes} {said}".strip())
        save_network(self._folder.model, between.network, card)
        self._reporter.tell(Noted(f"{said} The trained weights are in '{self._folder.best}'."))

    def score_bundled(self) -> Score | None:
        """Score of the bundled model on the same tiles; None without validation, or where it is not wanted."""
        if self._validation is None or not self._config.validation.bundled:
            return None
        return score_of_bundled(self._validation, self._data, str(self._accelerator.device))

    def _picture(self, validation: Validation, enlarged: Sequence[Floats]) -> NDArray[np.uint8]:
        """Some tiles below each other: lr, bicubic, sr, hr, with their PSNR; shape (3, H, W)."""
        tiles, scale = validation.tiles, self._config.model.scale
        count = min(len(tiles), self._config.validation.pictures)
        chosen = np.linspace(0, len(tiles) - 1, count).round().astype(int)
        before, after = validation.by_tile(validation.bicubic), validation.by_tile(enlarged)
        return contact_sheet(
            [
                (repeat_pixels(tiles[i].lr, scale), validation.bicubic[i], enlarged[i], tiles[i].hr)
                for i in chosen
            ],
            [("lr", f"bicubic {before[i]:.2f} dB", f"sr {after[i]:.2f} dB", "hr") for i in chosen],
        )


def _validation(config: TrainConfig, data: Dataset) -> Validation | None:
    if not data.tiles:
        return None
    kind = data.policy["kind"]
    clip = kind == "dtype" or (kind == "auto" and data.dtype == "uint8")
    return Validation(
        data.tiles, config.model.scale, clip, data_range=span_of(data.tiles, kind), grouping=data.grouping
    )


def _values(score: Score, baseline: Score) -> dict[str, float]:
    """One line of metrics.csv."""
    values = {"psnr": score.psnr, "bicubic_psnr": baseline.psnr}
    if score.psnr_y is not None and baseline.psnr_y is not None:
        values |= {"psnr_y": score.psnr_y, "bicubic_psnr_y": baseline.psnr_y}
    return values


def _numbers(score: Score | None) -> list[float | None] | None:
    return None if score is None else [score.psnr, score.psnr_y]


def _score(numbers: Any) -> Score | None:
    return None if numbers is None else Score(*numbers)


def _metrics(step: int, score: Score, baseline: Score, start: Score | None) -> dict[str, Any]:
    """What the card says."""
    metrics: dict[str, Any] = {"psnr": score.psnr, "psnr_bicubic": baseline.psnr, "steps": step}
    if score.psnr_y is not None:
        metrics |= {"psnr_y": score.psnr_y, "psnr_y_bicubic": baseline.psnr_y}
    if start is not None:
        metrics |= {"psnr_start": start.psnr}
        metrics |= {} if start.psnr_y is None else {"psnr_y_start": start.psnr_y}
    return metrics
