"""Real pairs of images on one grid, registered, with the levels of lr, and without ground that has changed.

The lr side keeps its own pixels, because a model will be given such pixels. The hr side is resampled onto the grid of
lr pixels divided into scale x scale.

    shift of the whole -> shifts by tile -> levels and changes -> blur between both -> levels and changes again
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
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
from geosegsr.imagery.levels import local_levels
from geosegsr.imagery.pair_blur import pair_degradation
from geosegsr.imagery.registration import ShiftField, phase_shift, shift_field, warped
from geosegsr.models.segsr.config import SCALES
from geosegsr.raster.nodata import fill_invalid
from geosegsr.raster.radiometry import Radiometry, resolve_radiometry
from geosegsr.raster.scene import Scene
from geosegsr.sensor.degradation import Degradation, imresize_down

__all__ = ["AlignedPair", "align"]

_ANY_CRS = "EPSG:3857"  # a stand-in if neither side has a CRS: both are in pixels then
_LEAST_CORRELATION = 0.2
_TURNED_CORRELATION = (
    0.5  # of an image that was turned or mirrored, from which on this is taken for the reason
)
_LEAST_SAME = 0.05  # share of the ground that must look alike
_LEAST_LOCAL = 0.1  # lr pixels; smaller shifts by tile are no better than their estimate
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
    same: NDArray[np.bool_]
    """Shape (h, w), by lr pixels: valid, and the same ground in the same state; what a network can learn from."""
    shift: tuple[float, float]
    """Shift that was corrected: by how much hr had to move onto lr, (rows, cols), in lr pixels."""
    residual: tuple[float, float]
    """The shift that remains."""
    local: ShiftField
    """Shifts by tile that were corrected besides."""
    correlation: float
    """Of both sides at the pixel size of lr, over their valid pixels."""
    degradation: Degradation | None
    """The blur from hr to lr; None if the pair does not show it."""

    @property
    def overlap(self) -> float:
        """Share of lr that shows valid ground of both, 0 to 1."""
        return float(self.valid.mean())

    @property
    def left_out(self) -> float:
        """Share of the valid ground that has changed or could not be registered, 0 to 1."""
        return 1 - float(self.same.sum()) / max(float(self.valid.sum()), 1.0)


def align(
    hr: Scene,
    lr: Scene,
    scale: int,
    policy: dict[str, Any],
    *,
    max_shift: float,
    match_levels: bool,
    by_place: bool = True,
) -> AlignedPair:
    """Resample hr onto the grid of lr, corrected for the shift between them.

    Args:
        hr: High-resolution side.
        lr: Low-resolution side, whose pixels are about `scale` times as large, or larger.
        scale: hr pixels per lr pixel.
        policy: How DN of lr become the model's range; see `resolve_radiometry`.
        max_shift: Largest shift that is corrected, in lr pixels.
        match_levels: Whether hr gets the levels of lr in each band.
        by_place: Whether shifts and levels are found from place to place, and ground that has changed is left out, as for
            training. Otherwise there is one shift, and the mean and standard deviation of the whole, as for evaluation.

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
    as_they_lie = (_grey(imresize_down(hr_model, scale)), _grey(lr_model), seen)
    shift = _shift_between(lr_model, hr_model, seen, scale)
    size = math.hypot(*shift)
    if size > max_shift:
        _refuse_turned(hr, lr, *as_they_lie)
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
    correlation = _correlation(_grey(imresize_down(hr_model, scale))[seen], _grey(lr_model)[seen])
    if correlation < _LEAST_CORRELATION:
        _refuse_turned(hr, lr, *as_they_lie)
        raise SceneError(
            f"Cannot use the pair '{hr.path}' and '{lr.path}': at the same pixel size they correlate by only "
            f"{correlation:.2f}, so they do not seem to show the same ground. Check which images belong together."
        )
    if not by_place:
        residual = _shift_between(lr_model, hr_model, seen, scale)
        none = ShiftField.none(seen.shape)
        model = hr_model.astype(np.float32)
        return AlignedPair(name, lr_model, model, seen, seen, shift, residual, none, correlation, None)
    local = shift_field(_grey(lr_model), _grey(imresize_down(hr_model, scale)), seen)
    if local.largest > _LEAST_LOCAL:
        hr_model = warped(hr_model, local, scale)
        seen = seen & (warped(seen[None].astype(np.float32), local, 1)[0] > 0.999)
    hr_model, same, degradation = _levelled_by_place(lr_model, hr_model, seen, scale, match_levels)
    if same.sum() < _LEAST_SAME * seen.sum():
        raise SceneError(
            f"Cannot use the pair '{hr.path}' and '{lr.path}': only {same.sum() / seen.sum():.0%} of their ground looks "
            "alike. Clouds, another season or another place may be the reason. Pass images of a closer date."
        )
    residual = _shift_between(lr_model, hr_model, seen, scale)
    return AlignedPair(
        name,
        lr_model,
        hr_model.astype(np.float32),
        seen,
        same,
        shift,
        residual,
        local,
        correlation,
        degradation,
    )


def _levelled_by_place(
    lr: NDArray[np.float32], hr: NDArray[np.float32], seen: NDArray[np.bool_], scale: int, match_levels: bool
) -> tuple[NDArray[np.float32], NDArray[np.bool_], Degradation | None]:
    """The hr side with the levels that lr has around each pixel, if these are to match; unchanged ground; the blur between both."""
    first = local_levels(lr, imresize_down(hr, scale), seen)
    degradation = pair_degradation(lr, first.apply(hr, scale), first.same, scale)
    seen_by_lr = (degradation or Degradation()).sample(hr, scale, np.random.default_rng(0))
    levels = local_levels(lr, seen_by_lr, seen)
    return levels.apply(hr, scale) if match_levels else hr, levels.same, degradation


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


def _grey(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of the bands, shape (h, w)."""
    return np.asarray(image.mean(axis=0), np.float32)


def _refuse_turned(
    hr: Scene, lr: Scene, small: NDArray[np.float32], base: NDArray[np.float32], seen: NDArray[np.bool_]
) -> None:
    """Refuse a pair that would fit if one side were turned or mirrored.

    Raises:
        SceneError: It would.
    """
    turned = {
        "turned by 180 degrees": small[::-1, ::-1],
        "mirrored left to right": small[:, ::-1],
        "mirrored top to bottom": small[::-1],
    }
    for how, image in turned.items():
        if _correlation(image[seen], base[seen]) > _TURNED_CORRELATION:
            raise SceneError(
                f"Cannot use the pair '{hr.path}' and '{lr.path}': one of them is {how}, so its georeference is not that "
                "of its pixels. Turn the pixels, or correct the georeference."
            )


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() and b.std() else 0.0
