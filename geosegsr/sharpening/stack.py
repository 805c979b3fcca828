"""Bands of several resolutions as one scene: the finest as they are, each coarser part sharpened by all finer ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from geosegsr.errors import BandError, SceneError
from geosegsr.models.interpolation import repeat_pixels
from geosegsr.raster.scene import Scene
from geosegsr.raster.window import Window
from geosegsr.sharpening.nesting import Nesting
from geosegsr.sharpening.scene import SharpenedScene, grid_of
from geosegsr.sharpening.sharpen import Pixels


@dataclass(frozen=True, eq=False, kw_only=True)
class RepeatedScene(Scene):
    """A coarse raster of classes on a finer grid: each pixel is repeated, for classes have nothing in between."""

    coarse: Scene
    nesting: Nesting

    @classmethod
    def of(cls, coarse: Scene, finer: Scene) -> RepeatedScene:
        """Lay the pixels of one raster over those of another."""
        nesting = Nesting.of(grid_of(coarse), grid_of(finer), least=1)
        own = {field.name: getattr(coarse, field.name) for field in fields(Scene)}
        return cls(
            **(own | {"metadata": coarse.metadata.scaled(nesting.ratio)}), coarse=coarse, nesting=nesting
        )

    def read(self, window: Window) -> Pixels:
        """Repeated pixels and their validity."""
        ratio = self.nesting.ratio
        wide = window.reduced(ratio)
        part = (slice(None), *window.shifted(-wide.row * ratio, -wide.col * ratio).slices)
        values, valid = self.coarse.read(wide)
        return repeat_pixels(values, ratio)[part], repeat_pixels(valid, ratio)[part]

    def sample(self, side: int = 1024) -> Pixels:
        """The coarse raster, decimated."""
        return self.coarse.sample(side)


@dataclass(frozen=True, eq=False, kw_only=True)
class StackedScene(Scene):
    """Finer bands and coarser ones on the grid of the finer, numbered in the order in which they come out."""

    finer: Scene
    """The grid; it may be such a stack itself."""
    coarser: SharpenedScene | RepeatedScene
    """The same ground, or more of it. If it is sharpened, `finer` is its guide."""
    order: tuple[int, ...]
    """Which of the bands of `finer` and then of `coarser` come out, from 0."""

    @classmethod
    def of(
        cls,
        path: str,
        finer: Scene,
        coarser: SharpenedScene | RepeatedScene,
        names: Sequence[str] | None = None,
    ) -> StackedScene:
        """Put bands together.

        Args:
            path: Of the product, for messages and the identity of a run.
            finer: The bands whose grid all get.
            coarser: The others, on the fine grid.
            names: Bands that are wanted, in this order; by default all, those of `finer` first.

        Raises:
            SceneError: The coarser bands show less ground, or have another nodata value.
            BandError: There is no band of a name.
        """
        _check(finer, coarser)
        bands = (*finer.image_metadata, *coarser.image_metadata)
        order = (
            tuple(range(len(bands)))
            if names is None
            else _positions([b.description or "" for b in bands], names, path)
        )
        chosen = tuple(replace(bands[at], index=number) for number, at in enumerate(order, 1))
        hints = (*finer.hints, *coarser.hints)
        own = {field.name: getattr(finer, field.name) for field in fields(Scene)}
        changed: dict[str, Any] = {
            "path": path,
            "opened": "",
            "dtype": np.result_type(finer.dtype, coarser.dtype),
            "metadata": replace(finer.metadata, bands=chosen),
            "image_bands": tuple(range(1, len(chosen) + 1)),
            "hints": tuple(replace(hints[at], index=number) for number, at in enumerate(order, 1)),
            "files": tuple(dict.fromkeys((*finer.files, *coarser.files))),
        }
        return cls(**(own | changed), finer=finer, coarser=coarser, order=order)

    def working_bytes(self, height: int, width: int) -> int:
        """Memory that reading a window of so many pixels takes, beyond the window itself."""
        return self.finer.working_bytes(height, width) + self.coarser.working_bytes(height, width)

    def read(self, window: Window) -> Pixels:
        """All bands in a window; see `Scene.read`."""
        nesting = self._nesting
        over = window.shifted(nesting.row, nesting.col)
        if isinstance(self.coarser, SharpenedScene):
            coarser, finer = self.coarser.read_both(over)
        else:
            coarser, finer = self.coarser.read(over), self.finer.read(window)
        return self._together(finer, coarser)

    def sample(self, side: int = 1024) -> Pixels:
        """All bands, decimated; see `Scene.sample`."""
        finer, coarser = self.finer.sample(side), self.coarser.sample(side)
        shape = finer[0].shape[1:]
        rows, cols = (
            np.arange(wanted) * found // wanted
            for wanted, found in zip(shape, coarser[0].shape[1:], strict=True)
        )
        near = (slice(None), rows[:, None], cols)
        return self._together(finer, (coarser[0][near], coarser[1][near]))

    @property
    def _nesting(self) -> Nesting:
        return (
            self.coarser.sharpener.nesting
            if isinstance(self.coarser, SharpenedScene)
            else self.coarser.nesting
        )

    def _together(self, finer: Pixels, coarser: Pixels) -> Pixels:
        order = list(self.order)
        values = np.concatenate([pixels[0].astype(self.dtype, copy=False) for pixels in (finer, coarser)])
        return values[order], np.concatenate([finer[1], coarser[1]])[order]


def sharpened_parts(scene: Scene) -> tuple[SharpenedScene, ...]:
    """All that is sharpened in a scene, from the finest; empty for a plain raster."""
    if isinstance(scene, StackedScene):
        return (*sharpened_parts(scene.finer), *sharpened_parts(scene.coarser))
    return (scene,) if isinstance(scene, SharpenedScene) else ()


def rasters_of(scene: Scene) -> tuple[Scene, ...]:
    """The rasters whose pixels a scene is made of; itself if it is a plain raster."""
    if isinstance(scene, StackedScene):
        made_of: tuple[Scene, ...] = (scene.finer, scene.coarser)
    elif isinstance(scene, SharpenedScene):
        made_of = (scene.guide, scene.coarse)
    elif isinstance(scene, RepeatedScene):
        made_of = (scene.coarse,)
    else:
        return (scene,)
    found = {(part.path, part.image_bands): part for made in made_of for part in rasters_of(made)}
    return tuple(found.values())


def _check(finer: Scene, coarser: SharpenedScene | RepeatedScene) -> None:
    nesting = coarser.sharpener.nesting if isinstance(coarser, SharpenedScene) else coarser.nesting
    shown = Window(0, 0, coarser.height, coarser.width)
    if not shown.contains(Window(nesting.row, nesting.col, finer.height, finer.width)):
        raise SceneError(
            f"Cannot bring '{coarser.path}' to the grid of '{finer.path}': it shows less ground. "
            "Pass the parts of the product one at a time."
        )
    marks = {str(scene.nodata) for scene in (finer, coarser)}
    if len(marks) > 1:
        raise SceneError(
            f"Cannot put the bands of '{finer.path}' and '{coarser.path}' into one raster: they have different nodata values "
            f"({', '.join(sorted(marks))}). Pass --nodata V, or the parts one at a time."
        )


def _positions(found: Sequence[str], wanted: Sequence[str], path: str) -> tuple[int, ...]:
    missing = [name for name in wanted if name not in found]
    if missing:
        raise BandError(f"Cannot find band {', '.join(missing)} in '{path}': it holds {', '.join(found)}.")
    return tuple(found.index(name) for name in wanted)
