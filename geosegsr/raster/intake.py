"""What a raster is, as far as that decides how its pixels are treated: decided here for files and arrays alike.

Decided are the kind of each band, the highest DN that counts, and whether a region without data is not declared. Each
decision is one line of `Intake.decisions`, for the log, the tags and the report, and an option overrules it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from geosegsr.errors import BandError, UnsuitableError
from geosegsr.notices import warn
from geosegsr.raster.collar import Collar, find_collar
from geosegsr.raster.contract import BandHints, Raster
from geosegsr.raster.kinds import MOST_CLASSES, BandKind, kind_of, may_be_classes
from geosegsr.raster.scene import Scene
from geosegsr.raster.window import Window

AnyRaster = TypeVar("AnyRaster", bound=Raster)
Patches: TypeAlias = list[tuple[NDArray[Any], NDArray[np.bool_]]]

_WHOLE_SIDE = 512
_PATCH_SIDE = 128
_PATCHES = 3
_MIDDLE_SIDE = 64
_TOPS = tuple(2.0**bits - 1 for bits in (10, 11, 12, 14))
"""Highest DN of detectors, in files of 16 bits."""
_LEAST_SATURATED = 1e-4


@dataclass(frozen=True)
class Intake:
    """What was decided for a raster."""

    kinds: tuple[BandKind, ...]
    """Of each image band."""
    reasons: tuple[str, ...]
    """How the kind of each band is known; "" for an image."""
    names: tuple[str, ...]
    """What messages call each band: "band 2 (SCL)"."""
    top: float | None
    """The highest DN that a band can hold, where that is less than its data type's; None otherwise."""
    top_reason: str
    """How it is known."""
    collar: Collar | None
    """A region without data that the raster does not declare, and that is used as data."""
    found: Collar | None = None
    """The same, where its value is taken for nodata."""

    @property
    def decisions(self) -> tuple[str, ...]:
        """One line for each decision that changes pixels."""
        lines = [
            f"{self.names[band]} is no image but {_WORDS[kind]} ({reason}): its pixels are repeated"
            for band, (kind, reason) in enumerate(zip(self.kinds, self.reasons, strict=True))
            if kind != "image"
        ]
        if self.found is not None:
            lines.append(f"nodata is {self.found.value:g}, though not declared: {self.found.describe()}")
        if self.top is not None:
            lines.append(f"values end at {self.top:g} ({self.top_reason}): results are clipped there")
        return tuple(lines)

    @classmethod
    def of_images(cls, count: int) -> Intake:
        """Of bands that are known to be images."""
        image: BandKind = "image"
        return cls((image,) * count, ("",) * count, ("",) * count, None, "", None)


_WORDS: dict[BandKind, str] = {"image": "an image", "class": "classes", "mask": "a mask", "angle": "angles"}


def look_at(raster: Raster, *, by_values: bool = True) -> Intake:
    """Decide what a raster is, from what it says of itself and its values at a few places.

    Args:
        raster: A scene or an array.
        by_values: Whether to read values at all.

    Raises:
        BandError: A user calls a band with a colour table an image.
        SceneError: The raster cannot be read.
    """
    hints = raster.hints
    for hint in hints:
        if hint.palette and hint.kind == "image":
            needed = (
                f"Leave out --band-kind {hint.index}=image, and pass --model nearest to repeat its pixels"
                if hint.nbits == 1
                else "Convert it to bands first: gdal_translate -expand rgb IN OUT"
            )
            raise BandError(
                f"Cannot take band {hint.index} of '{raster.path}' for an image: its pixels are entries of a colour table. "
                f"{needed}."
            )
    patches, border = _patches(raster) if by_values else ([], [])
    found = [
        kind_of(hint, [(values[band], valid[band]) for values, valid in patches])
        for band, hint in enumerate(hints)
    ]
    kinds: tuple[BandKind, ...] = tuple(kind for kind, _ in found)
    reasons = tuple(reason for _, reason in found)
    top, top_reason = _top(raster, kinds, [*patches, *border])
    is_image = "image" in kinds
    collar = find_collar(raster, border) if border and is_image else None
    return Intake(kinds, reasons, tuple(map(_called, hints)), top, top_reason, collar)


