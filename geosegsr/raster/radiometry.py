"""From digital numbers (DN) to the range a model sees, and back to the file's dtype.

There is one range for the whole scene. It never depends on a tile: two tiles with different ranges would meet at a
visible step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from geosegsr.errors import ConfigError, SceneError
from geosegsr.models.contract import FloatArray
from geosegsr.notices import warn
from geosegsr.raster.contract import Raster
from geosegsr.raster.strips import strips

DEFAULT_PERCENTILES = (0.1, 99.9)
DECLARED = "declared scale and offset, reflectance 0..1"
"""Where the range comes from if all bands declare reflectance."""
_NO_MEASUREMENT = 1e38
"""Floats beyond this mark pixels without data, whatever the file declares: ArcGIS writes -3.4028235e+38."""


@dataclass(frozen=True)
class Radiometry:
    """A linear map of each band from DN to the model's range: lo becomes 0 and hi becomes 1."""

    lo: tuple[float, ...]
    """DN that becomes 0, one for each band."""
    hi: tuple[float, ...]
    """DN that becomes 1, one for each band."""
    origin: str = "given"
    """Where the range comes from, in words for the log and the tags."""

    def __post_init__(self) -> None:
        pairs = list(zip(self.lo, self.hi, strict=True))
        if not all(np.isfinite(lo) and np.isfinite(hi) and lo < hi for lo, hi in pairs):
            raise ConfigError(
                f"Cannot map DN to the model's range by {pairs}: LO must be below HI, both finite. "
                "Pass --range LO HI."
            )

    def to_model(self, values: NDArray[Any]) -> FloatArray:
        """DN to the model's range; any dtype, shape (bands, h, w) -> float32, same shape, not clipped."""
        lo, gain = self._columns()
        scaled: NDArray[np.float32] = np.divide(values - lo, gain).astype(np.float32)
        return scaled

    def from_model(self, values: FloatArray, out: FloatArray | None = None) -> FloatArray:
        """The model's range to DN, not rounded; shape (bands, h, w), float64 where float32 is too coarse.

        Args:
            values: From the model.
            out: Where the result may be written, such as `values` itself; it is used if its dtype suffices.

        Raises:
            SceneError: The values are NaN or infinite.
        """
        lo, gain = (np.broadcast_to(column[:, 0, 0], len(values)) for column in self._columns())
        coarse = max(np.abs(lo).max(), np.abs(lo + gain).max()) >= 2**20
        dtype = np.dtype(np.float64) if coarse else values.dtype
        dn = np.empty(values.shape, dtype) if out is None or out.dtype != dtype else out
        for band, (source, target) in enumerate(zip(values, dn, strict=True)):
            for scaled, part in strips(source, target):
                np.multiply(scaled, gain[band].astype(dtype), out=part, dtype=dtype)
                part += lo[band].astype(dtype)
                if not (np.isfinite(part.min()) and np.isfinite(part.max())):
                    raise self._not_finite()
        return dn

    def _not_finite(self) -> SceneError:
        return SceneError(
            f"Cannot compute the scene: the model's results are not finite for DN in the range {self.describe()}. "
            "Pass --precision fp32 if the model ran in fp16, --range LO HI around the scene's values, or --nodata V if some "
            "pixels hold a mark such as -3.4028235e+38 in place of data."
        )

    def uncertainty_from_model(self, values: FloatArray) -> FloatArray:
        """Standard deviations in the model's range to DN; same dtype, shape (bands, h, w)."""
        dn: FloatArray = values * self._columns()[1].astype(values.dtype)
        return dn

    def select(self, bands: tuple[int, ...]) -> Radiometry:
        """The same map for some of the bands, named by their position."""
        return Radiometry(tuple(self.lo[b] for b in bands), tuple(self.hi[b] for b in bands), self.origin)

    def describe(self) -> str:
        """For the log and the tags."""
        ranges = sorted(set(zip(self.lo, self.hi, strict=True)))
        shown = ", ".join(f"{lo:g}..{hi:g}" for lo, hi in ranges[:4])
        return f"{shown}{', ...' if len(ranges) > 4 else ''} ({self.origin})"

    def _columns(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        lo = np.asarray(self.lo)[:, None, None]
        return lo, np.asarray(self.hi)[:, None, None] - lo


def resolve_radiometry(
    scene: Raster, policy: dict[str, Any], value_range: tuple[float, float] | None = None
) -> Radiometry:
    """The range of DN that a model sees, fixed for the whole scene.

    Args:
        scene: Where dtype, declared scale and offset, and percentiles come from.
        policy: What the model's card asks for:
            {"kind": "dtype"}: the integer type's whole range;
            {"kind": "auto"}: 8 bit by its whole range; otherwise reflectance 0 to 1 for bands whose scale and
            offset declare it, and separate percentiles for each other band; otherwise percentiles;
            {"kind": "range", "lo": float, "hi": float}: these DN;
            {"kind": "percentiles", "lo": 0..100, "hi": 0..100}: of the scene's valid pixels, all bands together;
            with "apart": [...], these positions each get separate percentiles, wherever percentiles are used;
            {"kind": "standard", "mean": [...], "std": [...]}: DN of the training set, one for each band.
        value_range: LO and HI in DN; beats the policy.

    Raises:
        ConfigError: The policy does not fit the scene's dtype or number of bands.
    """
    count = scene.count
    if value_range is not None:
        return _same(count, *value_range, "given")
    kind = policy["kind"]
    if kind == "auto" and scene.dtype.itemsize > 1:
        return _automatic(scene, policy.get("apart", ()))
    if kind == "auto":
        kind = "dtype"
    if kind == "dtype":
        if scene.dtype.kind == "f":
            raise ConfigError(
                f"Cannot take the range of '{scene.path}' from its dtype: {scene.dtype} has none. Pass --range LO HI."
            )
        info = np.iinfo(scene.dtype)
        return _same(count, float(info.min), float(info.max), f"range of {scene.dtype}")
    if kind == "declared":
        lo, hi = zip(*map(_reflectance_ends, scene.scales, scene.offsets), strict=True)
        return Radiometry(lo, hi, DECLARED)
    if kind == "range":
        return _same(count, float(policy["lo"]), float(policy["hi"]), "model's card")
    if kind == "percentiles":
        ends = policy.get("lo", DEFAULT_PERCENTILES[0]), policy.get("hi", DEFAULT_PERCENTILES[1])
        return _by_percentiles(scene, *_sample(scene), policy.get("apart", ()), *ends)
    if kind == "standard":
        mean, std = np.asarray(policy["mean"], float), np.asarray(policy["std"], float)
        if len(mean) != count:
            raise ConfigError(
                f"Cannot normalise '{scene.path}' with the model's statistics: it has {count} bands and the "
                f"model's card holds {len(mean)} means. Pass --bands, or --range LO HI."
            )
        return Radiometry(tuple(mean), tuple(mean + std), "mean and standard deviation of the training set")
    raise ConfigError(
        f"Cannot determine the model's range: its card says '{kind}', which this version does not know."
    )


def to_dtype(values: FloatArray, dtype: DTypeLike) -> NDArray[Any]:
    """Round half to even, clip to the dtype's range, cast; floats are not rounded, and NaN among them stays."""
    dtype = np.dtype(dtype)
    if values.dtype == dtype and dtype.kind in "iu":
        return values
    if dtype.kind == "f":
        end = min(float(np.finfo(dtype).max), float(np.finfo(values.dtype).max))
        return np.clip(values, -end, end).astype(dtype, copy=False)
    info = np.iinfo(dtype)
    top = float(info.max)
    if top > info.max:  # float64 cannot hold the largest 64-bit integers
        top = float(np.nextafter(top, 0))
    out = np.empty(values.shape, dtype)
    for part, target in strips(values, out):
        rounded = np.rint(part)
        if values.dtype == np.float32 and dtype.itemsize >= 4:
            rounded = rounded.astype(np.float64)
        np.clip(rounded, float(info.min), top, out=rounded)
        target[...] = rounded
    return out


def working_dtype(dtype: np.dtype[Any], linear: bool) -> np.dtype[np.floating[Any]]:
    """What pixels are computed in: float64 where float32 would cost a linear model digits of the file's dtype."""
    return np.dtype(np.float64 if linear and dtype.itemsize >= 4 else np.float32)


def _same(count: int, lo: float, hi: float, origin: str) -> Radiometry:
    return Radiometry((lo,) * count, (hi,) * count, origin)


def _sample(scene: Raster) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The scene's own sample; warns of values that no sensor measures."""
    values, valid = scene.sample()
    if scene.dtype.kind == "f" and scene.nodata is None and valid.any():
        inside = values[valid]
        for value in (inside.min(), inside.max()):
            if abs(value) > _NO_MEASUREMENT:
                warn(
                    f"'{scene.path}' declares no nodata and holds {value!s}, which looks like a nodata mark: it is used as data. "
                    f"Pass --nodata {value!s} if it is none"
                )
    return values, valid


def _automatic(scene: Raster, apart: Sequence[int]) -> Radiometry:
    """More than 8 bits: declared reflectance for bands that hold it, percentiles for the others."""
    sample, valid = _sample(scene)
    reflectance = _reflectance_bands(scene, sample, valid, apart)
    if not reflectance:
        return _by_percentiles(scene, sample, valid, apart)
    others = scene.count - len(reflectance)
    own = _by_percentiles(scene, sample, valid, range(scene.count)) if others else None
    ends = [
        (own.lo[band], own.hi[band])
        if own is not None and band not in reflectance
        else _reflectance_ends(scene.scales[band], scene.offsets[band])
        for band in range(scene.count)
    ]
    lo, hi = zip(*ends, strict=True)
    more = f"; percentiles of their own for {others} of {scene.count} bands" if others else ""
    return Radiometry(lo, hi, DECLARED + more)


def _reflectance_bands(
    scene: Raster, sample: NDArray[Any], valid: NDArray[np.bool_], apart: Sequence[int]
) -> set[int]:
    """Bands whose physical values are plausible reflectances: a declared scale may also give kelvins or metres.

    Bands of one call that share scale and offset are one quantity, and are judged together.
    """
    alike: dict[tuple[Any, ...], list[int]] = {}
    for band, (scale, offset) in enumerate(zip(scene.scales, scene.offsets, strict=True)):
        if scale > 0 and (scale, offset) != (1, 0):
            alike.setdefault((scale, offset, band if band in apart else None), []).append(band)
    found: set[int] = set()
    for (scale, offset, _), bands in alike.items():
        inside = sample[bands][valid[bands]]
        if inside.size and -0.3 < np.median(inside) * scale + offset < 1.3:
            found.update(bands)
    return found


def _reflectance_ends(scale: float, offset: float) -> tuple[float, float]:
    """The DN that stand for reflectance 0 and 1."""
    return (0 - offset) / scale, (1 - offset) / scale


def _by_percentiles(
    scene: Raster,
    sample: NDArray[Any],
    valid: NDArray[np.bool_],
    apart: Sequence[int],
    lo: float = DEFAULT_PERCENTILES[0],
    hi: float = DEFAULT_PERCENTILES[1],
) -> Radiometry:
    """One range for the bands of the joint call, and one for each band that goes through the model alone."""
    if not valid.any():
        warn(f"no pixel in a sample of '{scene.path}' is valid: the value range is set to 0..1")
        return _same(scene.count, 0.0, 1.0, "no valid pixel")
    together = [band for band in range(scene.count) if band not in apart]
    ends = np.zeros((scene.count, 2))
    for bands in ([together] if together else []) + [[band] for band in apart]:
        inside = sample[bands][valid[bands]].astype(np.float64)
        low, high = np.percentile(inside, [lo, hi]) if inside.size else (0.0, 1.0)
        ends[bands] = low, high if high > low else max(low + 1, np.nextafter(low, np.inf))
    low_ends, high_ends = ends.T.tolist()
    return Radiometry(tuple(low_ends), tuple(high_ends), f"percentiles {lo:g} and {hi:g} of the scene")
