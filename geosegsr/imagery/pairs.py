"""Real pairs of images: which belong together, and both on one grid.

The lr side keeps its own pixels, because a model will be given such pixels. The hr side is resampled onto the grid of
lr pixels divided into scale x scale. Phase correlation finds the shift between both, which is corrected.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.warp import reproject

from geosegsr.errors import BandError, ConfigError, SceneError
from geosegsr.imagery.ground import footprint
from geosegsr.imagery.registration import phase_shift
from geosegsr.models.segsr.config import SCALES
from geosegsr.raster.nodata import fill_invalid
from geosegsr.raster.radiometry import Radiometry, resolve_radiometry
from geosegsr.raster.scene import Scene
from geosegsr.sensor.degradation import imresize_down

__all__ = ["AlignedPair", "align", "match_images"]

_ANY_CRS = "EPSG:3857"  # a stand-in if neither side has a CRS: both are in pixels then
_LEAST_CORRELATION = 0.2
_TOLERANCE = 0.05  # of the ratio of pixel sizes, which pairs of two sensors meet only roughly
_WINDOW = 1024  # side, in lr pixels, of the square in which the shift is estimated


@dataclass(frozen=True)
class AlignedPair:
    """Two images of the same ground on one grid."""

    name: str
    """Both paths."""
    lr: NDArray[np.float32]
    """Shape (C, h, w), in the model's range; invalid pixels filled from their neighbours."""
    hr: NDArray[np.float32]
    """Shape (C, scale*h, scale*w), in the model's range; likewise filled."""
    valid: NDArray[np.bool_]
    """Shape (h, w), by lr pixels: valid on both sides."""
    shift: tuple[float, float]
    """Shift that was corrected: by how much hr had to move onto lr, (rows, cols), in lr pixels."""
    residual: tuple[float, float]
    """The shift that remains."""


def match_images(hr: Sequence[Scene], lr: Sequence[Scene]) -> tuple[list[tuple[int, int]], list[str]]:
    """Find the lr image of each hr image: the one of the same name, else one of the same ground.

    If several show the same ground (dates, bands), the one with the most similar name is taken.

    Returns:
        Positions (hr, lr), and a message for each hr image that has no counterpart.
    """
    by_name = {Path(scene.path).stem: index for index, scene in enumerate(lr)}
    outlines = [footprint(scene) for scene in lr]
    pairs, alone = [], []
    for i, scene in enumerate(hr):
        name = Path(scene.path).stem
        j = by_name.get(name)
        if j is None:
            outline = footprint(scene)
            same_ground = [
                k
                for k, other in enumerate(outlines)
                if outline is not None
                and other is not None
                and outline.intersection(other).area > 0.2 * min(outline.area, other.area)
            ]
            j = max(same_ground, key=lambda k: _similarity(name, Path(lr[k].path).stem), default=None)
        if j is None:
            alone.append(f"'{scene.path}' has no lr image of its name or ground.")
        else:
            pairs.append((i, j))
    return pairs, alone


