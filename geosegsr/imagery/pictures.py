"""Contact sheets: tiles side by side, as PNG."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rasterio.errors import NotGeoreferencedWarning

_GAP = 4
_LETTERS = 13
"""Height of a label's letters, in pixels."""
_INK = (20, 25, 35)


def contact_sheet(
    rows: Sequence[Sequence[NDArray[Any]]], labels: Sequence[Sequence[str]] = (), side: int = 256
) -> NDArray[np.uint8]:
    """Images in rows; each row is stretched by the 1st and 99th percentile of its last image.

    Args:
        rows: Images of one size in each row, shape (C, H, W); the first three bands are shown, or the first
            alone.
        labels: A text for each image, written into its upper left corner; none by default.
        side: Longest side, in pixels; longer images are cropped to their middle.

    Returns:
        uint8, shape (3, height, width).
    """
    shown = [
        _row([_cut(image, side) for image in row], texts)
        for row, texts in zip_longest(rows, labels, fillvalue=())
    ]
    width = max(strip.shape[2] for strip in shown)
    padded = [np.pad(s, ((0, 0), (0, _GAP), (0, width - s.shape[2])), constant_values=255) for s in shown]
    return np.concatenate(padded, axis=1)


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture, shape (3, height, width)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        bands, height, width = picture.shape
        with rasterio.open(
            path, "w", driver="PNG", height=height, width=width, count=bands, dtype="uint8"
        ) as out:
            out.write(picture)


def _row(images: Sequence[NDArray[Any]], texts: Sequence[str]) -> NDArray[np.uint8]:
    shown = stretched(images)
    if texts:
        shown = [labelled(image, text) for image, text in zip(shown, texts, strict=True)]
    return np.concatenate(
        [np.pad(b, ((0, 0), (0, 0), (0, _GAP)), constant_values=255) for b in shown], axis=2
    )


def stretched(images: Sequence[NDArray[Any]]) -> list[NDArray[np.uint8]]:
    """Images as pictures, all stretched by the 1st and 99th percentile of the last one.

    Args:
        images: Shape (C, H, W) each; the first three bands are shown, or the first alone.

    Returns:
        uint8, shape (3, H, W) each.
    """
    colours = [image[:3] if len(image) >= 3 else np.repeat(image[:1], 3, axis=0) for image in images]
    low, high = np.percentile(colours[-1], [1, 99])
    span = max(float(high - low), 1e-9)
    return [np.rint(np.clip((image - low) / span, 0, 1) * 255).astype(np.uint8) for image in colours]


def labelled(picture: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """A picture, shape (3, height, width), with a text in white on a dark ground in its upper left corner."""
    if not text:
        return picture
    image = Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0)))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(_LETTERS)
    box = draw.textbbox((_GAP, _GAP), text, font=font)
    draw.rectangle((0, 0, box[2] + _GAP, box[3] + _GAP), fill=_INK)
    draw.text((_GAP, _GAP), text, font=font, fill="white")
    marked: NDArray[np.uint8] = np.asarray(image).transpose(2, 0, 1)
    return marked


def _cut(image: NDArray[Any], side: int) -> NDArray[Any]:
    top, left = (max(0, (length - side) // 2) for length in image.shape[1:])
    return image[:, top : top + side, left : left + side]
