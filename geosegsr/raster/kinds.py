"""What kind of quantity a band holds: an image, classes, a mask or angles. Decided here alone.

Values between two classes mean nothing, so only images are interpolated or go through a network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from geosegsr.errors import BandError, did_you_mean
from geosegsr.raster.contract import BandHints

BandKind = Literal["image", "class", "mask", "angle"]
Patch: TypeAlias = tuple[NDArray[Any], NDArray[np.bool_]]
"""Values and validity at one place, shape (h, w)."""
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
_FILES = {"scl", "fmask", "radsat", "bqa", "qa", "qa60", "cldmsk"}
"""Words of products' file names."""
MOST_CLASSES = 24
"""Values of a band; one with more is no raster of classes."""
_LEAST_PIXELS = 1024
_LEAST_ALIKE = 0.6
"""Share of neighbours that are equal: classes come in patches."""
_LEAST_JUMPS = 0.1
"""Share of unequal neighbours between which other values lie: an image passes through them."""


def kind_of(hints: BandHints, patches: Sequence[Patch]) -> tuple[BandKind, str]:
    """What a band holds, and how that is known, in words for a message.

    Args:
        hints: What the raster says of it.
        patches: Its values at full resolution at some places; empty to go by the hints alone.
    """
    if hints.palette:
        return ("mask", "1 bit with a colour table") if hints.nbits == 1 else ("class", "a colour table")
    if hints.kind is not None:
        return cast(BandKind, hints.kind), "as you said"
    if hints.decided is not None:
        return cast(BandKind, hints.decided[0]), hints.decided[1]
    if hints.nbits == 1:
        return "mask", "1 bit"
    if named := kind_of_name(hints.name):
        return named, f"named '{hints.name}'"
    if not hints.colour and (count := few_values(patches)):
        return ("mask" if count == 2 else "class"), f"{count} values"
    return "image", ""


def may_be_classes(hints: BandHints, dtype: np.dtype[Any]) -> bool:
    """Whether only the values can tell that a band holds classes."""
    return dtype.kind in "iu" and not hints.colour and kind_of(hints, []) == ("image", "")


def few_values(patches: Sequence[Patch]) -> int:
    """The number of classes that integers look like; 0 if they look like an image.

    Few values, mostly equal to their neighbours, and where they are not, as often far from them as near: an image that
    is flat or dark has few values, too, but passes through those in between.
    """
    valid = [values[mask] for values, mask in patches if values.dtype.kind in "iu"]
    if sum(map(np.size, valid)) < _LEAST_PIXELS:
        return 0
    found = np.unique(np.concatenate([np.unique(part) for part in valid]))
    if not 2 <= found.size <= MOST_CLASSES:
        return 0
    steps = np.concatenate([_steps(values, mask, found) for values, mask in patches])
    if not steps.size or np.mean(steps == 0) < _LEAST_ALIKE:
        return 0
    apart = bool(found[1] - found[0] > 1) or found[0] == 0
    jumps = steps[steps > 0]
    far = apart if found.size == 2 else jumps.size > 0 and np.mean(jumps > 1) >= _LEAST_JUMPS
    return int(found.size) if far else 0


def _steps(values: NDArray[Any], valid: NDArray[np.bool_], found: NDArray[Any]) -> NDArray[np.intp]:
    """By how many of the values found each valid pixel differs from its right neighbour."""
    ranks = np.searchsorted(found, values)
    both = valid[:, 1:] & valid[:, :-1]
    return np.abs(np.diff(ranks, axis=1))[both]


def asked_kinds(
    asked: Mapping[int, str] | None, bands: Sequence[int], scene: str
) -> tuple[BandKind | None, ...]:
    """What a user says of each band; None where nothing is said.

    Args:
        asked: 1-based band -> kind.
        bands: The bands in use.
        scene: The scene's name, for messages.

    Raises:
        BandError: There is no such band or kind.
    """
    for band, kind in (asked or {}).items():
        if band not in bands:
            raise BandError(
                f"Cannot use --band-kind {band}={kind} for '{scene}': the bands in use are {', '.join(map(str, bands))}."
            )
        if kind not in KINDS:
            raise BandError(
                f"Cannot use --band-kind {band}={kind}: a kind is one of {', '.join(KINDS)}.{did_you_mean(kind, KINDS)}"
            )
    return tuple(cast(BandKind | None, (asked or {}).get(band)) for band in bands)


def telling_name(stem: str) -> str:
    """The name of a file, where it says that its only band is no image; else "": a file may be called anything."""
    return stem if _FILES & set(re.split(r"[^a-z0-9]+", stem.lower())) else ""


def kind_of_name(name: str | None) -> BandKind | None:
    """What a band's name or description says it holds; None if it says nothing."""
    words = [word for word in re.split(r"[^a-z0-9]+", (name or "").lower()) if word]
    if _MEASURED & set(words):
        return "image"
    return next((_WORDS[word] for word in words if word in _WORDS), None)
