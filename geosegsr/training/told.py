"""What the network is told of a patch's sensor: the truth, with the error that an estimate would have."""

from __future__ import annotations

import numpy as np

from geosegsr.sensor.degradation import Degradation, margin_of
from geosegsr.sensor.descriptor import MOST_QUANTISATION, SensorDescriptor
from geosegsr.training.config import ToldError

_DRAWS = 256


def with_error(sensor: SensorDescriptor, error: ToldError, rng: np.random.Generator) -> SensorDescriptor:
    """A descriptor as an estimate would give it; what is 0 stays 0."""
    z = rng.standard_normal(4)
    quarter, nyquist = (
        min(max(value + error.mtf * float(z[i]), 0.0), 1.0)
        for i, value in enumerate((sensor.mtf_quarter, sensor.mtf_nyquist))
    )
    noise, quantisation = (
        sensor.noise * np.exp(error.noise * z[2]),
        sensor.quantisation * np.exp(error.quantisation * z[3]),
    )
    return SensorDescriptor(
        mtf_quarter=quarter,
        mtf_nyquist=min(nyquist, quarter),
        noise=min(float(noise), 1.0),
        quantisation=min(float(quantisation), MOST_QUANTISATION),
    )


def reach_of(degradation: Degradation, scale: int, bands: int) -> dict[str, list[float]]:
    """Smallest and largest of each number of the descriptor that a degradation draws, for the card of a network."""
    rng = np.random.default_rng(0)
    side = scale + 2 * margin_of(scale, degradation)
    flat = np.full((bands, side, side), 0.5, np.float32)
    drawn = [SensorDescriptor.of_imaging(degradation.image(flat, scale, rng)[1]) for _ in range(_DRAWS)]
    numbers = np.array([sensor.numbers for sensor in drawn])
    return {
        name: [round(float(low), 4), round(float(high), 4)]
        for name, low, high in zip(drawn[0].to_dict(), numbers.min(0), numbers.max(0), strict=True)
    }
