"""The images that a model is evaluated on: which bands it takes of each, and which group each belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geosegsr.errors import BandError, GeoSegSRError
from geosegsr.evaluation.tally import Label
from geosegsr.imagery.config import DataConfig
from geosegsr.imagery.find import find_images
from geosegsr.imagery.matching import match_images
from geosegsr.imagery.pairs import align
from geosegsr.imagery.sources import PairSource, SceneSource, Source
from geosegsr.models.contract import Upscaler
from geosegsr.models.interpolation import is_repetition
from geosegsr.pipeline.layout import groups_for
from geosegsr.raster.bands import bands_alone
from geosegsr.raster.intake import look_at, refuse_no_image
from geosegsr.raster.scene import Scene

_LOOSE = "."
"""Group of the images that lie in no subfolder."""
_RGB = ("red", "green", "blue")


@dataclass(frozen=True)
class Subject:
    """An image, or a pair, that a model is evaluated on."""

    source: Source
    """Where its tiles come from."""
    label: Label
    """What its numbers belong to."""

    @property
    def scene(self) -> SceneSource | None:
        """The image where its input is made from the truth; None for a pair."""
        return self.source if isinstance(self.source, SceneSource) else None


def open_subjects(
    hr: Sequence[str], lr: Sequence[str], bands: Sequence[int], upscaler: Upscaler, policy: dict[str, Any]
) -> tuple[list[Subject], list[str]]:
    """Open all images, each on its own: their bands and dtypes may differ.

    Args:
        hr: Folders, patterns or files of the truth.
        lr: The same of the real low-resolution side; empty to make the input from the truth.
        bands: 1-based bands to use; empty for all that the model takes.
        upscaler: The model.
        policy: How DN become the model's range; see `resolve_radiometry`.

    Returns:
        The images that can be used, and a message for each of the others.

    Raises:
        SceneError: A name stands for no image.
    """
    scenes, failures = _open(hr, bands, upscaler)
    partners: list[Scene | None] = [None] * len(scenes)
    if lr:
        others, more = _open(lr, bands, upscaler)
        matched, alone = match_images([scene for scene, _ in scenes], [scene for scene, _ in others])
        scenes, partners = [scenes[i] for i, _ in matched], [others[j][0] for _, j in matched]
        failures += more + alone
    subjects = []
    for (scene, kind), partner in zip(scenes, partners, strict=True):
        try:
            source = _source(scene, partner, upscaler, policy)
        except GeoSegSRError as error:
            failures.append(str(error))
        else:
            subjects.append(Subject(source, Label(scene.path, _group_of(scene.path, hr), kind)))
    return subjects, failures


def _open(
    named: Sequence[str], bands: Sequence[int], upscaler: Upscaler
) -> tuple[list[tuple[Scene, str]], list[str]]:
    """Scenes with the bands that the model takes, each with its kind in words; a message for each other image."""
    scenes, failures = [], []
    for path in find_images(named):
        try:
            scenes.append(_fitted(Scene.open(path, bands=bands or None), upscaler))
        except GeoSegSRError as error:
            failures.append(str(error))
    return scenes, failures


def _fitted(scene: Scene, upscaler: Upscaler) -> tuple[Scene, str]:
    """A scene with the bands that the model takes, and its kind in words.

    Raises:
        BandError: The model takes none of its bands, or nothing says which.
    """
    intake = look_at(scene)
    if not is_repetition(upscaler):
        refuse_no_image(scene, intake, "evaluate")
    try:
        groups_for(upscaler, scene.colours, scene.path, intake=intake)
    except BandError as error:
        positions = _positions(scene, upscaler)
        if positions is None:
            facts = upscaler.facts
            enough = facts.bands is not None and scene.count > facts.bands
            remedy = (
                f"Pass --bands with {facts.bands} of them"
                if enough
                else "Leave it out, or pass another model"
            )
            raise BandError(
                f"Cannot evaluate '{facts.name}' on '{scene.path}': it has {_counted(scene.count)}, and the model takes "
                f"{facts.bands}. {remedy}."
            ) from error
        chosen = [scene.image_bands[position] for position in positions]
        kind = f"bands {', '.join(map(str, chosen))} of {scene.count}, {scene.dtype}"
        return Scene.open(scene.path, bands=chosen), kind
    return scene, f"{_counted(scene.count)}, {scene.dtype}"


def _positions(scene: Scene, upscaler: Upscaler) -> tuple[int, ...] | None:
    """Where the model's bands lie among more: by their names, else the leading ones of one more (RGBN)."""
    needed, colours = upscaler.facts.bands, scene.colours
    try:
        (group,) = groups_for(upscaler, colours, scene.path, "drop")
    except BandError:
        if needed == len(_RGB) and all(colours.count(colour) == 1 for colour in _RGB):
            return tuple(map(colours.index, _RGB))
        if needed == scene.count - 1 and colours[-1] in ("", "nir"):
            return tuple(range(needed))
        return None
    return group.bands


def _source(scene: Scene, partner: Scene | None, upscaler: Upscaler, policy: dict[str, Any]) -> Source:
    scale = upscaler.facts.scale
    if partner is not None:
        most = DataConfig().max_shift
        pair = align(scene, partner, scale, policy, max_shift=most, match_levels=True, by_place=False)
        return PairSource(pair, scale)
    # Bands that a model sees alone have value ranges of their own, as in `upscale`.
    alone = bands_alone(groups_for(upscaler, scene.colours, scene.path, intake=look_at(scene)))
    return SceneSource(scene, {**policy, "apart": alone}, scale)


def _group_of(path: str, roots: Iterable[str]) -> str:
    """The first subfolder on the way from the folder that an image was found in."""
    for root in roots:
        if Path(root).is_dir() and Path(path).is_relative_to(root):
            first, *deeper = Path(path).relative_to(root).parts
            return first if deeper else _LOOSE
    return _LOOSE


def _counted(bands: int) -> str:
    return f"{bands} band{'' if bands == 1 else 's'}"
