"""How the input was imaged, by its own pixels, beside what its model was told of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geosegsr.appraisal.pair import Pair
from geosegsr.models.contract import Facts
from geosegsr.pipeline.sensing import ASSUMED, sense
from geosegsr.raster.bands import BandGroup
from geosegsr.raster.radiometry import resolve_radiometry
from geosegsr.sensor.consistency import Sampling
from geosegsr.sensor.descriptor import BICUBIC, SensorDescriptor, quantisation_of, sampling_of

SENSOR_TAG, TRAINED_TAG = "GEOSEGSR_SENSOR", "GEOSEGSR_TRAINED_ON"
_APART = (0.15, 1.5 / 255, 30.0)
"""Differences of MTF at Nyquist, noise, and quantisation in percent beyond which a model was told of another sensor. Estimates
of one scene, from other patches, differ by half of that."""
_JPEG = (1.0, 0.05)
"""DN of 255 that JPEG changes: some, and more for each percent of quantisation. Measured on aerial images at quality 75 and 90
(2.5 and 2 DN)."""
_TEXT = re.compile(
    r"MTF ([\d.]+) at Nyquist, (?:noise ([\d.]+) DN of 255|no noise), (?:JPEG about q (\d+)|no JPEG)"
)

_MORE = "; ..."
"""In the text of bands that were imaged in more ways than it names."""


@dataclass(frozen=True)
class Imaging:
    """The sensor of the input, and what was taken for it."""

    sensor: SensorDescriptor
    """By the input's pixels; sharp and clean where they do not tell."""
    known: bool
    """Whether they tell."""
    noise: tuple[float, ...]
    """Standard deviation of noise and compression in each band, as a share of its span."""
    told: str | None
    """What the model was told or trained on, by the result's tags."""
    is_other: bool
    """Whether that is another sensor."""

    def samplings(self, pair: Pair) -> tuple[Sampling, ...]:
        """How input pixels are made of result pixels: by the sensor, or by reduction to the guide's grid and on from there."""
        if pair.sharpened is None:
            return (sampling_of(self.sensor, pair.scale),) if pair.scale > 1 else ()
        return (*((sampling_of(BICUBIC, pair.zoom),) if pair.zoom > 1 else ()), pair.sharpened)


def imaging_of(pair: Pair) -> Imaging:
    """Estimate how the input of a pair was imaged, and compare it with the tags of its result."""
    radiometry = resolve_radiometry(pair.source, {"kind": "auto"})
    facts = Facts("", "", max(pair.scale, 2), len(pair.shown), 1, 0, 0, takes_sensor=True)
    found = sense(pair.source, facts, (BandGroup(pair.shown, "model"),), radiometry)
    sensor, known = found.sensors[0], found.origin != ASSUMED
    tags = pair.result.metadata.tags
    # A model was told of the sharpened scene, not of its coarse input.
    told = (tags.get(TRAINED_TAG) or tags.get(SENSOR_TAG)) if pair.sharpened is None else None
    return Imaging(
        sensor,
        known,
        _noise(pair, sensor, radiometry.hi, radiometry.lo),
        told,
        known and _is_other(sensor, told),
    )


def _noise(
    pair: Pair, sensor: SensorDescriptor, hi: tuple[float, ...], lo: tuple[float, ...]
) -> tuple[float, ...]:
    low, high = pair.span
    gain: NDArray[np.float64] = (np.asarray(hi) - np.asarray(lo)) / (high - low).ravel()
    jpeg = (_JPEG[0] + _JPEG[1] * sensor.quantisation) / 255 if sensor.quantisation else 0.0
    shares = np.hypot(sensor.noise, jpeg) * gain
    return tuple(float(share) for share in shares)


def _is_other(sensor: SensorDescriptor, told: str | None) -> bool:
    """Whether a text of the tags describes other sensors only; False where it describes none, or not those of all bands."""
    described = list(_TEXT.finditer(told or ""))
    if not described or _MORE in str(told):
        return False
    return all(_differs(sensor, *match.groups()) for match in described)


def _differs(sensor: SensorDescriptor, nyquist: str, noise: str | None, quality: str | None) -> bool:
    numbers = float(nyquist), float(noise or 0) / 255, quantisation_of(float(quality)) if quality else 0.0
    own = sensor.mtf_nyquist, sensor.noise, sensor.quantisation
    return any(abs(mine - theirs) > apart for mine, theirs, apart in zip(own, numbers, _APART, strict=True))
