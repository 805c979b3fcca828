"""Patches, validation tiles and notes, from the configuration of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from geosegsr.errors import ConfigError, SceneError
from geosegsr.evaluation.table import counted
from geosegsr.imagery.config import SourceConfig
from geosegsr.imagery.find import find_images
from geosegsr.imagery.ground import Part, find_overlaps, split_by_place, whole
from geosegsr.imagery.images import one_range, open_images, radiometry_policy, report_left_out
from geosegsr.imagery.pairs import AlignedPair
from geosegsr.imagery.sources import PairSource, Patch, SceneSource, Source
from geosegsr.notices import kept_notices, warn
from geosegsr.pipeline.suitability import is_clean
from geosegsr.raster.bands import band_key
from geosegsr.raster.scene import Scene
from geosegsr.sensor.degradation import Degradation
from geosegsr.sensor.descriptor import SensorDescriptor
from geosegsr.training.config import AUTO_PRESET, TrainConfig
from geosegsr.training.grouped import GroupedPatches, Grouping
from geosegsr.training.mixture import Mixture, NumberedPatches
from geosegsr.training.pairing import Pairs, aligned_pairs
from geosegsr.training.patches import Patches, keep_in_memory, validation_tiles
from geosegsr.training.sensing import degradation_of, find_sensor
from geosegsr.training.sharpness import report_soft_images
from geosegsr.training.start import grouping_of

_CLEAN = 0.3
"""Share of sharp and clean lr where the sensor was found and is told; below one half, validation is of the sensor."""
_FEW = 4
"""With fewer validation tiles than this, small differences between scores mean little."""


@dataclass(frozen=True)
class Dataset:
    """The data of a run."""

    patches: NumberedPatches
    """Training patches."""
    tiles: tuple[Patch, ...]
    """Validation tiles; may be empty."""
    policy: dict[str, Any]
    """Radiometry: how DN map to the model's value range; written into the card."""
    bands: int
    """Number of bands of an image."""
    band_names: tuple[str | None, ...]
    """Descriptions of the bands; None where the images give none."""
    colours: tuple[str, ...]
    """What each band is: "red", "green", "blue" or "nir"; "" where the images do not say."""
    band_keys: tuple[str, ...]
    """What each band is, as in `raster.bands.band_key`; "" where the images do not say."""
    dtype: str
    """Data type of the model's input images."""
    resolution_m: float | None
    """Side of an lr pixel on the ground, in metres; None without a projected CRS."""
    notes: tuple[str, ...]
    """For the user: counts, shifts, images held in memory."""
    notices: tuple[str, ...] = ()
    """What the user was warned of, such as files that are left out."""
    degradation: Degradation | None = None
    """How lr is made of the images of one kind, or was in real pairs; None for images of several kinds, or if unknown."""
    sensor: SensorDescriptor | None = None
    """What was found of the sensor from the images; None if it was not looked for, or is not to be seen."""
    pairs: Pairs | None = None
    """Real pairs that are trained on; None where lr is made."""
    grouping: Grouping | None = None
    """How the bands go through a network of other bands; None where it takes all together."""

    @property
    def network_bands(self) -> tuple[str, ...]:
        """What each band of the network is; "" where unknown."""
        return self.band_keys if self.grouping is None else tuple(map(band_key, self.grouping.band_names))


def prepare_data(config: TrainConfig) -> Dataset:
    """Open, check and split all images. Nothing is written.

    Raises:
        SceneError: No image can be read, or no place is free of nodata.
        BandError: The images differ in their bands.
        ConfigError: The images do not fit each other, the patch size or the scale.
    """
    with kept_notices() as notices:
        if config.data.sources:
            data = _mixture(config)
        else:
            data = _grouped(config, _pairs(config) if config.data.lr else _scenes(config))
    return replace(data, notices=tuple(notices))


def _grouped(config: TrainConfig, data: Dataset) -> Dataset:
    """The data as a network takes it that keeps the bands of its start, where the images have others."""
    grouping = grouping_of(config.model, data.colours)
    policy = one_range(data.policy)
    if grouping is None or policy is None:
        return data
    patches = GroupedPatches(data.patches, grouping, config.seed)
    return replace(data, patches=patches, policy=policy, grouping=grouping)


def as_found(config: TrainConfig, data: Dataset) -> TrainConfig:
    """The run with what was left to find out from its images: how lr is made, and the network that suits such lr."""
    if data.pairs is None and data.degradation is not None:
        config = replace(config, degradation=data.degradation, find_sensor=False)
    if config.model.preset == AUTO_PRESET:
        name = "compact" if has_clean_lr(config, data) else "compact-sensor"
        config = replace(config, model=replace(config.model, preset=name))
    return config


def has_clean_lr(config: TrainConfig, data: Dataset) -> bool:
    """Whether lr is as sharp and clean as far as is known; a network is told that real lr are."""
    if data.pairs is not None or data.degradation is None:
        return True
    return is_clean(SensorDescriptor.of_degradation(data.degradation, config.model.scale))