def align(
    hr: Scene, lr: Scene, scale: int, policy: dict[str, Any], *, max_shift: float, match_levels: bool
) -> AlignedPair:
    """Resample hr onto the grid of lr, corrected for the shift between them.

    Args:
        hr: High-resolution side.
        lr: Low-resolution side, whose pixels are about `scale` times as large, or larger.
        scale: hr pixels per lr pixel.
        policy: How DN of lr become the model's range; see `resolve_radiometry`.
        max_shift: Largest shift that is corrected, in lr pixels.
        match_levels: Whether hr gets the mean and standard deviation of lr in each band.

    Raises:
        BandError: Both sides differ in their number of bands.
        ConfigError: The pixel sizes do not fit the scale, or lr and hr are swapped.
        SceneError: They show different ground, lie too far apart, or cannot be read.
    """
    name = f"{hr.path} + {lr.path}"
    _refuse_misfits(hr, lr, scale)
    lr_values, lr_valid = lr.read(lr.window)
    if not lr_valid.any():
        raise SceneError(f"Cannot use the pair '{hr.path}' and '{lr.path}': the lr side has no valid pixel.")
    radiometry = resolve_radiometry(lr, policy)
    lr_model = radiometry.to_model(fill_invalid(lr_values, lr_valid)).astype(np.float32)
    lr_mask = lr_valid.all(axis=0)
    hr_range = None if match_levels else resolve_radiometry(hr, policy)

    def laid(shift: tuple[float, float]) -> tuple[Any, Any]:
        values, valid = _resampled(hr, lr, scale, shift)
        seen = lr_mask & _whole_pixels(valid, scale)
        if not seen.any():
            raise SceneError(
                f"Cannot use the pair '{hr.path}' and '{lr.path}': they have no valid pixel in common."
            )
        if hr_range is None:
            return _levelled(values, lr_model, seen, scale), seen
        return hr_range.to_model(values), seen

    hr_model, seen = laid((0.0, 0.0))
    shift = _shift_between(lr_model, hr_model, seen, scale)
    size = math.hypot(*shift)
    if size > max_shift:
        raise SceneError(
            f"Cannot use the pair '{hr.path}' and '{lr.path}': they lie {size:.1f} lr pixels apart, and at "
            f"most {max_shift:g} are corrected. Pass other images, or a larger --max-shift if they are right."
        )
    if size > 0.02:
        hr_model, seen = laid(shift)
        rest = _shift_between(lr_model, hr_model, seen, scale)
        # The first estimate was made on other pixels, so it is refined once.
        if 0.02 < math.hypot(*rest) < 0.5:
            shift = (shift[0] + rest[0], shift[1] + rest[1])
            hr_model, seen = laid(shift)
    _refuse_other_ground(hr, lr, lr_model, hr_model, seen, scale)
    residual = _shift_between(lr_model, hr_model, seen, scale)
    return AlignedPair(name, lr_model, hr_model.astype(np.float32), seen, shift, residual)


def _similarity(a: str, b: str) -> float:
    return SequenceMatcher(None, a, b).ratio()


def _refuse_misfits(hr: Scene, lr: Scene, scale: int) -> None:
    if hr.count != lr.count:
        raise BandError(
            f"Cannot use the pair '{hr.path}' and '{lr.path}': they have {hr.count} and {lr.count} bands. "
            "Pass --bands with bands that both have."
        )
    ratio = _pixel_ratio(hr, lr)
    if ratio >= scale * (1 - _TOLERANCE):
        return  # finer hr pixels than the scale needs are aggregated
    if abs(ratio * scale - 1) <= 0.05:
        raise ConfigError(
            f"Cannot use the pair '{hr.path}' and '{lr.path}': the pixels of the first are {scale} "
            "times as large as those of the second. lr and hr look swapped: exchange --hr and --lr."
        )
    smaller = [number for number in SCALES if ratio >= number * (1 - _TOLERANCE)]
    needed = f"Pass --scale {smaller[-1]}, or finer hr images" if smaller else "Pass finer hr images"
    raise ConfigError(
        f"Cannot use the pair '{hr.path}' and '{lr.path}' at scale {scale}: lr pixels are only {ratio:.3g} "
        f"times as large as hr pixels. {needed}."
    )


def _pixel_ratio(hr: Scene, lr: Scene) -> float:
    """Ratio of the sides of an lr pixel and an hr pixel on the ground; NaN if it cannot be told."""
    if hr.crs is not None and hr.crs == lr.crs and hr.transform is not None and lr.transform is not None:
        return math.sqrt(abs(lr.transform.determinant / hr.transform.determinant))
    fine, coarse = footprint(hr), footprint(lr)
    if fine is not None and coarse is not None:
        pixels = fine.area / (hr.height * hr.width), coarse.area / (lr.height * lr.width)
        return math.sqrt(pixels[1] / pixels[0])
    rows, cols = hr.height / lr.height, hr.width / lr.width
    return rows if abs(rows / cols - 1) < 0.02 else math.nan


