"""Real pairs of images on one grid, registered, with the levels of lr, and without ground that has changed.

The lr side keeps its own pixels, because a model will be given such pixels. The hr side is resampled onto the grid of
lr pixels divided into scale x scale.

    shift of the whole -> shifts by tile -> levels and changes -> blur between both -> levels and changes again
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosegsr.errors import SceneError
from geosegsr.imagery.levels import local_levels
from geosegsr.imagery.pair_blur import pair_degradation
from geosegsr.imagery.pair_grid import refuse_misfits, resampled
from geosegsr.imagery.registration import ShiftField, phase_shift, shift_field, warped
from geosegsr.raster.nodata import fill_invalid
from geosegsr.raster.radiometry import Radiometry, resolve_radiometry
from geosegsr.raster.scene import Scene
from geosegsr.sensor.degradation import Degradation, imresize_down

__all__ = ["AlignedPair", "align"]

_LEAST_CORRELATION = 0.2
_TURNED_CORRELATION = (
    0.5  # of an image that was turned or mirrored, from which on this is taken for the reason
)
_LEAST_SAME = 0.05  # share of the ground that must look alike
_LEAST_SHIFT = 0.02  # lr pixels; smaller ones of the whole are left as they are
_LEAST_LOCAL = 0.1  # lr pixels; smaller shifts by tile are no better than their estimate
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
    refuse_misfits(hr, lr, scale)
    pair = _Pair.read(hr, lr, scale, policy, match_levels=match_levels)
    hr_model, seen, shift = pair.registered(max_shift)
    correlation = pair.correlation(hr_model, seen)
    local, same, degradation = ShiftField.none(seen.shape), seen, None
    if by_place:
        local = shift_field(_grey(pair.lr), _grey(imresize_down(hr_model, scale)), seen)
        if local.largest > _LEAST_LOCAL:
            hr_model = warped(hr_model, local, scale)
            seen = seen & (warped(seen[None].astype(np.float32), local, 1)[0] > 0.999)
        hr_model, same, degradation = _levelled_by_place(pair.lr, hr_model, seen, scale, match_levels)
        if same.sum() < _LEAST_SAME * seen.sum():
            raise pair.refused(
                f"only {same.sum() / seen.sum():.0%} of their ground looks alike. Clouds, another season or another place "
                "may be the reason. Pass images of a closer date."
            )
    residual = _shift_between(pair.lr, hr_model, seen, scale)
    hr_model = hr_model.astype(np.float32)
    return AlignedPair(
        pair.name, pair.lr, hr_model, seen, same, shift, residual, local, correlation, degradation
    )


@dataclass(frozen=True)
class _Pair:
    """Both sides, before they lie on each other."""

    hr_scene: Scene
    lr_scene: Scene
    scale: int
    lr: NDArray[np.float32]
    """Shape (C, h, w), in the model's range."""
    lr_mask: NDArray[np.bool_]
    """Shape (h, w)."""
    hr_range: Radiometry | None
    """Of the model's range in DN of hr; None if hr gets the levels of lr."""

    @classmethod
    def read(cls, hr: Scene, lr: Scene, scale: int, policy: dict[str, Any], *, match_levels: bool) -> _Pair:
        """Read the lr side; arguments as of `align`."""
        values, valid = lr.read(lr.window)
        if not valid.any():
            raise SceneError(
                f"Cannot use the pair '{hr.path}' and '{lr.path}': the lr side has no valid pixel."
            )
        model = resolve_radiometry(lr, policy).to_model(fill_invalid(values, valid)).astype(np.float32)
        hr_range = None if match_levels else resolve_radiometry(hr, policy)
        return cls(hr, lr, scale, model, np.asarray(valid.all(axis=0), bool), hr_range)

    @property
    def name(self) -> str:
        """Both paths."""
        return f"{self.hr_scene.path} + {self.lr_scene.path}"

    def refused(self, why: str) -> SceneError:
        """The error of a pair that cannot be used."""
        return SceneError(f"Cannot use the pair '{self.hr_scene.path}' and '{self.lr_scene.path}': {why}")

    def registered(
        self, max_shift: float
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], tuple[float, float]]:
        """The hr side on the grid of lr, what is valid of both, and the shift of the whole that was corrected.

        Raises:
            SceneError: The shift is too large, or there is no ground in common.
        """
        hr, seen = self._laid((0.0, 0.0))
        shift = _shift_between(self.lr, hr, seen, self.scale)
        size = math.hypot(*shift)
        if size > max_shift:
            self._refuse_turned()
            raise self.refused(
                f"they lie {size:.1f} lr pixels apart, and at most {max_shift:g} are corrected. Pass other images, or a "
                "larger --max-shift if they are right."
            )
        if size > _LEAST_SHIFT:
            hr, seen = self._laid(shift)
            rest = _shift_between(self.lr, hr, seen, self.scale)
            # The first estimate was made on other pixels, so it is refined once.
            if _LEAST_SHIFT < math.hypot(*rest) < 0.5:
                shift = (shift[0] + rest[0], shift[1] + rest[1])
                hr, seen = self._laid(shift)
        return hr, seen, shift

    def correlation(self, hr: NDArray[np.float32], seen: NDArray[np.bool_]) -> float:
        """Of both sides at the pixel size of lr.

        Raises:
            SceneError: It is too small for two images of the same ground.
        """
        found = _correlation(_grey(imresize_down(hr, self.scale))[seen], _grey(self.lr)[seen])
        if found < _LEAST_CORRELATION:
            self._refuse_turned()
            raise self.refused(
                f"at the same pixel size they correlate by only {found:.2f}, so they do not seem to show the same ground. "
                "Check which images belong together."
            )
        return found

    def _laid(self, shift: tuple[float, float]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The hr side in the model's range, moved by a shift in lr pixels, and what is valid of both."""
        values, valid = resampled(self.hr_scene, self.lr_scene, self.scale, shift)
        seen = self.lr_mask & _whole_pixels(valid, self.scale)
        if not seen.any():
            raise self.refused("they have no valid pixel in common.")
        if self.hr_range is None:
            return _levelled(values, self.lr, seen, self.scale), seen
        return self.hr_range.to_model(values), seen

    def _refuse_turned(self) -> None:
        """Refuse a pair that would fit if one side were turned or mirrored.

        Raises:
            SceneError: It would.
        """
        hr, seen = self._laid((0.0, 0.0))
        small, base = _grey(imresize_down(hr, self.scale)), _grey(self.lr)
        turned = {
            "turned by 180 degrees": small[::-1, ::-1],
            "mirrored left to right": small[:, ::-1],
            "mirrored top to bottom": small[::-1],
        }
        for how, image in turned.items():
            if _correlation(image[seen], base[seen]) > _TURNED_CORRELATION:
                raise self.refused(
                    f"one of them is {how}, so its georeference is not that of its pixels. Turn the pixels, or correct the "
                    "georeference."
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


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() and b.std() else 0.0