def _scenes(config: TrainConfig) -> Dataset:
    data, scale = config.data, config.model.scale
    scenes = open_images(find_images(data.hr), data)
    policy = radiometry_policy(scenes, data, config.seed)
    sensor = find_sensor(scenes, policy, scale) if config.find_sensor else None
    if sensor is not None:
        config = replace(config, degradation=_with_clean(config, degradation_of(sensor, scenes[0])))
    sources = [SceneSource(scene, policy, scale) for scene in scenes]
    notes = [f"{counted(len(scenes), 'image')}, {counted(scenes[0].count, 'band')} of {scenes[0].dtype}"]
    if data.val:
        val_scenes = open_images(find_images(data.val), data)
        _refuse_other_kind(scenes[0], val_scenes[0], "--val")
        _report_overlaps(scenes, val_scenes)
        val_sources = [SceneSource(scene, policy, scale) for scene in val_scenes]
        train_parts, val_parts = _wholes(scenes, scale), _wholes(val_scenes, scale)
    else:
        val_sources = sources
        train_parts, val_parts = split_by_place(
            scenes, data.val_share, scale, data.patch * scale, config.seed
        )
        notes.append(_describe_split(train_parts, val_parts))
    held, train_parts = _readable(sources, train_parts, data.cache_gb)
    others = "" if held == len(sources) else ", the others read by windows"
    notes.append(f"{held} of {counted(len(sources), 'image')} held in memory{others}")
    patches = Patches(sources, train_parts, data, config.degradation, scale, config.seed, config.told_error)
    _report_gaps(patches)
    report_soft_images(sources, train_parts, scale)
    tiles = _tiles(config, val_sources, val_parts)
    found = _dataset(patches, tiles, policy, scenes[0], scale, notes)
    return replace(found, degradation=config.degradation, sensor=sensor)


def _with_clean(config: TrainConfig, made: Degradation) -> Degradation:
    """A degradation that was found from the images, with a share of patches that it leaves out.

    A network that is told of the sensor sees sharp and clean lr, too: otherwise it forgets what it did with these.
    """
    clean = is_clean(SensorDescriptor.of_degradation(made, config.model.scale))
    untold = config.model.preset not in (AUTO_PRESET, "compact-sensor")
    return made if clean or untold else replace(made, clean=_CLEAN)


def _mixture(config: TrainConfig) -> Dataset:
    """Images of several kinds, each image by its own range; validated on images of the first kind."""
    data, scale = config.data, config.model.scale
    sets, notes = [], []
    for part in data.sources:
        own = replace(
            data,
            sources=(),
            hr=part.hr,
            bands=part.bands,
            nodata=part.nodata,
            grey=part.grey,
            shuffle_bands=part.shuffle_bands,
        )
        scenes = open_images(find_images(part.hr), own)
        sources = [
            SceneSource(scene, _policy_of(part, scene), scale, part.blur, part.zoom) for scene in scenes
        ]
        _, parts = _readable(sources, _wholes(scenes, scale), data.cache_gb / len(data.sources))
        degradation = part.degradation or config.degradation
        sets.append(Patches(sources, parts, own, degradation, scale, config.seed, config.told_error))
        _report_gaps(sets[-1])
        notes.append(
            f"{part.share:g} shares: {counted(len(scenes), 'image')} of {', '.join(part.hr)}, {scenes[0].count} bands of "
            f"{scenes[0].dtype}"
        )
        if len(sets) == 1:
            example = scenes[0]
    val_scenes = open_images(find_images(data.val), replace(data, bands=data.sources[0].bands))
    _refuse_other_kind(example, val_scenes[0], "--val")
    policy = {"kind": "auto"}
    mixed = Mixture(sets, [part.share for part in data.sources], example.count, config.seed)
    val_sources = [SceneSource(scene, policy, scale) for scene in val_scenes]
    val_parts = _wholes(val_scenes, scale)
    tiles = _tiles(config, val_sources, val_parts)
    return _dataset(mixed, tiles, policy, example, scale, notes)


def _pairs(config: TrainConfig) -> Dataset:
    data, scale = config.data, config.model.scale
    found = aligned_pairs(config, data.hr, data.lr, None)
    notes = found.table
    sources = [PairSource(pair, scale) for pair in found.pairs]
    parts = [Part(i, _extent(pair)) for i, pair in enumerate(found.pairs)]
    val_sources: Sequence[Source] = sources
    if data.val:
        if not data.val_lr:
            raise ConfigError("Cannot validate on '--val' without its lr side: pass --val-lr too.")
        val = aligned_pairs(config, data.val, data.val_lr, found.policy)
        _report_overlaps(found.scenes, val.scenes)
        val_sources = [PairSource(pair, scale) for pair in val.pairs]
        val_parts = [Part(i, _extent(pair)) for i, pair in enumerate(val.pairs)]
        notes = [*notes, "to validate:", *val.table]
    else:
        grids = [_OnLrGrid(pair, scene) for pair, scene in zip(found.pairs, found.scenes, strict=True)]
        parts, val_parts = split_by_place(grids, data.val_share, scale, data.patch * scale, config.seed)  # type: ignore[arg-type]
        notes = [*notes, _describe_split(parts, val_parts)]
    patches = Patches(sources, parts, data, config.degradation, scale, config.seed)
    _report_gaps(patches)
    report_soft_images(sources, parts, scale)
    tiles = _tiles(config, val_sources, val_parts)
    return replace(
        _dataset(patches, tiles, found.policy, found.example, 1, notes),
        pairs=found,
        degradation=found.degradation,
    )


