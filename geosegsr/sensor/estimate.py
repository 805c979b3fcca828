"""The sensor of a scene, from the scene's own pixels.

    patches -> quantisation, from the lattice of JPEG's coefficients (`jpeg`)
            -> blur and noise of each patch, with a variance (`regressor`)
            -> the mean over all patches, weighted by precision
            -> bicubic and clean, where nothing speaks against it

The result is the same to the last bit whatever the number of threads: it is part of a job's key.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from geosegsr.errors import ConfigError
from geosegsr.models.threads import one_thread
from geosegsr.sensor.blur import Array
from geosegsr.sensor.descriptor import BICUBIC, SensorDescriptor, quantisation_of
from geosegsr.sensor.jpeg import YCC, quantisation
from geosegsr.sensor.regressor import Regressor, planes_of

MIN_SIDE = 48
"""Pixels along a side that a patch must have."""
WEIGHTS = Path(__file__).parent.parent / "weights" / "sensor.safetensors"
_SHARED = 0.5  # share of a patch's variance that all patches of a scene have in common
_COMPATIBLE = 2.5  # standard deviations within which a scene is taken for clean
_BLURRED = {4: 2.0}
"""By scale: standard deviations within which the MTF at Nyquist may lie below that of a clean scene without compression. At x4
no clean image of the training lies farther off, and a sixth of those with a blur of 0.3 pixels. At x2 such a limit costs as
much on clean scenes as it gains on blurred ones."""
_ALIASED = 0.81
"""MTF at Nyquist up to which a scene sharper than a clean one counts as clean: telling a network of weak aliases gains
nothing, and a short-sighted estimate of them costs 0.1 dB."""
_LEAST_CONTRAST = 1e-3  # standard deviation of a patch that says anything of blur, in the model's range
_CHUNK = 8  # patches that the network sees together

Floats = NDArray[np.float64]
_CLEAN = np.array([BICUBIC.mtf_quarter, BICUBIC.mtf_nyquist, 0.0])  # in the order of the network's values


@dataclass(frozen=True)
class Uncertainty:
    """Standard deviations of the numbers of a descriptor, before rounding."""

    mtf_quarter: float
    mtf_nyquist: float
    noise: float
    quantisation: float


@dataclass(frozen=True)
class Estimate:
    """What the pixels say of the sensor."""

    sensor: SensorDescriptor
    """The most likely one, rounded; sharp as `BICUBIC` and free of noise where nothing speaks against it."""
    uncertainty: Uncertainty
    """How far it may be off."""


def estimate(
    patches: Array, scale: int, *, dn_span: float = 255.0, jpeg_quality: float | None = None
) -> Estimate:
    """Estimate blur, noise and compression of a scene.

    Args:
        patches: float32, shape (N, C, h, w), in the model's range, without nodata, at full resolution. Three bands are
            red, green and blue; of any other number each band is read alone. Sides from `MIN_SIDE` on; row 0 and
            column 0 of every patch lie at multiples of 8 pixels from the file's origin.
        scale: hr pixels per lr pixel of the model that is to be told: each was taught its own idea of a clean scene, because
            the images that it learned from are not sharp to the last pixel.
        dn_span: DN of an 8-bit file that the model's range spans; 0 for files of other types, which are never JPEG.
        jpeg_quality: Quality of the file's JPEG compression, 1 to 100, where the file states it.

    Returns:
        The sensor and its uncertainty; the same to the last bit for the same patches.

    Raises:
        ConfigError: No patch, a patch that is too small, or a value that is not finite.
    """
    _check(patches)
    patches = patches[patches.reshape(len(patches), -1).std(1) > _LEAST_CONTRAST]
    if not len(patches):  # even ground
        return Estimate(BICUBIC, Uncertainty(1.0, 1.0, 0.0, 0.0))
    with one_thread():
        quantised, spread = (
            (quantisation_of(jpeg_quality), 0.0) if jpeg_quality else _quantisation(patches, dn_span)
        )
        values, variances = _read(patches, quantised, scale)
    mean, variance = combined(values, variances)
    softest = _COMPATIBLE if quantised else _BLURRED.get(scale, _COMPATIBLE)
    return concluded(mean, np.sqrt(variance), quantised, spread, softest)


def combined(values: Floats, variances: Floats) -> tuple[Floats, Floats]:
    """One value of all patches, weighted by precision, and its variance.

    Patches of a scene share its texture, and so part of their error: more patches do not take that part away.

    Args:
        values: Shape (N, numbers).
        variances: Same shape.

    Returns:
        Mean and variance, both of shape (numbers,).
    """
    precision = 1 / variances
    total = precision.sum(0)
    typical = len(values) / total
    return (values * precision).sum(0) / total, typical * (_SHARED + (1 - _SHARED) / len(values))


def concluded(
    mean: Floats, deviation: Floats, quantised: float, spread: float, softest: float = _COMPATIBLE
) -> Estimate:
    """The descriptor for the combined numbers of the network and the scale of the quantisation tables.

    Args:
        mean: MTF at 1/4 and 1/2 cycle per pixel, and the noise's score.
        deviation: Their standard deviations.
        quantised: Scale of the quantisation tables, in percent.
        spread: Its standard deviation.
        softest: Standard deviations by which the MTF at Nyquist of a clean scene may be below its value.
    """
    off = np.abs(mean - _CLEAN) / deviation
    below = float(_CLEAN[1] - mean[1]) / float(deviation[1])
    barely = bool(_CLEAN[1] <= mean[1] <= _ALIASED)
    sharp = barely or (bool((off[:2] <= _COMPATIBLE).all()) and below <= softest)
    silent = bool(off[2] <= _COMPATIBLE) and (sharp or not quantised)
    quarter = float(np.clip(mean[0], 0, 1))
    nyquist = float(np.clip(mean[1] - _leaning(below) * (_CLEAN[1] - mean[1]), 0, quarter))
    noise, more = (float(np.expm1(np.clip(score, 0, 5))) / 255 for score in (mean[2], mean[2] + deviation[2]))
    sensor = SensorDescriptor(
        mtf_quarter=BICUBIC.mtf_quarter if sharp else quarter,
        mtf_nyquist=BICUBIC.mtf_nyquist if sharp else nyquist,
        noise=0.0 if silent else noise,
        quantisation=quantised,
    ).rounded()
    doubt = np.clip(deviation[:2], 0, 1)
    return Estimate(sensor, Uncertainty(float(doubt[0]), float(doubt[1]), max(more - noise, 0.0), spread))


def _leaning(below: float) -> float:
    """Odds that the network gave to a clean scene, for an MTF so many standard deviations below a clean one's.

    It learnt from many clean images, so its mean leans towards them. Once a scene does not count as clean, that part of the
    mean is taken out. The curve follows its errors on 146 images of the training with a blur of 0.05 to 0.55 pixels.
    """
    return math.exp(-((below / 2) ** 2)) if below > 0 else 0.0


def _check(patches: Array) -> None:
    shape = np.shape(patches)
    if len(shape) != 4 or not shape[0] or not shape[1] or min(shape[2:]) < MIN_SIDE:
        raise ConfigError(
            f"Cannot estimate a sensor from patches of shape {shape}: needed is (patches, bands, height, width) with "
            f"sides of at least {MIN_SIDE} pixels."
        )
    if not np.isfinite(patches).all():
        raise ConfigError(
            "Cannot estimate a sensor from patches with values that are not finite. Fill or avoid nodata."
        )


def _quantisation(patches: Array, dn_span: float) -> tuple[float, float]:
    """Of the luminance, or of the bands where they were compressed alone; relative to the model's range."""
    if not dn_span:
        return 0.0, 0.0
    dn = patches.astype(np.float64) * dn_span
    found = (0.0, 0.0)
    if dn.shape[1] == 3:
        red, green, blue = (weight * dn[:, band] for band, weight in enumerate(YCC[0]))
        found = quantisation(red + green + blue)
    if not found[0]:
        found = quantisation(dn.reshape(-1, *dn.shape[2:]))
    return found[0] * 255 / dn_span, found[1] * 255 / dn_span


def _read(patches: Array, quantised: float, scale: int) -> tuple[Floats, Floats]:
    """Values and variances that the network gives, of each patch or of each of its bands; shape (N, 3)."""
    colour = patches.shape[1] == 3
    bands = torch.from_numpy(np.array(patches, np.float32))
    planes = planes_of(bands if colour else bands.flatten(0, 1)[:, None])
    network, parts = _network(), []
    with torch.inference_mode():
        for chunk in planes.split(_CHUNK):
            told = (torch.full((len(chunk),), float(value)) for value in (quantised, not colour, scale))
            parts.append(torch.stack(network(chunk, *told)))
    values, logarithms = torch.cat(parts, 1).double().numpy()
    return values, np.exp(logarithms)


@lru_cache(maxsize=1)
def _network() -> Regressor:
    network = Regressor()
    network.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    return network.eval().requires_grad_(False)
