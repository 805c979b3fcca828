"""Scores of a training in words: beside bicubic during the run, and the table and the verdict at its end."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geosegsr.training.events import Validated
    from geosegsr.training.loop import TrainResult
    from geosegsr.training.validation import Score


_VISIBLE = 0.05  # dB


def describe_score(score: Score, baseline: Score) -> str:
    """A score beside that of bicubic."""
    text = f"PSNR {score.psnr:.2f} dB (bicubic {baseline.psnr:.2f}, {score.psnr - baseline.psnr:+.2f})"
    if score.psnr_y is not None and baseline.psnr_y is not None:
        gain = score.psnr_y - baseline.psnr_y
        text += f", on Y {score.psnr_y:.2f} dB (bicubic {baseline.psnr_y:.2f}, {gain:+.2f})"
    return text


def describe_validation(event: Validated) -> str:
    """A score during the run, and what it means."""
    text = describe_score(event.score, event.baseline)
    if event.step == 0:
        return f"start: {text}"
    behind = event.score.falls_short_of(event.baseline, event.start)
    if behind is not None:
        return f"step {event.step}: {text}, not better than {behind}"
    return f"step {event.step}: {text}{', the best so far' if event.is_best else ''}"


def describe_result(result: TrainResult) -> str:
    """The line about a finished run."""
    text = f"{result.model}: {result.steps} steps"
    if result.score is not None and result.baseline is not None:
        text += f", {describe_score(result.score, result.baseline)}"
    return f"{text}, data wait {result.data_wait:.1%} of the time"


def score_table(result: TrainResult) -> list[str]:
    """The model beside what it has to beat, a line each; empty without validation."""
    rows = {
        "bicubic": result.baseline,
        "start of the run": result.start,
        "bundled model": result.bundled,
        "this model": result.score,
    }
    known = {name: score for name, score in rows.items() if score is not None}
    if result.score is None:
        return []
    with_luma = result.score.psnr_y is not None
    lines = [
        f"{'PSNR in dB':<18}{'all bands':>10}{'luma':>8}" if with_luma else f"{'PSNR in dB':<18}{'':>10}"
    ]
    for name, score in known.items():
        luma = "" if score.psnr_y is None else f"{score.psnr_y:8.2f}"
        lines.append(f"{name:<18}{score.psnr:10.2f}{luma}")
    return [line.rstrip() for line in lines]


def describe_success(result: TrainResult, scale: int) -> list[str]:
    """The verdict on a model that is better than all it was compared with, and how to use it."""
    assert result.score is not None
    rivals = {"bicubic": result.baseline, "its start": result.start, "the bundled model": result.bundled}
    gains = {name: result.score.main - score.main for name, score in rivals.items() if score is not None}
    small = " The smallest gain is hardly visible: train for longer, or on more images."
    said = ", ".join(f"{name} ({gain:+.2f} dB)" for name, gain in gains.items())
    return [
        f"This model is better than {said}.{small if min(gains.values()) < _VISIBLE else ''}",
        f"Use it: geosegsr upscale SCENE -o RESULT --scale {scale} --model {shlex.quote(str(result.model))}",
    ]


def describe_shortfall(behind: str) -> str:
    """The verdict on a run whose model is not better than `behind`."""
    return (
        f"Do not use this model: nothing that the run found is better than {behind}, on its validation tiles. "
        "Train for longer, on more images, or with a lower --learning-rate. Until then use --model bundled."
    )
