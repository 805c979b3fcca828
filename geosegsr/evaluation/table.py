"""The scores of an evaluation, as data and as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

HIGHER_IS_BETTER = {
    "psnr": True,
    "ssim": True,
    "psnr_y": True,
    "ssim_y": True,
    "uqi": True,
    "sam": False,
    "ergas": False,
    "reflectance": False,
    "spectral": False,
    "spatial": False,
    "improvement": True,
    "omission": False,
    "hallucination": False,
}
"""Every measure in the order of the table, and whether high values are good."""
EVERYTHING = "all"
"""Name of the row of all images."""
Numbers = dict[str, float]


@dataclass(frozen=True)
class BandScore:
    """Mean scores of one band over the tiles of a group."""

    name: str
    """Its description in the images, or its number."""
    numbers: Numbers
    """`psnr` and `psnr_bicubic` in dB; `mean_shift`, the mean of the result over that of its input, less 1."""


@dataclass(frozen=True)
class Row:
    """Mean scores over the tiles of a group."""

    group: str
    """Name of the subfolder, "." for images in none; "all" for everything."""
    images: int
    """Number of images."""
    tiles: int
    """Number of tiles."""
    model: Numbers
    """Scores of the model or file."""
    bicubic: Numbers
    """Scores of bicubic interpolation of the same input."""
    bands: tuple[BandScore, ...] = ()
    """Scores by band; empty if the images have different bands."""
    kinds: tuple[str, ...] = ()
    """Bands and dtype of its images, and which bands are used if not all; each once."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN and infinities become None."""
        return {
            "group": self.group,
            "images": self.images,
            "tiles": self.tiles,
            "model": _finite(self.model),
            "bicubic": _finite(self.bicubic),
            "kinds": list(self.kinds),
            "bands": [{"name": band.name, **_finite(band.numbers)} for band in self.bands],
        }


@dataclass(frozen=True)
class Evaluation:
    """All scores of one evaluation."""

    name: str
    """The model or file."""
    scale: int
    """Output pixels per input pixel."""
    rows: tuple[Row, ...]
    """One for each subfolder, if there are several; the last one is of all images."""
    seam: float | None
    """See `seam_ratio`; None if it is not known."""
    notes: tuple[str, ...]
    """How the input and the results were made, and what was left out."""

    @property
    def total(self) -> Row:
        """The row of all images."""
        return self.rows[-1]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "name": self.name,
            "scale": self.scale,
            "rows": [row.to_dict() for row in self.rows],
            "seam": self.seam,
            "notes": list(self.notes),
        }


def table(evaluation: Evaluation, *, by_band: bool = False) -> str:
    """The scores as text, beside those of bicubic interpolation.

    Args:
        evaluation: What was measured.
        by_band: Whether to add one line for each band.
    """
    total = evaluation.total
    lines = [
        f"{evaluation.name}, x{evaluation.scale}: {counted(total.images, 'image')}, {counted(total.tiles, 'tile')}"
    ]
    lines += [f"  {note}" for note in evaluation.notes]
    lines.append(in_words(total))
    lines.append(f"{'':15}{'model':>10}{'bicubic':>10}{'difference':>12}")
    for name in HIGHER_IS_BETTER:
        if name in total.model:
            lines.append(_line(name, total.model[name], total.bicubic[name]))
    if evaluation.seam is not None:
        lines.append(f"{'seam':15}{evaluation.seam:10.3f}   (about 1 without seams)")
    if len(evaluation.rows) > 1:
        lines += ["", *_group_lines(evaluation)]
    if by_band:
        lines += ["", *_band_lines(total)]
    return "\n".join(lines)


def in_words(row: Row) -> str:
    """Which side is better, in one sentence: by PSNR, on luma where it is known, and by all measures."""
    main = "psnr_y" if "psnr_y" in row.model else "psnr"
    gain = row.model[main] - row.bicubic[main]
    on = " on luma" if main == "psnr_y" else ""
    if not math.isfinite(gain) or gain == 0:
        first = f"The result is exactly as close to the truth as bicubic interpolation{on}"
        if row.model[main] == math.inf:
            first = "The result equals the truth"
    else:
        side = "closer to the truth than" if gain > 0 else "further from the truth than"
        first = f"The result is {side} bicubic interpolation, by {abs(gain):.2f} dB{on}"
    sides = [
        _better(name, row.model[name], row.bicubic[name]) for name in row.model if name in HIGHER_IS_BETTER
    ]
    return f"{first}; it is better by {sides.count(' better')} of {len(sides)} measures."


def _line(name: str, model: float, bicubic: float) -> str:
    return f"{name:15}{model:10.4f}{bicubic:10.4f}{model - bicubic:+12.4f}{_better(name, model, bicubic)}"


def _better(name: str, model: float, bicubic: float) -> str:
    """Which side is better, with a space before it; empty where the two are equal."""
    if math.isnan(model - bicubic) or model == bicubic:
        return ""
    return " better" if (model > bicubic) == HIGHER_IS_BETTER[name] else " worse"


def _group_lines(evaluation: Evaluation) -> list[str]:
    main = [name for name in ("psnr", "ssim", "psnr_y", "ssim_y") if name in evaluation.total.model]
    width = max(20, *(len(row.group) + 1 for row in evaluation.rows))
    head = "".join(f"{name:>10}{'bicubic':>10}" for name in main)
    return [
        f"{'group':{width}}{'images':>8}{head}  bands",
        *(_group_line(row, main, width) for row in evaluation.rows),
    ]


def _group_line(row: Row, main: Sequence[str], width: int) -> str:
    cells = "".join(
        f"{side[name]:10.4f}" if name in side else f"{'-':>10}"
        for name in main
        for side in (row.model, row.bicubic)
    )
    return f"{row.group:{width}}{row.images:8d}{cells}  {'; '.join(row.kinds)}".rstrip()


def _band_lines(row: Row) -> list[str]:
    if not row.bands:
        return ["no scores by band: the images have different bands"]
    width = max(20, *(len(band.name) + 1 for band in row.bands))
    return [
        f"{'band':{width}}{'psnr':>10}{'bicubic':>10}{'mean shift':>12}",
        *(
            f"{b.name:{width}}{b.numbers['psnr']:10.4f}{b.numbers['psnr_bicubic']:10.4f}"
            f"{b.numbers['mean_shift']:+12.3%}"
            for b in row.bands
        ),
    ]


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 tile", "2 tiles"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _finite(numbers: Numbers) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}
