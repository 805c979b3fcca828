"""What the network is told of a patch's sensor: the truth, with the error that an estimate would have."""

from __future__ import annotations

import numpy as np

from geosegsr.sensor.descriptor import MOST_QUANTISATION, SensorDescriptor
from geosegsr.training.config import ToldError


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
