"""The curves of a run as a picture: PSNR at each validation, and the loss of each step."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageDraw

Points: TypeAlias = Sequence[tuple[float, float]]
_SIZE = (880, 300)
_MARGIN = (64, 24, 16, 36)  # left, top, right, bottom
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#7f7f7f")
_MOST_POINTS = 800


def draw_curves(charts: Sequence[tuple[str, dict[str, Points]]]) -> bytes:
    """Charts below each other, as PNG.

    Args:
        charts: Title and named curves of each; a curve is points (step, value). Charts without points are left out.
    """
    shown = [(title, {n: p for n, p in curves.items() if p}) for title, curves in charts]
    shown = [(title, curves) for title, curves in shown if curves]
    image = Image.new("RGB", (_SIZE[0], max(1, len(shown)) * _SIZE[1]), "white")
    draw = ImageDraw.Draw(image)
    for i, (title, curves) in enumerate(shown):
        _draw_chart(draw, i * _SIZE[1], title, curves)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _draw_chart(draw: ImageDraw.ImageDraw, top: int, title: str, curves: dict[str, Points]) -> None:
    left, above, right, below = _MARGIN
    values = np.array([point for points in curves.values() for point in points], float)
    (x0, y0), (x1, y1) = values.min(axis=0), values.max(axis=0)
    x1, pad = max(x1, x0 + 1), max(0.05 * (y1 - y0), 1e-3)
    y0, y1 = y0 - pad, y1 + pad
    width, height = _SIZE[0] - left - right, _SIZE[1] - above - below

    def at(x: float, y: float) -> tuple[float, float]:
        return left + (x - x0) / (x1 - x0) * width, top + above + (y1 - y) / (y1 - y0) * height

    draw.text((left, top + 4), title, fill="black")
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = y0 + share * (y1 - y0)
        draw.line([at(x0, y), at(x1, y)], fill="#dddddd")
        draw.text((4, at(x0, y)[1] - 6), f"{y:.4g}", fill="black")
        x = x0 + share * (x1 - x0)
        draw.text((at(x, y0)[0] - 10, top + _SIZE[1] - below + 6), f"{x:.0f}", fill="black")
    for i, (name, points) in enumerate(curves.items()):
        colour = _COLOURS[i % len(_COLOURS)]
        thin = points[:: max(1, len(points) // _MOST_POINTS)]
        line = [at(*point) for point in thin]
        if len(line) > 1:
            draw.line(line, fill=colour, width=2)
        for x, y in line if len(line) <= 40 else ():
            draw.ellipse([x - 2, y - 2, x + 2, y + 2], fill=colour)
        draw.text((left + 120 + 130 * i, top + 4), name, fill=colour)