def has_many_values(raster: Raster) -> bool:
    """Whether the middle of a raster shows that no band's values are those of classes: cheaper than `look_at`.

    Raises:
        SceneError: The raster cannot be read.
    """
    asked = [band for band, hint in enumerate(raster.hints) if may_be_classes(hint, raster.dtype)]
    if not asked:
        return True
    side = min(_MIDDLE_SIDE, raster.height, raster.width)
    values, valid = raster.read(Window((raster.height - side) // 2, (raster.width - side) // 2, side, side))
    return all(np.unique(values[band][valid[band]]).size > MOST_CLASSES for band in asked)


def take_in(
    raster: AnyRaster,
    with_nodata: Callable[[float], AnyRaster],
    *,
    find_nodata: bool = False,
    by_values: bool = True,
) -> tuple[AnyRaster, Intake]:
    """Decide what a raster is, and warn of a region without data that it does not declare.

    Args:
        raster: A scene or an array.
        with_nodata: The same raster with another nodata value.
        find_nodata: Whether the value of such a region is taken for nodata (`--nodata auto`).
        by_values: As in `look_at`.

    Returns:
        The raster, with nodata where it was found, and what was decided.
    """
    intake = look_at(raster, by_values=by_values or find_nodata)
    collar = intake.collar
    if collar is not None and find_nodata:
        raster = with_nodata(collar.value)
        return raster, replace(look_at(raster, by_values=by_values), found=collar)
    if collar is not None:
        warn(
            f"'{raster.path}' declares no nodata, but {collar.describe()}: they are used as data. "
            f"Pass --nodata {collar.value:g} or --nodata auto if they hold none"
        )
    return raster, intake


def refuse_no_image(raster: Raster, intake: Intake, verb: str = "upscale") -> None:
    """Refuse a raster none of whose bands is an image, for whatever is no repetition of pixels.

    Raises:
        UnsuitableError: None of the bands is an image.
    """
    if "image" in intake.kinds:
        return
    kind, reason = intake.kinds[0], intake.reasons[0]
    palette = raster.hints[0].palette
    what = "its pixels are entries of a colour table" if palette else f"it holds {_WORDS[kind]} ({reason})"
    if kind == "class" and palette:
        other = ", or convert it to bands first: gdal_translate -expand rgb IN OUT"
    elif palette:
        other = ""
    else:
        other = f", or --band-kind {raster.hints[0].index}=image if it is an image"
    raise UnsuitableError(
        f"Cannot {verb} '{raster.path}': {what}, and values in between mean nothing. "
        f"Pass --model nearest to repeat its pixels{other}."
    )


def refuse_other_than_images(raster: Raster, intake: Intake) -> None:
    """Refuse a raster with a band that is no image, where a network would learn from it.

    Raises:
        BandError: A band is no image.
    """
    others = [band for band, kind in enumerate(intake.kinds) if kind != "image"]
    if not others:
        return
    first = others[0]
    images = [
        str(hint.index) for hint, kind in zip(raster.hints, intake.kinds, strict=True) if kind == "image"
    ]
    raise BandError(
        f"Cannot train on '{raster.path}': {intake.names[first]} is no image but "
        f"{_WORDS[intake.kinds[first]]} ({intake.reasons[first]}). "
        + (f"Pass --bands {','.join(images)}." if images else "Leave it out.")
    )


def _called(hints: BandHints) -> str:
    return f"band {hints.index}" + (f" ({hints.name})" if hints.name else "")


def _top(raster: Raster, kinds: Sequence[BandKind], patches: Patches) -> tuple[float | None, str]:
    """The highest DN that counts, and how it is known.

    By the bits that the file declares, or where a detector is saturated: many pixels have exactly the highest DN of one,
    and none has more.
    """
    images = [band for band, kind in enumerate(kinds) if kind == "image"]
    if raster.dtype.kind != "u" or not images:
        return None, ""
    declared = {raster.hints[band].nbits for band in images}
    bits = max((bits for bits in declared if bits is not None), default=None)
    if bits is not None:
        known = None not in declared and bits < 8 * raster.dtype.itemsize
        return (2.0**bits - 1, f"{bits} bits") if known else (None, "")
    if raster.dtype.itemsize == 1 or not patches:
        return None, ""
    highest = max((int(v[images].max(where=m[images], initial=0)) for v, m in patches), default=0)
    if highest not in _TOPS:
        return None, ""
    values, valid = raster.sample()
    inside = values[images][valid[images]]
    saturated = inside.size and inside.max() == highest and np.mean(inside == highest) >= _LEAST_SATURATED
    return (float(highest), "the highest of its values, held by many") if saturated else (None, "")


def _patches(raster: Raster) -> tuple[Patches, Patches]:
    """Places at full resolution, and places or a decimated whole that show the border.

    The whole of a small raster; of a large one the corners, the middles of its sides and its centre. Where places are
    costly, one place within one of the file's own blocks, and the whole decimated.
    """
    height, width = raster.height, raster.width
    if height <= _WHOLE_SIDE and width <= _WHOLE_SIDE:
        whole = [raster.read(Window(0, 0, height, width))]
        return whole, whole
    if isinstance(raster, Scene) and raster.has_costly_places:
        rows, cols = raster.block_shape
        place = Window(height // 2 // rows * rows, width // 2 // cols * cols, _WHOLE_SIDE, _WHOLE_SIDE)
        inside = place.intersection(Window(0, 0, height, width))
        return [raster.read(inside)], [raster.sample(_WHOLE_SIDE)]
    rows, cols = min(_PATCH_SIDE, height), min(_PATCH_SIDE, width)
    places = [
        raster.read(Window(int(row), int(col), rows, cols))
        for row in np.unique(np.linspace(0, height - rows, _PATCHES).astype(int))
        for col in np.unique(np.linspace(0, width - cols, _PATCHES).astype(int))
    ]
    return places, places
