"""The accessor `.geosegsr` of xarray's objects; importing this module registers it.

import geosegsr.xarray

fine = data.geosegsr.upscale(4)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

import xarray as xr

from geosegsr.models.contract import DEFAULT_MODEL, Upscaler
from geosegsr.pipeline.arrays import super_resolve
from geosegsr.pipeline.options import RenderOptions

__all__ = ["Accessor"]


@xr.register_dataarray_accessor("geosegsr")
@xr.register_dataset_accessor("geosegsr")
class Accessor:
    """`super_resolve` as methods of a DataArray or a Dataset; results are lazy, and of the same kind."""

    def __init__(self, data: Any) -> None:
        """Called by xarray with the object."""
        self._data = data

    def upscale(
        self, scale: int = 4, model: str | Path | Upscaler = DEFAULT_MODEL, **options: Unpack[RenderOptions]
    ) -> Any:
        """Upscale it; see `geosegsr.super_resolve`.

        Args:
            scale: Output pixels per input pixel along each side: 2, 3, 4 or 8.
            model: As for `geosegsr.upscale`.
            **options: See `geosegsr.pipeline.options.RenderOptions`.
        """
        return super_resolve(self._data, scale, model, **options)

    def sharpen(self, guide: xr.DataArray, **options: Unpack[RenderOptions]) -> Any:
        """Sharpen it to the grid of a guide; see `geosegsr.super_resolve`.

        Args:
            guide: A sharper array of the same ground.
            **options: See `geosegsr.pipeline.options.RenderOptions`.
        """
        return super_resolve(self._data, 1, guide=guide, **options)