def _resampled(
    hr: Scene, lr: Scene, scale: int, shift: tuple[float, float]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The hr side on the fine grid of lr, moved by `shift` lr pixels (rows, cols).

    Returns:
        Values (C, H, W) and validity (H, W).
    """
    placed = (
        hr.transform is not None and lr.transform is not None and hr.crs is not None and lr.crs is not None
    )
    source = hr.transform if placed else _unplaced(hr, lr, scale)
    grid = (lr.transform if placed else Affine.identity()) @ Affine.scale(1 / scale)
    grid = grid @ Affine.translation(-shift[1] * scale, -shift[0] * scale)
    values, valid = hr.read(hr.window)
    mask = valid.all(axis=0)
    shape = (lr.height * scale, lr.width * scale)
    filled = fill_invalid(values, valid) if valid.any() else values
    out = np.zeros((hr.count, *shape), np.float32)
    out_mask = np.zeros(shape, np.float32)
    places: dict[str, Any] = {
        "src_transform": source,
        "dst_transform": grid,
        "src_crs": hr.crs if placed else _ANY_CRS,
        "dst_crs": lr.crs if placed else _ANY_CRS,
        "tolerance": 0,
    }
    try:
        with rasterio.Env(), _quiet():
            reproject(filled.astype(np.float32), out, resampling=Resampling.cubic, **places)
            reproject(mask.astype(np.float32), out_mask, resampling=Resampling.bilinear, **places)
    except RasterioError as error:
        raise SceneError(f"Cannot resample '{hr.path}' onto the grid of '{lr.path}': {error}.") from error
    inside = np.greater(out_mask, 0.999)
    whole = fill_invalid(out, np.broadcast_to(inside, out.shape)) if inside.any() else out
    return whole, np.asarray(inside, bool)


def _unplaced(hr: Scene, lr: Scene, scale: int) -> Affine:
    """From hr pixels to lr pixels where only the sizes tell; a few pixels more or less at the end do not count."""
    ratio = _pixel_ratio(hr, lr)
    return Affine.scale(1 / (scale if abs(ratio / scale - 1) <= _TOLERANCE else ratio))


def _quiet() -> Any:
    catcher = warnings.catch_warnings()
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    return catcher


def _whole_pixels(valid: NDArray[np.bool_], scale: int) -> NDArray[np.bool_]:
    """The lr pixels whose hr pixels are all valid."""
    h, w = valid.shape
    whole = valid.reshape(h // scale, scale, w // scale, scale)
    return np.asarray(whole.all(axis=(1, 3)), bool)


def _levelled(
    hr: NDArray[np.float32], lr: NDArray[np.float32], seen: NDArray[np.bool_], scale: int
) -> NDArray[np.float32]:
    """The hr side with the mean and standard deviation of lr in each band, both measured on valid lr pixels."""
    small = imresize_down(hr, scale)[:, seen].astype(np.float64)
    wanted = lr[:, seen].astype(np.float64)
    gain = wanted.std(axis=1) / np.maximum(small.std(axis=1), 1e-12)
    gain = np.where(gain > 0, gain, 1.0)
    lo = small.mean(axis=1) - wanted.mean(axis=1) / gain
    ranges = Radiometry(tuple(lo.tolist()), tuple((lo + 1 / gain).tolist()), "matched to lr")
    return np.asarray(ranges.to_model(hr), np.float32)


def _shift_between(
    lr: NDArray[np.float32], hr: NDArray[np.float32], seen: NDArray[np.bool_], scale: int
) -> tuple[float, float]:
    """The shift that moves hr onto lr: (rows, cols), in lr pixels."""
    box = _middle(seen)
    small = imresize_down(hr, scale)[:, *box].mean(axis=0)
    base = lr[:, *box].mean(axis=0)
    inside = seen[box]
    filled = [np.where(inside, image, image[inside].mean()) for image in (base, small)]
    return phase_shift(filled[0], filled[1])


def _middle(seen: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The middle of the valid pixels, at most `_WINDOW` pixels a side."""
    rows, cols = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    spans = []
    for found in (rows, cols):
        first, last = int(found[0]), int(found[-1]) + 1
        spare = max(0, last - first - _WINDOW) // 2
        spans.append(slice(first + spare, last - spare))
    return spans[0], spans[1]


def _refuse_other_ground(
    hr: Scene,
    lr: Scene,
    lr_model: NDArray[np.float32],
    hr_model: NDArray[np.float32],
    seen: NDArray[np.bool_],
    scale: int,
) -> None:
    a = imresize_down(hr_model, scale)[:, seen].mean(axis=0)
    b = lr_model[:, seen].mean(axis=0)
    correlation = float(np.corrcoef(a, b)[0, 1]) if a.std() and b.std() else 0.0
    if correlation < _LEAST_CORRELATION:
        raise SceneError(
            f"Cannot use the pair '{hr.path}' and '{lr.path}': at the same pixel size they correlate by only "
            f"{correlation:.2f}, so they do not seem to show the same ground. Check which images belong together."
        )
