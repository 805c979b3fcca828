"""What kind of quantity a band holds: an image, classes, a mask or angles. Decided here alone."""

from __future__ import annotations

import re
from typing import Literal

BandKind = Literal["image", "class", "mask", "angle"]
KINDS: tuple[BandKind, ...] = ("image", "class", "mask", "angle")

_WORDS: dict[str, BandKind] = {
    **dict.fromkeys(
        ("scl", "qa", "qa60", "fmask", "class", "classes", "classification", "landcover", "lulc", "label", "labels",
         "radsat", "bqa"),
        "class",
    ),
    **dict.fromkeys(("mask", "cloudmask", "clm", "cldmsk", "msk"), "mask"),
    **dict.fromkeys(("angle", "angles", "azimuth", "zenith", "saa", "sza", "vaa", "vza"), "angle"),
}  # fmt: skip
_MEASURED = {"probability", "confidence", "distance", "fraction", "uncertainty", "sin", "cos"}
"""Words of what has values in between, whatever it is about."""


def kind_of_name(name: str | None) -> BandKind | None:
    """What a band's name or description says it holds; None if it says nothing."""
    words = [word for word in re.split(r"[^a-z0-9]+", (name or "").lower()) if word]
    if _MEASURED & set(words):
        return "image"
    return next((_WORDS[word] for word in words if word in _WORDS), None)
