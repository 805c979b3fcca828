"""An image in memory through a model, as `upscale` computes a file: planned, tiled, rendered and rounded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosegsr.imagery.sources import Floats, SceneSource, Source
from geosegsr.models.contract import Upscaler
from geosegsr.pipeline.layout import plan_rendering
from geosegsr.pipeline.options import with_defaults
from geosegsr.raster.contract import BandHints
from geosegsr.raster.intake import Intake, look_at
from geosegsr.raster.radiometry import Radiometry, to_dtype
from geosegsr.raster.scene import Scene
from geosegsr.raster.window import Window
from geosegsr.sensor.descriptor import SensorDescriptor
from geosegsr.tiling.cache import TileCache, TileMemory
from geosegsr.tiling.grid import TileGrid
from geosegsr.tiling.render import Rendering, render_block

_TILE_BYTES = 256_000_000
_MOST_PLANS = 8  # tiles of one image have up to four sizes


@dataclass(frozen=True)
class _LrImage:
    """The input in memory, as planning sees a raster; all its pixels are valid."""

    path: str
    """Of the image that it shows, for messages."""
    values: NDArray[Any]
    """Shape (bands, h, w), in DN of the image, or in the model's range where no DN are known."""
    scene: Scene | None
    """The whole image, whose value range is that of each part; None for values in the model's range."""
    colours: tuple[str, ...]

    @property
    def height(self) -> int:
        return int(self.values.shape[1])

    @property
    def width(self) -> int:
        return int(self.values.shape[2])

    @property
    def count(self) -> int:
        return int(self.values.shape[0])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values.dtype

    @property
    def nodata(self) -> float | None:
        return None if self.scene is None else self.scene.nodata

    @property
    def scales(self) -> tuple[float, ...]:
        return (1.0,) * self.count if self.scene is None else self.scene.scales

    @property
    def offsets(self) -> tuple[float, ...]:
        return (0.0,) * self.count if self.scene is None else self.scene.offsets

    @property
    def hints(self) -> tuple[BandHints, ...]:
        own = () if self.scene is None else self.scene.hints
        return own or tuple(BandHints(band + 1) for band in range(self.count))

    def read(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        values = self.values[(slice(None), *window.slices)]
        return values, np.ones(values.shape, bool)

    def sample(self) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        if self.scene is None:
            return self.values, np.ones(self.values.shape, bool)
        return self.scene.sample()


class Enlarger:
    """A model with the settings of a run of `upscale`."""

    def __init__(
        self,
        upscaler: Upscaler,
        consistency: bool | None = None,
        sensor: str | Path | SensorDescriptor = "auto",
        value_range: tuple[float, float] | None = None,
        *,
        quantised: bool = True,
    ) -> None:
        """Nothing is computed yet.

        Args:
            upscaler: The model.
            consistency: Whether results are adjusted for consistency with their input; as for `upscale`.
            sensor: How inputs were imaged; estimated for each image by default, as for `upscale`.
            value_range: LO and HI in DN that the model sees as 0 and 1; from its card by default.
            quantised: Whether inputs are those of a file, so that they are whole DN where the image's dtype holds these.
        """
        self.upscaler, self.quantised, self._range = upscaler, quantised, value_range
        self._consistency, self._sensor = consistency, sensor
        self._plans: dict[tuple[str, tuple[int, ...], str], Rendering] = {}

    def __call__(self, source: Source, lr: Floats) -> Floats:
        """Enlarge a part of an image.

        Args:
            source: The image that the part belongs to.
            lr: Its input, shape (C, h, w), in the model's range, without gaps.

        Returns:
            Shape (C, scale*h, scale*w), in the model's range; for a scene rounded and clipped to its dtype.
        """
        return self.render(source, lr)[0]

    def render(self, source: Source, lr: Floats) -> tuple[Floats, TileGrid]:
        """As a call, with the grid of the tiles that the result is made of."""
        sr, grid = self._render(image := self._input(source, lr))
        if not isinstance(source, SceneSource):
            return sr, grid
        if image.scene is None:
            return as_file(sr, source.radiometry, source.scene.dtype), grid
        return source.radiometry.to_model(sr).astype(np.float32), grid

    def values(self, name: str, lr: Floats, colours: tuple[str, ...]) -> Floats:
        """Enlarge values that no file holds.

        Args:
            name: For messages.
            lr: Shape (C, h, w), in the range that the model sees as 0 to 1, without gaps.
            colours: What each band is: "red", "green", "blue" or "nir"; "" where unknown.

        Returns:
            Shape (C, scale*h, scale*w), neither rounded nor clipped.
        """
        return self._render(_LrImage(name, lr, None, colours))[0]

    def _render(self, image: _LrImage) -> tuple[NDArray[Any], TileGrid]:
        """The result in the dtype of the input, and its tiles."""
        rendering = self._plan(image)
        grid, scale = rendering.grid, self.upscaler.facts.scale
        sr = np.empty((image.count, image.height * scale, image.width * scale), image.dtype)
        cache = TileCache(TileMemory(_TILE_BYTES), "") if len(grid.blocks) > 1 else None
        valid = np.ones(image.values.shape, bool)
        for block in grid.blocks:
            read = (slice(None), *grid.source_window(block).slices)
            rendered = render_block(rendering, block, image.values[read], valid[read], valid[read], cache)
            sr[(slice(None), *block.window.scaled(scale).slices)] = rendered.image
        return sr, grid

    def _input(self, source: Source, lr: Floats) -> _LrImage:
        if not isinstance(source, SceneSource):
            return _LrImage(source.name, lr, None, ("",) * len(lr))
        scene = source.scene
        if not self.quantised and scene.dtype.kind != "f":
            return _LrImage(source.name, lr, None, scene.colours)
        return _LrImage(
            source.name, to_dtype(source.radiometry.from_model(lr), scene.dtype), scene, scene.colours
        )

    def _intake(self, image: _LrImage) -> Intake:
        """As of the whole image; what it shows without declaring it is not warned of, since only valid ground is scored."""
        if image.scene is None:
            return Intake.of_images(image.count)
        return replace(look_at(image.scene), collar=None)

    def _plan(self, image: _LrImage) -> Rendering:
        key = image.path, image.values.shape, str(image.dtype)
        if key not in self._plans:
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            self._plans[key] = plan_rendering(
                image,
                self.upscaler,
                Window(0, 0, image.height, image.width),
                with_defaults(
                    {
                        "value_range": (0.0, 1.0) if image.scene is None else self._range,
                        "consistency": self._consistency,
                        "sensor": self._sensor,
                    }
                ),
                self._intake(image),
                measured=False,
            ).rendering
        return self._plans[key]


def as_file(sr: Floats, radiometry: Radiometry, dtype: np.dtype[Any]) -> Floats:
    """What a file of that dtype would hold of values in the model's range: rounded and clipped, back in that range."""
    if dtype.kind == "f":
        return sr
    return radiometry.to_model(to_dtype(radiometry.from_model(sr), dtype)).astype(np.float32)
