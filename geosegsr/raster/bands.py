"""What the bands of a scene are, and which go through a model together. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from geosegsr.errors import BandError

_COLOURS = ("red", "green", "blue", "nir")
_NUMBERED = {"b02": "blue", "b03": "green", "b04": "red", "b08": "nir"}
Guide: TypeAlias = tuple[int, int, int] | None
Through = Literal["model", "grey", "bicubic", "nearest"]
OtherBands = Literal["model", "bicubic", "drop"]


def colour_of(description: str | None, colorinterp: str = "") -> str:
    """What a band is: red, green, blue or nir; empty where neither text says so.

    Names with two digits (B04) are Sentinel-2's and HLS's; Landsat's own names (B4) mean other colours on other
    satellites, so they say nothing.
    """
    text = (description or "").lower().replace("near infrared", "nir").replace("-", " ").replace("_", " ")
    words = text.split()
    found = {colour for colour in _COLOURS if colour in words}
    found |= {_NUMBERED[word] for word in words if word in _NUMBERED}
    if len(found) == 1 and not {"edge", "coastal"} & set(words):
        return found.pop()
    return colorinterp if colorinterp in _COLOURS else ""


def band_key(description: str | None, colour: str = "") -> str:
    """What a band is, to find it in another raster or in a model: its colour, or else its name; empty if unknown.

    Args:
        description: The name that the band has.
        colour: What is known of it beside the name, as in `colour_of`.
    """
    return colour or colour_of(description) or (description or "").lower()


@dataclass(frozen=True)
class BandGroup:
    """Bands that are computed in one call."""

    bands: tuple[int, ...]
    """Positions among the scene's image bands, in the model's order."""
    through: Through
    """The model itself, the model fed with one band in all its inputs, interpolation, or repetition of pixels."""
    guide: Guide = None
    """Positions of red, green and blue that steer the model instead of the bands themselves."""


def group_bands(
    colours: tuple[str, ...],
    *,
    model: str,
    model_bands: int | None,
    model_band_names: tuple[str, ...] = (),
    knows_grey: bool | None = False,
    other_bands: OtherBands | None = None,
    scene: str = "scene",
    repeated: tuple[int, ...] = (),
) -> tuple[BandGroup, ...]:
    """Group the bands of a scene into calls of the model.

    Args:
        colours: What each image band is ("red", "nir", ...), as far as the scene says; "" where it does not.
        model: The model's name, for messages.
        model_bands: Bands the model takes together; None if it takes each alone.
        model_band_names: What the model's bands are; empty if it does not say.
        knows_grey: Whether the model was trained for single bands passed as grey; None if nobody knows, so that it is
            done where it is asked for.
        other_bands: What to do with bands beyond the model's; None for "model" if the model knows grey.
        scene: The scene's name, for messages.
        repeated: Positions of bands that are no images, whose pixels are repeated, or dropped as `other_bands` says.

    Returns:
        Groups; no band is in two of them. Bands in none of them are dropped.

    Raises:
        BandError: The bands do not fit the model, and the options do not say what to do about it.
    """
    if repeated:
        images = [band for band in range(len(colours)) if band not in repeated]
        groups = group_bands(
            tuple(colours[band] for band in images), model=model, model_bands=model_bands,
            model_band_names=model_band_names, knows_grey=knows_grey, other_bands=other_bands, scene=scene,
        )  # fmt: skip
        kept = () if other_bands == "drop" and model_bands is not None else repeated
        return (*(_at(group, images) for group in groups), *(BandGroup((band,), "nearest") for band in kept))
    count = len(colours)
    if model_bands is None:
        return tuple(BandGroup((band,), "model") for band in range(count))
    positions = find_bands(colours, model_band_names, model_bands)
    if positions is not None and len(positions) == count:
        return (BandGroup(positions, "model"),)
    if other_bands is None and knows_grey:
        other_bands = "model"
    if other_bands is None or (other_bands == "model" and knows_grey is False):
        names = f" ({', '.join(model_band_names)})" if model_band_names else ""
        never = " and never on single bands" if other_bands == "model" else ""
        ways = "bicubic|drop" if knows_grey is False else "model|bicubic|drop"
        known = f"model '{model}' was trained on {model_bands}{names}{never}"
        raise _too_many(count, scene, known, model_bands, ways)
    if positions is None and other_bands != "model":
        raise BandError(
            f"Cannot tell which of the {count} bands of '{scene}' are those of model '{model}' "
            f"({', '.join(model_band_names) or model_bands}). Pass --bands with them first."
        )
    together = () if positions is None else (BandGroup(positions, "model"),)
    rest = [band for band in range(count) if positions is None or band not in positions]
    return (*together, *_alone(rest, other_bands, positions))


def _alone(
    bands: list[int], other_bands: OtherBands | None, positions: tuple[int, ...] | None
) -> tuple[BandGroup, ...]:
    """Bands beyond the model's, each by itself; none if they are dropped."""
    if other_bands == "drop":
        return ()
    if other_bands == "bicubic":
        return tuple(BandGroup((band,), "bicubic") for band in bands)
    guide = positions if positions is not None and len(positions) == 3 else None
    return tuple(BandGroup((band,), "grey", guide) for band in bands)


def _too_many(count: int, scene: str, known: str, model_bands: int, ways: str) -> BandError:
    return BandError(
        f"Cannot upscale '{scene}': it has {count} band{'' if count == 1 else 's'}, but {known}. "
        f"Pass --bands with {model_bands} of them, or --other-bands {ways}."
    )


def _at(group: BandGroup, places: list[int]) -> BandGroup:
    """A group of some of the bands, with its positions among all of them."""
    guide = None if group.guide is None else tuple(places[band] for band in group.guide)
    return BandGroup(tuple(places[band] for band in group.bands), group.through, cast(Guide, guide))


def find_bands(colours: tuple[str, ...], names: tuple[str, ...], needed: int) -> tuple[int, ...] | None:
    """Positions of the model's bands: by name if the scene names them, or all bands if their number is right."""
    if len(names) == needed and all(name and colours.count(name) == 1 for name in names):
        return tuple(colours.index(name) for name in names)
    if len(colours) == needed:
        return tuple(range(needed))
    return None


def bands_alone(groups: tuple[BandGroup, ...]) -> list[int]:
    """Positions of the bands whose values have nothing to do with the others': one at a time through a model, or past it."""
    return [band for group in groups if group.through in ("grey", "nearest") for band in group.bands]
