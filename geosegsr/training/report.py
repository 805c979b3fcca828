"""The report of a run: one HTML page, written anew after each validation and at the end."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geosegsr.errors import redacted
from geosegsr.evaluation.page import filled
from geosegsr.imagery.pictures import stretched
from geosegsr.imagery.sources import Floats, Patch
from geosegsr.models.interpolation import repeat_pixels
from geosegsr.raster.picture import data_uri, encoded
from geosegsr.training.curves import draw_curves
from geosegsr.training.run_folder import RunFolder
from geosegsr.training.validation import Score, Validation

_TEMPLATE = Path(__file__).parent / "assets" / "report.html"
_MOST_ROWS = 40
_SHOWN = 3  # best and worst tiles


@dataclass(frozen=True)
class Overview:
    """What a run trains on, in words."""

    notes: tuple[str, ...]
    """Data and start."""
    notices: tuple[str, ...]
    """Warnings: files that are left out, and why."""
    sensor: str | None
    """Text of sensor.toml."""
    bands: tuple[str, ...]
    """What each band is; "" where unknown."""


def write_report(
    folder: RunFolder,
    overview: Overview,
    validation: Validation,
    enlarged: Sequence[Floats],
    scores: Mapping[str, Score | None],
    verdict: str,
    *,
    finished: bool,
) -> None:
    """Write report.html and curves.png.

    Args:
        folder: Of the run; metrics.csv and log.csv are read.
        overview: What the run trains on.
        validation: Its tiles.
        enlarged: What the network makes of the tiles, shape (C, H, W) each.
        scores: Of the rivals and of the model, by name; None where unknown.
        verdict: One sentence.
        finished: Whether the run is over; the page of another one reloads itself.

    Raises:
        JobError: A file cannot be written.
    """
    curves = draw_curves(_charts(folder))
    folder.write_whole(folder.path / "curves.png", lambda file: file.write(curves))
    known = [{"name": name, "score": score} for name, score in scores.items() if score is not None]
    before, after = validation.by_tile(validation.bicubic), validation.by_tile(enlarged)
    page = filled(
        _TEMPLATE,
        name=folder.path.name,
        verdict=verdict,
        finished=finished,
        tiles=len(validation.tiles),
        luma=any(score is not None and score.psnr_y is not None for score in scores.values()),
        scores=known,
        curves=data_uri(curves),
        tables=_tables(validation, enlarged, before, after, overview.bands),
        pictures=_pictures(validation, enlarged, before, after),
        notes=overview.notes,
        notices=overview.notices,
        sensor=overview.sensor,
    )
    folder.write_whole(folder.path / "report.html", lambda file: file.write(page.encode()))


def _charts(folder: RunFolder) -> list[tuple[str, dict[str, Any]]]:
    rows: list[dict[str, str]] = []
    file = folder.path / "metrics.csv"
    if file.exists():
        with file.open(newline="") as lines:
            rows = list(csv.DictReader(lines))
    names = {"model": "psnr", "bicubic": "bicubic_psnr"}
    scores = {
        name: [(float(row["step"]), float(row[column])) for row in rows if row.get(column)]
        for name, column in names.items()
    }
    first = scores["model"][0][1] if scores["model"] else 0.0
    gains = [(step, score - first) for step, score in scores["model"]]
    losses = [(float(step.step), step.loss) for step in folder.read_log()]
    return [
        ("PSNR in dB", scores),
        ("gain in dB", {"over the start": gains}),
        ("loss", {"each step": losses}),
    ]


def _tables(
    validation: Validation,
    enlarged: Sequence[Floats],
    before: list[float],
    after: list[float],
    bands: Sequence[str],
) -> list[dict[str, Any]]:
    places: dict[str, list[int]] = {}
    for i, name in enumerate(_sources(validation.tiles)):
        places.setdefault(name, []).append(i)
    by_source = [
        {
            "name": name,
            "bicubic": float(np.mean([before[i] for i in tiles])),
            "model": float(np.mean([after[i] for i in tiles])),
        }
        for name, tiles in places.items()
    ]
    pairs = zip(validation.by_band(validation.bicubic), validation.by_band(enlarged), strict=True)
    by_band = [
        {"name": f"{i + 1} {band}" if band else f"band {i + 1}", "bicubic": a, "model": b}
        for i, (band, (a, b)) in enumerate(zip(bands, pairs, strict=True))
    ]
    return [
        {"title": "By source", "rows": by_source[:_MOST_ROWS]},
        {"title": "By band", "rows": by_band},
    ]


def _sources(tiles: Sequence[Patch]) -> list[str]:
    """Folder of the image of each tile; its file where all lie in one folder."""
    paths = [Path(tile.origin.split("'")[1] if "'" in tile.origin else tile.origin) for tile in tiles]
    folders = [path.parent.name for path in paths]
    return folders if len(set(folders)) > 1 else [path.name for path in paths]


def _pictures(
    validation: Validation, enlarged: Sequence[Floats], before: list[float], after: list[float]
) -> list[dict[str, Any]]:
    gains = np.array(after) - np.array(before)
    order = [int(i) for i in np.argsort(-gains, kind="stable")]
    best = order[:_SHOWN]
    worst = [i for i in order[::-1] if i not in best][:_SHOWN]
    groups = [("Tiles with the largest gain", best), ("Tiles with the smallest gain", worst)]
    return [
        {
            "title": title,
            "tiles": [_tile(validation, i, enlarged[i], before[i], after[i]) for i in chosen],
        }
        for title, chosen in groups
        if chosen
    ]


def _tile(validation: Validation, i: int, sr: Floats, before: float, after: float) -> dict[str, Any]:
    tile = validation.tiles[i]
    images = {
        "lr": repeat_pixels(tile.lr, validation.scale),
        f"bicubic, {before:.2f} dB": validation.bicubic[i],
        f"model, {after:.2f} dB": sr,
        "hr": tile.hr,
    }
    shown = stretched(list(images.values()))
    figures = [
        {"label": label, "picture": data_uri(encoded(image))}
        for label, image in zip(images, shown, strict=True)
    ]
    return {"origin": redacted(tile.origin), "figures": figures}
