"""What a plan needs from a worker process, checked there before it receives blocks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from geosegsr.errors import ConfigError, SceneError
from geosegsr.pipeline.job_state import BlockKeeper
from geosegsr.pipeline.plan import Plan
from geosegsr.raster.gdal import renew
from geosegsr.raster.scene import Scene
from geosegsr.raster.window import Window
from geosegsr.sharpening.stack import rasters_of
from geosegsr.tiling.grid import TileGrid
from geosegsr.workers.worker import Capacity

_PROBE_SIDE = 16
# Dask ends a worker process that holds more than this share of its limit.
_MEMORY_SHARE = 0.95


@dataclass(frozen=True)
class Preflight:
    """The check of a worker for one plan; it runs in the worker."""

    planned: Plan
    probe: str
    """Digest of pixels of the source, as read by the machine that planned."""

    keeper: BlockKeeper | None = None
    """What the worker is to keep its blocks with."""

    @classmethod
    def of(cls, planned: Plan, keeper: BlockKeeper | None = None) -> Preflight:
        """The check for a plan, on the machine that planned."""
        return cls(planned, probe(planned.scene, planned.region), keeper)

    def __call__(self, capacity: Capacity) -> str:
        """The kind of device that the worker computes on. The model is loaded and compared when the plan is unpickled."""
        self._check_source()
        if self.keeper is not None:
            self.keeper.check()
        device = self.planned.rendering.upscaler.facts.device
        gpus = int(capacity.gpus) if device == "cuda" else 0
        blocks = min(capacity.threads, gpus) if gpus else capacity.threads
        self._check_memory(blocks, capacity.memory_bytes)
        return device

    def _check_source(self) -> None:
        scene = self.planned.scene
        renew(scene.path)
        if probe(scene, self.planned.region) != self.probe:
            raise SceneError(
                f"Cannot use '{scene.path}': its pixels differ from those of the file that this run was planned with. "
                "Give all workers access to the same file."
            )

    def _check_memory(self, blocks: int, limit: int) -> None:
        planned = self.planned
        resident = psutil.Process().memory_info().rss
        needed = resident + blocks * planned.block_bytes(planned.grid)
        if not limit or needed <= _MEMORY_SHARE * limit:
            return
        side = fitting_block(planned, int((_MEMORY_SHARE * limit - resident) / blocks))
        smaller = "" if side is None else f"Pass --block {side}, or give"
        raise ConfigError(
            f"Cannot compute {blocks} block{'' if blocks == 1 else 's'} of this run at a time in "
            f"{limit / 1e6:,.0f} MB: it takes up to {needed / 1e6:,.0f} MB. "
            f"{smaller or 'Give'} the workers more memory or fewer threads."
        )


def probe(scene: Scene, region: Window) -> str:
    """SHA-256 over a few pixels from the corners and the middle of a region, and their validity."""
    digest = hashlib.sha256()
    for raster in rasters_of(
        scene
    ):  # what is computed of them may differ in its last bits from machine to machine
        for window in _probe_windows(region if raster is scene else raster.window):
            values, valid = raster.read(window)
            digest.update(values.tobytes())
            digest.update(valid.tobytes())
    return digest.hexdigest()


def _probe_windows(region: Window) -> Iterator[Window]:
    height, width = min(_PROBE_SIDE, region.height), min(_PROBE_SIDE, region.width)
    down, right = region.height - height, region.width - width
    for row, col in ((0, 0), (0, right), (down // 2, right // 2), (down, 0), (down, right)):
        yield Window(region.row + row, region.col + col, height, width)


def fitting_block(planned: Plan, budget: int) -> int | None:
    """The largest --block (output pixels) whose blocks take no more than `budget` bytes; None if none does."""
    stride = planned.grid.rows.tile - planned.grid.rows.overlap
    for tiles in range(planned.grid.block // stride, 0, -1):
        grid: TileGrid = planned.grid.with_blocks(tiles * stride)
        if planned.block_bytes(grid) <= budget:
            return tiles * stride * planned.scale
    return None
