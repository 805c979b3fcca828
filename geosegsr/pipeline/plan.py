"""Everything about a run that is known before a pixel is computed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import psutil

from geosegsr.context import begin
from geosegsr.errors import BandError, ConfigError, redacted
from geosegsr.models.catalogue import check_scale, model_at, shared_upscaler
from geosegsr.models.contract import DEFAULT_MODEL, Upscaler, workspace_bytes
from geosegsr.models.ensemble import Ensemble
from geosegsr.pipeline.layout import plan_rendering
from geosegsr.pipeline.opening import open_scene
from geosegsr.pipeline.options import PlanOptions, listed, with_defaults
from geosegsr.pipeline.sensing import ASSUMED, Sensing
from geosegsr.pipeline.suitability import trained_on
from geosegsr.raster.area import Area, area_from_bbox, area_from_geometry, area_from_window
from geosegsr.raster.cog_options import creation_options
from geosegsr.raster.identity import source_identity
from geosegsr.raster.intake import Intake
from geosegsr.raster.metadata import BandMetadata, Metadata
from geosegsr.raster.radiometry import working_dtype
from geosegsr.raster.scene import AlphaPolicy, Scene
from geosegsr.raster.window import Window
from geosegsr.sensor.consistency import Sampling
from geosegsr.sharpening.stack import rasters_of, sharpened_parts
from geosegsr.tiling.grid import TileGrid
from geosegsr.tiling.group import output_bands
from geosegsr.tiling.render import Rendering
from geosegsr.version import __version__
from geosegsr.workers.engine import default_threads, single_core_threads

_SYNTHETIC = (
    "Detail finer than the source's pixels is the model's estimate of what such scenes look like; "
    "it was not measured."
)


@dataclass(frozen=True)
class Plan:
    """Everything about a run that is known before a pixel is computed."""

    scene: Scene
    """The input."""
    area: Area
    """The part to upscale; by default all of it."""
    region: Window
    """The pixels to read: the area with context around it."""
    rendering: Rendering
    """Grid, model, bands and radiometry."""
    model: str | Upscaler
    """Where workers load the model from."""
    device: str
    precision: str
    ensemble: bool
    """Whether the rendering's model is the ensemble of `model`."""
    sensing: Sensing
    """How the scene was imaged."""
    intake: Intake
    """What was decided for the scene."""
    separate: bool = False
    """Whether each band becomes a COG of its own."""

    @property
    def scale(self) -> int:
        return self.rendering.upscaler.facts.scale

    @property
    def grid(self) -> TileGrid:
        return self.rendering.grid

    @cached_property
    def block_windows(self) -> list[Window]:
        """What the blocks cover, in output pixels."""
        row, col = self.region.row - self.area.window.row, self.region.col - self.area.window.col
        return [block.window.shifted(row, col).scaled(self.scale) for block in self.grid.blocks]

    @property
    def has_mask(self) -> bool:
        """Whether the output has a mask: the input has one, or nothing else can mark pixels outside the area."""
        marked = self.scene.nodata is not None or self.scene.alpha_position is not None
        return (
            self.scene.has_mask
            or (self.scene.alpha_band is not None and self.scene.alpha_position is None)
            or (self.area.polygon is not None and not marked)
        )

    @property
    def alpha(self) -> AlphaPolicy:
        """How a band tagged alpha is treated in the output."""
        return "image" if self.scene.alpha_band is None else "mask"

    @property
    def kept_bands(self) -> list[int]:
        """1-based source indices of the output's image bands, in output order."""
        return [self.scene.image_bands[b] for b in output_bands(self.rendering.groups)]

    @property
    def holds_classes(self) -> bool:
        """Whether a band of the output is no image, so that values in between mean nothing."""
        return any(self.intake.kinds[band] != "image" for band in output_bands(self.rendering.groups))

    @cached_property
    def metadata(self) -> Metadata:
        """Metadata of the output, without provenance."""
        scaled = self.scene.metadata.scaled(self.scale, self.area.window)
        bands = tuple(
            b for b in scaled.bands if b.index in self.kept_bands or b.index == self.scene.alpha_band
        )
        return replace(scaled, bands=bands).in_tiff()[0]

    @property
    def output_bytes(self) -> int:
        """Size of the output's pixels, uncompressed, including the uncertainty if it is asked for."""
        metadata, beside = self.metadata, 4 * len(self.kept_bands) if self.rendering.uncertainty else 0
        return metadata.height * metadata.width * (len(metadata.bands) * self.scene.dtype.itemsize + beside)

    @cached_property
    def uncertainty_metadata(self) -> Metadata:
        """Metadata of the COG with the uncertainty: the same ground and bands as the image, in DN."""
        image = self.metadata
        note = (
            "Standard deviation over the results for the eight flips and rotations of a tile, in DN. It ranks where the "
            "model is unsure; it is no calibrated error."
        )
        bands = tuple(
            BandMetadata(
                band.index,
                "undefined",
                f"standard deviation of {band.description or f'band {band.index}'}",
            )
            for band in image.bands
            if band.index in self.kept_bands
        )
        kept = {key: image.tags[key] for key in ("AREA_OR_POINT",) if key in image.tags}
        return replace(
            image, bands=bands, nodata=float("nan"), tags={**kept, **self.tags(), "GEOSEGSR_NOTE": note}
        )

    @property
    def memory_bytes(self) -> int:
        """A rough upper bound for this process: its present memory, model included, and the blocks in flight."""
        return psutil.Process().memory_info().rss + self.threads * self.block_bytes(self.grid)

    @property
    def threads(self) -> int:
        """Blocks that threads of one process compute at a time."""
        facts = self.rendering.upscaler.facts
        return single_core_threads() if facts.linear or facts.device == "cuda" else default_threads()

    def block_bytes(self, grid: TileGrid) -> int:
        """A rough upper bound of the memory that one block of a grid needs while it is computed."""
        rendering = self.rendering
        spans = (
            [axis.grown(start, stop) for start, stop in axis.blocks(grid.block)]
            for axis in (grid.rows, grid.cols)
        )
        height, width = (max(stop - start for start, stop in span) for span in spans)
        pixels = height * width * self.scale**2
        together = max(len(group.bands) for group in rendering.groups) * (2 if rendering.uncertainty else 1)
        compared = 3 if rendering.samplings else 0  # planes beside the one that is compared with the input
        work = working_dtype(self.scene.dtype, rendering.upscaler.facts.linear).itemsize
        tiles = grid.rows.tile * grid.cols.tile * self.scale**2 * rendering.upscaler.facts.batch
        written = len(self.metadata.bands) * self.scene.dtype.itemsize
        if rendering.uncertainty:
            written += len(self.kept_bands) * np.dtype(np.float32).itemsize
        block = pixels * ((together * 3 + compared) * work + written * 3)
        call = workspace_bytes(rendering.upscaler, grid.rows.tile, grid.cols.tile)
        block += self.scene.working_bytes(height, width)
        return block + 3 * tiles * together * work + call

    @property
    def _fingerprints(self) -> list[str]:
        """Of the models that compute the groups of bands."""
        return [upscaler.facts.fingerprint for upscaler in self.rendering.told or (self.rendering.upscaler,)]

    @property
    def computed_on(self) -> str:
        """Where the model computes: "cpu" or "cuda"; "auto" where workers of a cluster choose."""
        facts = self.rendering.upscaler.facts
        return facts.device or ("cpu" if facts.linear else self.device)

    @property
    def computed_in(self) -> str:
        """The precision that the model computes in."""
        facts = self.rendering.upscaler.facts
        double = working_dtype(self.scene.dtype, facts.linear) == np.float64
        return facts.precision or ("fp64" if double else "fp32")

    def tags(self) -> dict[str, str]:
        """Provenance tags of the output, without the secrets of addresses."""
        upscaler, rendering = self.rendering.upscaler, self.rendering
        options = {
            "tile": [self.grid.cols.tile, self.grid.rows.tile],
            "overlap": max(self.grid.cols.overlap, self.grid.rows.overlap),
            "bands": self.kept_bands,
            "window": [
                self.area.window.col,
                self.area.window.row,
                self.area.window.width,
                self.area.window.height,
            ],
        }
        if self.ensemble:
            options["ensemble"] = True
        if rendering.consistent:
            options["consistency"] = True
        through = {g.through for g in rendering.groups}
        if through != {"model"}:
            options["through"] = {
                str(self.scene.image_bands[b]): g.through for g in rendering.groups for b in g.bands
            }
        tags = {
            "GEOSEGSR_VERSION": __version__,
            "GEOSEGSR_MODEL": upscaler.facts.name,
            "GEOSEGSR_MODEL_HASH": ", ".join(dict.fromkeys(self._fingerprints)),
            "GEOSEGSR_DEVICE": self.computed_on,
            "GEOSEGSR_PRECISION": self.computed_in,
            "GEOSEGSR_SCALE": str(upscaler.facts.scale),
            "GEOSEGSR_OPTIONS": json.dumps(options),
            "GEOSEGSR_NOTE": _SYNTHETIC,
        }
        if rendering.radiometry is not None:
            tags["GEOSEGSR_VALUE_RANGE"] = rendering.radiometry.describe()
        if self.intake.decisions:
            tags["GEOSEGSR_INTAKE"] = "; ".join(self.intake.decisions)
        card = upscaler.facts.card
        if card is not None and card.degradation and not upscaler.facts.takes_sensor:
            tags["GEOSEGSR_TRAINED_ON"] = str(trained_on(upscaler.facts))
        if self.sensing.origin != ASSUMED:
            tags["GEOSEGSR_SENSOR"] = self.sensing.describe()
        if sharpened := sharpened_parts(self.scene):
            tags["GEOSEGSR_GUIDE"] = "; ".join(part.describe() for part in sharpened)
        return {key: redacted(value) for key, value in tags.items()}

    def identity(self) -> dict[str, Any]:
        """Everything that decides the pixels and their division into blocks; it identifies a resumable run."""
        rendering = self.rendering
        polygon = self.area.polygon
        keys = [part.key for part in sharpened_parts(self.scene)]
        # Only where they are used: keys of other results stay.
        of_some = {"guide": keys, "separate": self.separate}
        return {name: value for name, value in of_some.items() if value} | {
            "version": __version__,
            "source": source_identity(self.scene.path, self.scene.files),
            "model": self._fingerprints if rendering.told else rendering.upscaler.facts.fingerprint,
            "scale": self.scale,
            "device": self.device,
            "precision": self.precision,
            "bands": [[*g.bands, g.through, g.guide] for g in rendering.groups],
            "source_bands": [*self.scene.image_bands, self.scene.alpha_band, self.scene.alpha_position],
            "nodata": str(self.scene.nodata),
            "range": None
            if rendering.radiometry is None
            else [rendering.radiometry.lo, rendering.radiometry.hi],
            "ensemble": self.ensemble,
            "spread": rendering.uncertainty,  # by this name in the keys of all finished results
            "consistency": _sensor_key(rendering.samplings) if rendering.consistent else None,
            "tile": [self.grid.rows.tile, self.grid.cols.tile],
            "overlap": [self.grid.rows.overlap, self.grid.cols.overlap],
            "block": [
                self.grid.block,
                self.grid.rows.margin,
                *([unit] if (unit := self.grid.rows.unit) else []),
            ],
            "window": asdict(self.area.window),
            "polygon": None if polygon is None else hashlib.sha256(polygon).hexdigest(),
            **({} if rendering.top is None else {"top": rendering.top}),
        }


