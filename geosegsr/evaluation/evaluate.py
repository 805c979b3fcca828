"""How good a model, or a finished file, is: against the truth, its own input, and bicubic interpolation."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosegsr.errors import ConfigError, GeoSegSRWarning, SceneError
from geosegsr.evaluation.metrics import agreement, correctness, crop_border, psnr, quality
from geosegsr.evaluation.seams import file_seam, model_seam
from geosegsr.evaluation.table import HIGHER_IS_BETTER, BandScore, Evaluation, Numbers, Row
from geosegsr.imagery.config import DataConfig
from geosegsr.imagery.find import find_images
from geosegsr.imagery.images import open_images, report_left_out
from geosegsr.imagery.pairs import align, match_images
from geosegsr.imagery.pictures import contact_sheet, write_png
from geosegsr.imagery.sources import PairSource, Patch, SceneSource, Source
from geosegsr.models.catalogue import bundled_checkpoint, resolve_upscaler
from geosegsr.models.contract import BUNDLED, Upscaler
from geosegsr.models.ensemble import Ensemble
from geosegsr.models.interpolation import Interpolator, repeat_pixels
from geosegsr.models.threads import arithmetic_threads, idle_threads
from geosegsr.pipeline.layout import groups_for, samplings_by_band
from geosegsr.raster.bands import bands_alone
from geosegsr.raster.nodata import fill_invalid
from geosegsr.raster.radiometry import Radiometry, resolve_radiometry, to_dtype
from geosegsr.raster.scene import Scene
from geosegsr.raster.window import Window
from geosegsr.sensor.consistency import Sampling, project, quantum_of
from geosegsr.sensor.degradation import Degradation, imresize_down, samplings_of, shall_agree
from geosegsr.tiling.group import group_call

_PICTURES = 6


@dataclass(frozen=True)
class _Measured:
    """One tile."""

    image: str
    group: str
    model: Numbers
    bicubic: Numbers
    bands: tuple[BandScore, ...]


class _Tally:
    """Collects the numbers of tiles, and some tiles to look at."""

    def __init__(self, scale: int, border: int | None, groups: dict[str, str]) -> None:
        self.scale, self.border, self.groups = scale, border, groups
        self.bicubic = Interpolator("bicubic", scale)
        self.measured: list[_Measured] = []
        self._sheet: list[tuple[NDArray[Any], ...]] = []

    @property
    def images(self) -> int:
        return len({tile.image for tile in self.measured})

    def add(
        self,
        image: str,
        patch: Patch,
        sr: NDArray[Any],
        bicubic: NDArray[Any],
        span: float,
        scene: SceneSource | None = None,
    ) -> None:
        """Measure what a model and bicubic made of a tile, by band too where a scene says what the bands are."""
        model, simple = (_numbers(array, patch, self.scale, self.border, span) for array in (sr, bicubic))
        border = self.scale if self.border is None else self.border
        bands = () if scene is None else tuple(_band_scores(scene, sr, bicubic, patch, span, border))
        self.measured.append(_Measured(image, self.groups[image], model, simple, bands))
        if len(self._sheet) < _PICTURES:
            self._sheet.append((repeat_pixels(patch.lr, self.scale), bicubic, sr, patch.hr))

    def draw(self, picture: Path | None) -> None:
        """Write lr, bicubic, sr and hr of the first tiles."""
        if picture is not None:
            write_png(picture, contact_sheet(self._sheet))


def evaluate_model(
    model: str | Path | Upscaler,
    hr: Sequence[str],
    lr: Sequence[str] = (),
    *,
    scale: int | None = None,
    degradation: Degradation | None = None,
    bands: Sequence[int] = (),
    user_range: tuple[float, float] | None = None,
    border: int | None = None,
    tile: int = 1024,
    device: str = "auto",
    precision: str = "auto",
    consistency: bool | None = None,
    ensemble: bool = False,
    picture: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Enlarge images whose truth is known, and measure what comes out.

    Args:
        model: A checkpoint, "bundled", "bicubic" or another interpolation, or an Upscaler.
        hr: Folders, patterns or files of the truth. Subfolders of a folder become groups.
        lr: Real low-resolution counterparts; made by degradation otherwise.
        scale: Output pixels per input pixel; a checkpoint's own by default.
        degradation: hr to lr; the checkpoint's own by default, else bicubic.
        bands: 1-based bands; all by default.
        user_range: LO and HI in DN that the model sees as 0 and 1; from its card by default.
        border: Pixels cropped at each edge; the scale by default.
        tile: Longest side of what is measured at once, in hr pixels; made smaller to fit the model's tile.
        device: As for upscale.
        precision: As for upscale.
        consistency: As for upscale.
        ensemble: As for upscale.
        picture: A PNG of some tiles to write: lr, bicubic, sr, hr.
        progress: Called with (images done, images).

    Raises:
        GeoSegSRError: The model or the images cannot be used.
    """
    if model == BUNDLED:
        model = bundled_checkpoint(scale or 4)
    policy, own_scale, own_degradation = _of_card(model)
    scale = scale or own_scale
    if scale is None:
        raise ConfigError(f"Cannot evaluate '{model}' without its scale. Pass --scale 2, 3, 4 or 8.")
    upscaler = resolve_upscaler(model, scale, device=device, precision=precision)
    if ensemble:
        upscaler = Ensemble.of(upscaler)
    agree = shall_agree(upscaler, consistency)
    samplings = samplings_of(upscaler) if agree else ()
    steady = (degradation or own_degradation or Degradation()).at_rest()
    data = DataConfig(hr=tuple(hr), bands=tuple(bands))
    sources, failures = _sources(data, lr, upscaler, policy, user_range)
    side = max(min(tile, upscaler.facts.tile * scale) // scale, 1) * scale
    tally = _Tally(scale, border, _groups([name for name, _ in sources], hr))
    with arithmetic_threads(idle_threads()):
        for number, (name, source) in enumerate(sources):
            try:
                for patch in _tiles(source, side, scale, steady):
                    simple = _enlarged(tally.bicubic, patch, source)
                    result = _enlarged(upscaler, patch, source, samplings)
                    scene = source if isinstance(source, SceneSource) else None
                    tally.add(name, patch, result, simple, _span(policy, patch), scene)
            except SceneError as error:
                failures.append(str(error))
            if progress is not None:
                progress(number + 1, len(sources))
        report_left_out(failures, len(failures) + tally.images, "cannot be evaluated")
        if not tally.measured:
            raise SceneError("Cannot evaluate: no image has a tile that is at least half valid.")
        seam = model_seam(upscaler, sources, scale, steady)
    tally.draw(picture)
    made = "lr from real pairs" if lr else f"lr by the degradation '{steady.kernel}'"
    ways = [
        way for way, on in (("mean over 8 orientations", ensemble), ("made to agree with lr", agree)) if on
    ]
    return Evaluation(upscaler.facts.name, scale, tuple(_rows(tally.measured)), seam, (made, *ways))


def evaluate_file(
    sr: str | Path,
    hr: str | Path,
    lr: str | Path | None = None,
    *,
    scale: int | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    user_range: tuple[float, float] | None = None,
    border: int | None = None,
    window: int = 1024,
    picture: Path | None = None,
) -> Evaluation:
    """Measure a finished file.

    Args:
        sr: The enlarged raster.
        hr: The truth, on the same grid.
        lr: What was enlarged; made from hr by bicubic reduction otherwise.
        scale: Output pixels per input pixel; from the file's tags by default.
        tile: Side of the tiles it was made of, in lr pixels, for the seam measure; from its tags by default.
        overlap: Pixels that they share; likewise.
        user_range: LO and HI in DN that count as 0 and 1; by dtype, declared scale or percentiles of hr otherwise.
        border: Pixels cropped at each edge; the scale by default.
        window: Longest side of what is measured at once, in hr pixels.
        picture: A PNG to write: lr, bicubic, sr, hr.

    Raises:
        GeoSegSRError: The files do not lie on one grid, or cannot be read.
    """
    result, truth = Scene.open(sr), Scene.open(hr)
    source = None if lr is None else Scene.open(lr)
    scale = scale or _scale_of(result, source)
    _refuse_other_grid(result, truth, source, scale)
    radiometry = resolve_radiometry(truth, {"kind": "auto"}, user_range)
    tally = _Tally(scale, border, {str(sr): "all"})
    with arithmetic_threads(idle_threads()):
        for part in _windows(truth.height, truth.width, window, scale):
            patch, image = _file_patch(result, truth, source, part, scale, radiometry)
            if patch.valid.mean() >= 0.5:
                simple = _as_file(tally.bicubic(patch.lr[None])[0], radiometry, truth.dtype)
                tally.add(str(sr), patch, image, simple, 1.0)
        if not tally.measured:
            raise SceneError(f"Cannot evaluate '{sr}': no part of it is at least half valid on both sides.")
        seam = file_seam(result, radiometry, scale, tile, overlap)
    tally.draw(picture)
    made = f"lr '{lr}'" if lr is not None else "lr by bicubic reduction of hr: pass --lr for the real input"
    notes = (made, f"range {radiometry.describe()}")
    return Evaluation(str(sr), scale, tuple(_rows(tally.measured)), seam, notes)


def _of_card(model: str | Path | Upscaler) -> tuple[dict[str, Any], int | None, Degradation | None]:
    """Radiometry, scale and degradation that a model brings along."""
    if not isinstance(model, str | Path):
        return {"kind": "auto"}, model.facts.scale, None
    if not Path(model).exists():
        return {"kind": "auto"}, None, None
    from geosegsr.models.checkpoint import read_card

    card = read_card(model)
    degradation = None if card.degradation is None else Degradation.from_dict(card.degradation, f"'{model}'")
    return card.radiometry, card.scale, degradation


def _sources(
    data: DataConfig,
    lr: Sequence[str],
    upscaler: Upscaler,
    policy: dict[str, Any],
    user_range: tuple[float, float] | None,
) -> tuple[list[tuple[str, Source]], list[str]]:
    """Images or pairs by name, and a message for each that cannot be used."""
    scale = upscaler.facts.scale
    if user_range is not None:
        policy = {"kind": "range", "lo": user_range[0], "hi": user_range[1]}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*plain pictures", category=GeoSegSRWarning)
        scenes = open_images(find_images(data.hr), data)
        if not lr:
            return [(s.path, SceneSource(s, _policy_for(s, upscaler, policy), scale)) for s in scenes], []
        lr_scenes = open_images(find_images(lr), data)
    matched, failures = match_images(scenes, lr_scenes)
    sources: list[tuple[str, Source]] = []
    for i, j in matched:
        try:
            pair = align(scenes[i], lr_scenes[j], scale, policy, max_shift=data.max_shift, match_levels=True)
        except SceneError as error:
            failures.append(str(error))
            continue
        sources.append((scenes[i].path, PairSource(pair, scale)))
    return sources, failures


def _policy_for(scene: Scene, upscaler: Upscaler, policy: dict[str, Any]) -> dict[str, Any]:
    """Bands that a model sees alone have ranges of their own, as in `upscale`."""
    return {**policy, "apart": bands_alone(groups_for(upscaler, scene.colours, scene.path))}


def _groups(paths: Sequence[str], roots: Sequence[str]) -> dict[str, str]:
    """The first subfolder of each path below the folder that it was found in; "all" where there is none."""
    folders = [Path(root) for root in roots if Path(root).is_dir()]
    groups = {}
    for path in paths:
        below = [Path(path).relative_to(root).parts for root in folders if Path(path).is_relative_to(root)]
        groups[path] = below[0][0] if below and len(below[0]) > 1 else "all"
    return groups


def _tiles(source: Source, side: int, scale: int, degradation: Degradation) -> Iterator[Patch]:
    if isinstance(source, SceneSource):
        height, width = source.scene.height // scale * scale, source.scene.width // scale * scale
    else:
        assert isinstance(source, PairSource)
        height, width = source.pair.hr.shape[1:]
    if min(height, width) < 4 * scale:
        raise SceneError(
            f"Cannot evaluate on '{source.name}': it has {width} x {height} pixels, and needed are at least "
            f"{4 * scale} along each side."
        )
    for number, window in enumerate(_windows(height, width, side, scale)):
        patch = source.cut(window, degradation, np.random.default_rng(number))
        if patch.valid.mean() >= 0.5:
            yield patch


def _windows(height: int, width: int, side: int, scale: int) -> list[Window]:
    """Tiles without overlap, of about one size and at most `side`, on the lr grid; all in hr pixels."""
    most = max(side // scale, 1)
    rows, cols = (_cuts(length // scale, most) for length in (height, width))
    return [Window(a, c, b - a, d - c).scaled(scale) for a, b in rows for c, d in cols]


def _cuts(length: int, most: int) -> list[tuple[int, int]]:
    pieces = max(1, -(-length // most))
    return [(k * length // pieces, (k + 1) * length // pieces) for k in range(pieces)]


def _enlarged(
    upscaler: Upscaler, patch: Patch, source: Source, samplings: tuple[Sampling, ...] = ()
) -> NDArray[Any]:
    """A tile through a model, its bands dealt out as `upscale` does.

    Where samplings of the bands are given, it is brought into agreement with its input.
    """
    sr = np.empty((len(patch.lr), *patch.hr.shape[1:]), np.float32)
    colours = source.scene.colours if isinstance(source, SceneSource) else ("",) * len(patch.lr)
    groups = groups_for(upscaler, colours, source.name)
    for group in groups:
        guide = None if group.guide is None else patch.lr[None, list(group.guide)]
        bands = list(group.bands)
        sr[bands] = group_call(group, upscaler, None)(patch.lr[None, bands], guide)[0]
    if samplings:
        scale = upscaler.facts.scale
        cells = patch.valid.reshape(patch.lr.shape[1], scale, patch.lr.shape[2], scale)
        known = np.logical_and.reduce(cells, axis=(1, 3))
        by_band = samplings_by_band(samplings, groups, len(sr))
        for plane, lr, sampling, step in zip(sr, patch.lr, by_band, _quanta(source, len(sr)), strict=True):
            project(plane, lr, known, sampling, quantum=step)
    if isinstance(source, SceneSource):
        return _as_file(sr, source.radiometry, source.scene.dtype)
    return sr


def _quanta(source: Source, bands: int) -> list[float]:
    """As `upscale` has it for each band, in the model's range."""
    if not isinstance(source, SceneSource):
        return [0.0] * bands
    step = quantum_of(source.scene.dtype)
    return [step / (hi - lo) for lo, hi in zip(source.radiometry.lo, source.radiometry.hi, strict=True)]


def _as_file(sr: NDArray[Any], radiometry: Radiometry, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Rounded and clipped as a file of that dtype would hold it, back in the model's range."""
    if dtype.kind == "f":
        return sr
    return radiometry.to_model(to_dtype(radiometry.from_model(sr.astype(np.float32)), dtype))


def _numbers(sr: NDArray[Any], patch: Patch, scale: int, border: int | None, span: float) -> Numbers:
    """All measures of one tile; those that compare with the input need all of it."""
    valid = None if patch.valid.all() else patch.valid
    found = quality(sr / span, patch.hr / span, scale, border=border, valid=valid)
    if valid is None:
        found |= agreement(sr, patch.lr, scale)
        found |= correctness(sr, patch.hr, patch.lr, scale)
    return found


def _span(policy: dict[str, Any], patch: Patch) -> float:
    """What counts as the full range: 1, or the truth's spread where the model's range has no ends."""
    if policy["kind"] != "standard":
        return 1.0
    low, high = np.percentile(patch.hr[:, patch.valid], [0.1, 99.9])
    return float(max(high - low, 1e-9))


def _band_scores(
    scene: SceneSource, sr: NDArray[Any], bicubic: NDArray[Any], patch: Patch, span: float, border: int
) -> Iterator[BandScore]:
    scale = patch.valid.shape[0] // patch.lr.shape[1]
    valid, hr = crop_border(patch.valid, border), crop_border(patch.hr, border)
    model, simple = (crop_border(image, border) for image in (sr, bicubic))
    sr_dn, lr_dn = (scene.radiometry.from_model(image.astype(np.float64)) for image in (sr, patch.lr))
    for band, name in enumerate(scene.scene.descriptions):
        mean = float(lr_dn[band][patch.valid[::scale, ::scale]].mean())
        numbers = {
            "psnr": psnr(model[[band]], hr[[band]], valid, span),
            "psnr_bicubic": psnr(simple[[band]], hr[[band]], valid, span),
            "mean_shift": float(sr_dn[band][patch.valid].mean()) / mean - 1 if mean else math.nan,
        }
        yield BandScore(name or f"band {band + 1}", numbers)


def _rows(measured: Sequence[_Measured]) -> Iterator[Row]:
    groups = sorted({tile.group for tile in measured})
    if len(groups) > 1:
        for group in groups:
            yield _row(group, [tile for tile in measured if tile.group == group])
    yield _row("all", measured)


def _row(group: str, tiles: Sequence[_Measured]) -> Row:
    images = len({tile.image for tile in tiles})
    model, bicubic = (
        _means([getattr(t, side) for t in tiles], HIGHER_IS_BETTER) for side in ("model", "bicubic")
    )
    return Row(group, images, len(tiles), model, bicubic, tuple(_band_means(tiles)))


def _band_means(tiles: Sequence[_Measured]) -> Iterator[BandScore]:
    """Nothing where images have different bands, which cannot be averaged."""
    if len({tuple(band.name for band in tile.bands) for tile in tiles}) == 1:
        for same in zip(*(tile.bands for tile in tiles), strict=True):
            yield BandScore(same[0].name, _means([band.numbers for band in same], same[0].numbers))


def _means(numbers: Sequence[Numbers], names: Iterable[str]) -> Numbers:
    """Mean of each measure over the tiles where it is defined."""
    means = {}
    for name in names:
        values = [n[name] for n in numbers if name in n and not math.isnan(n[name])]
        if values:
            means[name] = float(np.mean(values))
    return means


def _scale_of(result: Scene, source: Scene | None) -> int:
    tagged = result.metadata.tags.get("GEOSEGSR_SCALE", "")
    if tagged.isdigit():
        return int(tagged)
    if source is not None:
        return max(1, round(result.height / source.height))
    raise ConfigError(
        f"Cannot evaluate '{result.path}': its tags do not say its scale. Pass --scale, or --lr with its input."
    )


def _refuse_other_grid(result: Scene, truth: Scene, source: Scene | None, scale: int) -> None:
    if (result.height, result.width, result.count) != (truth.height, truth.width, truth.count):
        raise ConfigError(
            f"Cannot compare '{result.path}' with '{truth.path}': the first has {result.count} bands of "
            f"{result.width} x {result.height} pixels, the second {truth.count} of {truth.width} x {truth.height}. "
            "Cut or warp the truth to the grid of the result."
        )
    if result.transform is not None and truth.transform is not None:
        corners = [(0, 0), (truth.width, truth.height)]
        off = [(~truth.transform) @ (result.transform @ corner) for corner in corners]
        worst = max(
            abs(a - b)
            for moved, corner in zip(off, corners, strict=True)
            for a, b in zip(moved, corner, strict=True)
        )
        if worst > 0.1:
            raise ConfigError(
                f"Cannot compare '{result.path}' with '{truth.path}': they lie {worst:.2f} pixels apart. "
                "Warp the truth to the grid of the result."
            )
    if source is not None and (source.height * scale, source.width * scale) != (result.height, result.width):
        raise ConfigError(
            f"Cannot evaluate '{result.path}' at scale {scale}: its input '{source.path}' has "
            f"{source.width} x {source.height} pixels. Pass the raster that was enlarged, or another --scale."
        )


def _file_patch(
    result: Scene, truth: Scene, source: Scene | None, part: Window, scale: int, radiometry: Radiometry
) -> tuple[Patch, NDArray[Any]]:
    """A window of all three files in the model's range, and the enlarged image there."""
    arrays, masks = [], []
    for scene in (result, truth):
        values, valid = scene.read(part)
        arrays.append(radiometry.to_model(fill_invalid(values, valid) if valid.any() else values))
        masks.append(valid.all(axis=0))
    if source is None:
        lr = imresize_down(arrays[1], scale)
    else:
        small = Window(part.row // scale, part.col // scale, part.height // scale, part.width // scale)
        values, valid = source.read(small)
        lr = radiometry.to_model(fill_invalid(values, valid) if valid.any() else values)
        masks.append(repeat_pixels(np.all(valid, axis=0), scale))
    whole = np.logical_and.reduce(masks)
    where = f"'{result.path}' at rows {part.row}-{part.row_stop}, columns {part.col}-{part.col_stop}"
    return Patch(lr.astype(np.float32), arrays[1].astype(np.float32), whole, where), arrays[0]
