"""A scene on the grid of its guide: coarse bands that are sharpened wherever a window is read.

To the pipeline it is a raster like any other, so blocks, seams, resume and areas need no rules of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from affine import Affine

from geosegsr.errors import BandError, redacted
from geosegsr.files import exists
from geosegsr.notices import warn
from geosegsr.raster.kinds import BandKind
from geosegsr.raster.metadata import BandMetadata
from geosegsr.raster.products import container_of
from geosegsr.raster.scene import Scene
from geosegsr.raster.window import Window
from geosegsr.sensor.consistency import degraded, footprint
from geosegsr.sharpening.nesting import Grid, Nesting
from geosegsr.sharpening.sharpen import Pixels
from geosegsr.sharpening.sharpener import Sharpener

_MEASURED_SIDE = 32
"""Coarse pixels along a side of the part whose consistency is measured."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SharpenedScene(Scene):
    """A coarse raster on its guide's grid.

    Metadata is that of the coarse raster on the finer grid; bands are numbered as in the coarse raster.
    """

    coarse: Scene
    """The raster that is sharpened."""
    guide: Scene
    """The sharper raster."""
    sharpener: Sharpener
    consistency: tuple[float, ...]
    """RMS difference of each sharpened band, reduced again, from the coarse raster, in DN; NaN where nothing can be compared."""

    @classmethod
    def of(cls, coarse: Scene, guide: Scene, kinds: Sequence[BandKind] | None = None) -> SharpenedScene:
        """Fit a guide to a coarse raster.

        Args:
            coarse: The raster to sharpen.
            guide: The sharper raster; all its bands are images.
            kinds: What each image band of `coarse` holds; pixels of all but images are repeated. Images by default.

        Raises:
            SceneError: The grids do not nest, or a file cannot be read.
            BandError: The coarse raster has an alpha band, which has no detail, or no image.
        """
        if coarse.alpha_band is not None:
            raise BandError(
                f"Cannot sharpen '{coarse.path}': band {coarse.alpha_band} is an alpha band, which has no detail. "
                "Pass --alpha image if it holds an image, or mark pixels without data by --nodata V and leave it out."
            )
        coarse, guide = _absolute(coarse), _absolute(guide)
        sharpener = Sharpener.fitted(Nesting.of(grid_of(coarse), grid_of(guide)), coarse, guide, kinds)
        _warn_of_poor_guide(coarse, guide, sharpener)
        nesting = sharpener.nesting
        metadata = coarse.metadata.scaled(nesting.ratio)
        if nesting.half and guide.transform is not None:
            metadata = replace(
                metadata, transform=guide.transform @ Affine.translation(-nesting.col, -nesting.row)
            )
        changed = {
            "metadata": metadata,
            "files": tuple(dict.fromkeys((*coarse.files, *guide.files))),
            "block_shape": guide.block_shape,
            "overviews": (),
        }
        own = {field.name: getattr(coarse, field.name) for field in fields(Scene)}
        scene = cls(**(own | changed), coarse=coarse, guide=guide, sharpener=sharpener, consistency=())
        scene = replace(scene, consistency=scene._measured())
        return replace(scene, metadata=replace(metadata, bands=tuple(scene._described())))

    @property
    def guide_name(self) -> str:
        """The guide's file, or its bands where they belong to the same product."""
        of_guide, of_coarse = (
            Path(container_of(scene.path)).absolute() for scene in (self.guide, self.coarse)
        )
        if of_guide != of_coarse:
            return Path(redacted(self.guide.path)).name
        return ", ".join(name or "?" for name in self.guide.descriptions)

    @property
    def key(self) -> str:
        """Changes with all that decides the pixels beside the files' content."""
        return f"{self.sharpener.key} {redacted(self.guide.path)} {self.guide.image_bands}"

    def describe(self) -> str:
        """One line for the tags and the report."""
        ratio, mtf = self.sharpener.nesting.ratio, self.sharpener.fit.mtf
        return f"{self.guide_name}: {ratio} x {ratio} pixels in one, MTF {mtf:.2f} (estimated)"

    @property
    def quality(self) -> tuple[dict[str, float | str | None], ...]:
        """How well the detail of each sharpened band was predicted, for the report."""
        names = _sharpened_names(self.coarse, self.sharpener)
        bands = zip(names, self.sharpener.fit.quality, self.consistency, strict=True)
        return tuple(
            {
                "band": name,
                "guide": self.guide_name,
                "explained": round(quality.explained, 4),
                "rmse": _number(quality.rmse),
                "rmse_alone": _number(quality.rmse_alone),
                "consistency": _number(rms),
            }
            for name, quality, rms in bands
        )

    def working_bytes(self, height: int, width: int) -> int:
        """Memory that reading a window of so many pixels takes, beyond the window itself."""
        return self.sharpener.working_bytes(height, width) + self.guide.working_bytes(height, width)

    def read(self, window: Window) -> Pixels:
        """Sharpened pixels and their validity, which is that of the coarse pixels; see `Scene.read`."""
        return self.read_both(window)[0]

    def read_both(self, window: Window) -> tuple[Pixels, Pixels]:
        """As `read`, and the guide's pixels in the same window, as far as it reaches."""
        nesting = self.sharpener.nesting
        wide = self.sharpener.coarse_window(window)
        part = nesting.read(wide.scaled(nesting.ratio))
        guide = self._read_guide(part)
        own = nesting.read(window)
        inner = Window(0, 0, 0, 0) if part is None or own is None else own.shifted(-part.row, -part.col)
        beside = (slice(None), *inner.slices)
        return self.sharpener(window, self.coarse.read(wide), guide), (guide[0][beside], guide[1][beside])

    def sample(self, side: int = 1024) -> Pixels:
        """The coarse raster, decimated: its levels are those of the sharpened one."""
        return self.coarse.sample(side)

    def _measured(self) -> tuple[float, ...]:
        """RMS difference of each sharpened band, reduced again, from the input, in the middle of the scene; NaN where it has no data."""
        sampling = self.sharpener.fit.sampling
        side, inner = _MEASURED_SIDE + 2 * sampling.reach, slice(sampling.reach, -sampling.reach)
        rows, cols = min(side, self.coarse.height), min(side, self.coarse.width)
        window = Window((self.coarse.height - rows) // 2, (self.coarse.width - cols) // 2, rows, cols)
        lr, valid = self.coarse.read(window)
        values, _ = self.read(window.scaled(sampling.scale))
        found = []
        for at in self.sharpener.images:
            band, known, hr = lr[at], valid[at], values[at]
            compared = footprint(known, sampling)[inner, inner]
            off = (degraded(hr.astype(np.float64), sampling) - band)[inner, inner][compared]
            found.append(float(np.sqrt(np.mean(off**2))) if off.size else math.nan)
        return tuple(found)

    def _described(self) -> Iterator[BandMetadata]:
        """The bands, with tags that say how well their detail was predicted."""
        quality = dict(zip(self.sharpener.images, self.quality, strict=True))
        for band in self.metadata.bands:
            found = quality.get(self.image_bands.index(band.index), {})
            tags = {
                f"GEOSEGSR_DETAIL_{name.upper()}": f"{found[name]:.4g}"
                for name in ("explained", "rmse", "rmse_alone", "consistency")
                if found.get(name) is not None
            }
            yield replace(band, tags={**band.tags, **tags})

    def _read_guide(self, window: Window | None) -> Pixels:
        if window is not None:
            return self.guide.read(window)
        return np.zeros((self.guide.count, 0, 0), self.guide.dtype), np.zeros(
            (self.guide.count, 0, 0), dtype=bool
        )


def grid_of(scene: Scene) -> Grid:
    """Where its pixels lie."""
    return Grid(scene.path, scene.height, scene.width, scene.transform, scene.crs)


def _absolute(scene: Scene) -> Scene:
    """With an absolute path, for workers with another working directory."""
    return replace(scene, path=str(Path(scene.path).absolute())) if exists(scene.path) else scene


def _number(value: float) -> float | None:
    """To four digits; None where it is not known."""
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _sharpened_names(coarse: Scene, sharpener: Sharpener) -> list[str]:
    """What messages and reports call the bands that are sharpened."""
    return [coarse.descriptions[at] or f"band {coarse.image_bands[at]}" for at in sharpener.images]


def _warn_of_poor_guide(coarse: Scene, guide: Scene, sharpener: Sharpener) -> None:
    fitted = zip(_sharpened_names(coarse, sharpener), sharpener.fit.quality, strict=True)
    unused = [name for name, quality in fitted if quality.explained == 0]
    if unused and math.isnan(sharpener.fit.quality[0].rmse_alone):
        warn(
            f"'{coarse.path}' and its guide '{guide.path}' share too few valid, unsaturated pixels of the same ground: "
            f"{', '.join(unused)} enlarged without the guide"
        )
    elif unused:
        warn(
            f"'{guide.path}' says nothing about the detail of {', '.join(unused)} of '{coarse.path}': "
            "enlarged without it. Check that it shows the same ground at the same time"
        )