def _sensor_key(samplings: tuple[Sampling, ...]) -> str:
    return hashlib.sha256(repr([(s.scale, s.weights) for s in samplings]).encode()).hexdigest()[:16]


@listed(PlanOptions)
def plan(
    src: str | Path,
    scale: int = 4,
    model: str | Path | Upscaler = DEFAULT_MODEL,
    *,
    uncertainty: bool = False,
    elsewhere: bool = False,
    creation: Mapping[str, str] | None = None,
    **options: Unpack[PlanOptions],
) -> Plan:
    """Work out what `upscale` with the same arguments would do; nothing is computed or written.

    Args:
        src: A local path or anything GDAL opens.
        scale: Output pixels per input pixel along each side: 2, 3, 4 or 8; 1 to stop at a guide's grid.
        model: A name, a checkpoint file or an Upscaler; see `geosegsr.models.catalogue.resolve_upscaler`.
        uncertainty: Whether to compute the standard deviation over the ensemble, too. Needs `ensemble=True`.
        elsewhere: Whether other machines compute the blocks, so that `device` is one of theirs.
        creation: All creation options of the COG, to which blocks are fitted; the defaults of `upscale` if None.
        **options: See `geosegsr.pipeline.options.PlanOptions`.

    Raises:
        GeoSegSRError: What cannot be done, and what to do about it.
        TypeError: There is no such option.
    """
    chosen = with_defaults(options)
    check_scale(scale, guided=True)  # whether there is a guide, the scene will tell
    scene, intake = open_scene(src, chosen)
    check_scale(scale, guided=chosen["groups"] is not None or len(rasters_of(scene)) > 1)
    model = model_at(scale, model)
    upscaler = _upscaler(model, scale, chosen, uncertainty=uncertainty, elsewhere=elsewhere)
    if chosen["separate"] and scene.alpha_position is not None:
        raise BandError(
            f"Cannot write the bands of '{scene.path}' to files of their own: band {scene.alpha_band} is an alpha band, which "
            "belongs to all of them. Pass --bands without it: each file then gets a mask."
        )
    area = _area(scene, chosen)
    layout = plan_rendering(
        scene, upscaler, area.window, chosen, intake,
        uncertainty=uncertainty, creation=creation_options({}) if creation is None else creation,
    )  # fmt: skip
    return Plan(
        scene,
        area,
        layout.region,
        layout.rendering,
        model,
        chosen["device"],
        chosen["precision"],
        chosen["ensemble"],
        layout.sensing,
        intake,
        chosen["separate"],
    )


