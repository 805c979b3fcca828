"""Several models on the same images, side by side, with what each of them costs."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geosegsr.errors import ConfigError
from geosegsr.evaluation.evaluate import evaluate_model, open_model
from geosegsr.evaluation.table import HIGHER_IS_BETTER, Evaluation, counted
from geosegsr.models.contract import Upscaler, workspace_bytes

_CALLS = 2  # the first one prepares the network
_COLUMN = 22


@dataclass(frozen=True)
class Cost:
    """What a model takes for one tile of its own choice, on this machine."""

    seconds: float
    """CPU seconds a megapixel of output; wall seconds on a GPU."""
    bytes: int
    """Main memory that a call takes beside its input and output; 0 where it is unknown."""


@dataclass(frozen=True)
class Comparison:
    """Scores of several models, measured alike."""

    evaluations: tuple[Evaluation, ...]
    """One a model, in the order that was asked for."""
    costs: tuple[Cost, ...]
    """Of the same models."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        pairs = zip(self.evaluations, self.costs, strict=True)
        return {
            "models": [
                {**found.to_dict(), "seconds_per_megapixel": cost.seconds, "workspace_bytes": cost.bytes}
                for found, cost in pairs
            ]
        }


def compare_models(
    models: Sequence[str | Path | Upscaler], hr: Sequence[str], lr: Sequence[str] = (), **options: Any
) -> Comparison:
    """Measure several models on the same images.

    Args:
        models: As for `upscale`, all of one scale.
        hr: As for `evaluate_model`.
        lr: Likewise.
        **options: Likewise; `picture` is not possible. Without a degradation each model gets the one of its own training.

    Raises:
        ConfigError: The models have different scales.
        GeoSegSRError: A model or the images cannot be used.
    """
    ensemble, scale = bool(options.pop("ensemble", False)), options.pop("scale", None)
    device, precision = options.pop("device", "auto"), options.pop("precision", "auto")
    opened = [open_model(model, scale, device, precision, ensemble=ensemble) for model in models]
    scales = sorted({model.facts.scale for model in opened})
    if len(scales) > 1:
        raise ConfigError(
            f"Cannot compare models of scales {', '.join(map(str, scales))}: they make images of different sizes. "
            "Pass models of one scale, or --scale for models that have several."
        )
    found = tuple(evaluate_model(model, hr, lr, **options) for model in opened)
    return Comparison(found, tuple(_cost(model) for model in opened))


def comparison_table(comparison: Comparison) -> str:
    """The scores as text: a column for bicubic and for each model, the best of each row marked by a star."""
    first = comparison.evaluations[0].total
    names = ["bicubic", *(found.name for found in comparison.evaluations)]
    sides = [first.bicubic, *(found.total.model for found in comparison.evaluations)]
    lines = [
        _verdict(comparison),
        f"{counted(first.images, 'image')}, {counted(first.tiles, 'tile')}, x{comparison.evaluations[0].scale}",
    ]
    lines += [f"  {found.name}: {note}" for found in comparison.evaluations for note in found.notes]
    lines.append(f"{'':15}" + "".join(f"{name[: _COLUMN - 2]:>{_COLUMN}}" for name in names))
    for name in HIGHER_IS_BETTER:
        if all(name in side for side in sides):
            lines.append(_line(name, [side[name] for side in sides]))
    lines.append(_plain("s/Mpx of output", ["", *(f"{cost.seconds:.3f}" for cost in comparison.costs)]))
    known = [f"{cost.bytes / 2**20:.0f}" if cost.bytes else "-" for cost in comparison.costs]
    lines.append(_plain("MiB a tile", ["", *known]))
    return "\n".join(lines)


def _verdict(comparison: Comparison) -> str:
    """Which model is best by PSNR, in words."""
    totals = [(found.total.model["psnr"], found.name) for found in comparison.evaluations]
    (best, name), bicubic = max(totals), comparison.evaluations[0].total.bicubic["psnr"]
    if best <= bicubic:
        return f"No model is better than bicubic interpolation on these images ({bicubic:.2f} dB)."
    return f"{name} is the best on these images: {best:.2f} dB, bicubic interpolation {bicubic:.2f} dB."


def _line(name: str, values: Sequence[float]) -> str:
    known = [value for value in values if math.isfinite(value)]
    best = (max if HIGHER_IS_BETTER[name] else min)(known, default=math.nan)
    return _plain(name, [f"{value:.4f}{'*' if value == best else ' '}" for value in values])


def _plain(name: str, cells: Sequence[str]) -> str:
    return f"{name:15}" + "".join(f"{cell:>{_COLUMN}}" for cell in cells)


def _cost(model: Upscaler) -> Cost:
    facts = model.facts
    lr = np.random.default_rng(0).random((1, facts.bands or 3, facts.tile, facts.tile), np.float32)
    clock = time.perf_counter if facts.device.startswith("cuda") else time.process_time
    seconds = math.inf
    for _ in range(_CALLS):
        start = clock()
        model(lr)
        seconds = min(seconds, clock() - start)
    megapixels = (facts.tile * facts.scale) ** 2 / 1e6
    return Cost(seconds / megapixels, workspace_bytes(model, facts.tile, facts.tile))