def _tiles(config: TrainConfig, sources: Sequence[Source], parts: Sequence[Part]) -> tuple[Patch, ...]:
    """The tiles that a run validates on; warns of those that cannot be read."""
    tiles, failures = validation_tiles(
        sources,
        parts,
        config.degradation,
        config.model.scale,
        tile=config.validation.tile,
        most=config.validation.tiles,
    )
    if failures:
        warn(f"{len(failures)} validation tiles cannot be read: {failures[0].rstrip('.')}")
    if parts and not tiles:
        raise SceneError(
            "Cannot validate: no validation tile can be read and is at least half valid. "
            "Pass --val with other images."
        )
    return tuple(tiles)


def _dataset(
    patches: NumberedPatches,
    tiles: tuple[Patch, ...],
    policy: dict[str, Any],
    example: Scene,
    coarser: int,
    notes: list[str],
) -> Dataset:
    """All that a run reads; the lr pixels are `coarser` times as large as those of the example."""
    notes.append(
        f"{counted(patches.places, 'place')} for patches in {counted(patches.images, 'image')}; "
        f"{counted(len(tiles), 'tile')} to validate"
    )
    if 0 < len(tiles) < _FEW:
        notes.append(
            "small differences between scores of so few tiles mean little: --val with other places adds tiles"
        )
    return Dataset(
        patches=patches,
        tiles=tiles,
        policy=policy,
        bands=example.count,
        band_names=example.descriptions,
        colours=example.colours,
        band_keys=tuple(map(band_key, example.descriptions, example.colours)),
        dtype=str(example.dtype),
        resolution_m=_metres(example, coarser),
        notes=tuple(notes),
    )


def _policy_of(part: SourceConfig, scene: Scene) -> dict[str, Any]:
    if part.radiometry == "bands":
        return {"kind": "percentiles", "apart": range(scene.count)}
    return {"kind": part.radiometry}


def _readable(
    sources: Sequence[SceneSource], parts: Sequence[Part], cache_gb: float
) -> tuple[int, list[Part]]:
    """Number of images held in memory, and the parts of readable images."""
    held, unreadable = keep_in_memory(sources, cache_gb)
    report_left_out(unreadable, len(sources), "cannot be read")
    failed = _failed(unreadable, sources)
    return held, [part for part in parts if sources[part.image].name not in failed]


def _report_gaps(patches: Patches) -> None:
    if patches.left_out:
        warn(f"left out of training: {' '.join(patches.left_out[:4]).rstrip('.')}")


class _OnLrGrid:
    """The grid of a pair, with the attributes that split_by_place reads."""

    def __init__(self, pair: AlignedPair, scene: Scene) -> None:
        self.path, self.crs, self.transform = pair.name, scene.crs, scene.transform
        self.height, self.width = pair.hr.shape[1:]


def _extent(pair: AlignedPair) -> Any:
    from geosegsr.raster.window import Window

    return Window(0, 0, *pair.hr.shape[1:])


def _wholes(scenes: Sequence[Scene], scale: int) -> list[Part]:
    return [Part(i, whole(scene, scale)) for i, scene in enumerate(scenes)]


def _refuse_other_kind(train: Scene, val: Scene, option: str) -> None:
    if (train.count, train.dtype) != (val.count, val.dtype):
        raise ConfigError(
            f"Cannot validate on '{val.path}': it has {val.count} bands of {val.dtype}, and the training "
            f"images have {train.count} of {train.dtype}. Pass {option} with images of the same kind."
        )


def _report_overlaps(train: Sequence[Scene], val: Sequence[Scene]) -> None:
    found = find_overlaps(train, val)
    if found:
        i, j = found[0]
        warn(
            f"{len({j for _, j in found})} of {len(val)} validation images show ground that is trained on, "
            f"such as '{val[j].path}' and '{train[i].path}': their numbers will look better than they are"
        )


def _failed(messages: Sequence[str], sources: Sequence[SceneSource]) -> set[str]:
    return {source.name for source in sources if any(f"'{source.name}'" in message for message in messages)}


def _describe_split(train: Sequence[Part], val: Sequence[Part]) -> str:
    pixels = [sum(part.window.height * part.window.width for part in parts) for parts in (train, val)]
    share = pixels[1] / max(sum(pixels), 1)
    return (
        f"split by ground: {counted(len(train), 'part')} to train on, {len(val)} to validate on "
        f"({share:.0%} of the pixels)"
    )


def _metres(scene: Scene, coarser: int) -> float | None:
    """Side of an lr pixel in metres; None for degrees or unknown units."""
    if scene.crs is None or scene.resolution is None or not scene.crs.is_projected:
        return None
    return float(np.mean(scene.resolution)) * coarser * float(scene.crs.linear_units_factor[1])