def _upscaler(
    model: str | Upscaler, scale: int, options: PlanOptions, *, uncertainty: bool, elsewhere: bool
) -> Upscaler:
    """The model, or the ensemble of it; arguments as of `plan`."""
    ensemble = options["ensemble"]
    if scale == 1 and (ensemble or uncertainty):
        raise ConfigError(
            "Cannot use --ensemble or --uncertainty at --scale 1: no model runs there. Leave them out, or pass --scale 2."
        )
    begin("loading the model")
    device, precision = options["device"], options["precision"]
    upscaler = shared_upscaler(model, scale, device=device, precision=precision, elsewhere=elsewhere)
    if ensemble:
        return Ensemble.of(upscaler)
    if uncertainty:
        raise ConfigError(
            "Cannot write --uncertainty without --ensemble: it is the standard deviation over the ensemble. Pass both."
        )
    return upscaler


def _area(scene: Scene, options: PlanOptions) -> Area:
    aoi, bbox, crs, window = (
        options["aoi"], options["bbox"], options["aoi_crs"], options["window"],
    )  # fmt: skip
    if sum(item is not None for item in (aoi, bbox, window)) > 1:
        raise ConfigError("Cannot combine areas: pass only one of --aoi, --bbox and --window.")
    if crs is not None and aoi is None and bbox is None:
        raise ConfigError("Cannot use --aoi-crs without an area in it: pass --aoi or --bbox as well.")
    if aoi is not None:
        return area_from_geometry(scene, aoi, crs)
    if bbox is not None:
        return area_from_bbox(scene, bbox, crs)
    if window is not None:
        return area_from_window(scene, window)
    return Area(scene.window)
