"""How a scene was imaged, as four numbers that a network can be told.

    ground -> blur and sampling -> noise -> rounding -> compression -> file
              mtf_quarter, mtf_nyquist  noise           quantisation

A degradation says how to make lr pixels of hr pixels. A descriptor says what the pixels of a scene show of it.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from geosegsr.errors import ConfigError
from geosegsr.schema import build, refuse_unknown_keys
from geosegsr.sensor.consistency import Sampling
from geosegsr.sensor.degradation import Degradation, Imaging

MOST_QUANTISATION = 5000.0
"""Percent: that of a JPEG quality of 1."""
_LIMITS = {"mtf_quarter": 1.0, "mtf_nyquist": 1.0, "noise": 1.0, "quantisation": MOST_QUANTISATION}
_TOLERANCE = (0.02, 0.02, 0.25 / 255, 0.5)  # what `same_as` takes for equal, in the order of the fields
_MID_SIGNAL = 0.5
_LEAST_RESPONSE = 0.05  # a wider blur than that of any scene worth upscaling


@dataclass(frozen=True)
class SensorDescriptor:
    """Blur, noise and compression of a scene, in lr pixels and in the model's range."""

    mtf_quarter: float = 0.94
    """Response of blur and sampling together at 1/4 cycle per lr pixel, mean of both axes; 0 to 1."""
    mtf_nyquist: float = 0.49
    """The same at 1/2 cycle per lr pixel; at most `mtf_quarter`."""
    noise: float = 0.0
    """Standard deviation of the noise before rounding and compression, in the model's range (0 to 1)."""
    quantisation: float = 0.0
    """Scale of the quantisation tables of a JPEG in percent, as libjpeg defines it; 0 if not compressed."""

    def __post_init__(self) -> None:
        for name, most in _LIMITS.items():
            value = getattr(self, name)
            if not 0 <= value <= most:
                raise ConfigError(
                    f"Cannot describe a sensor with {name} = {value:g}: it must lie in 0 to {most:g}."
                )
        if self.mtf_nyquist > self.mtf_quarter:
            raise ConfigError(
                f"Cannot describe a sensor with mtf_nyquist = {self.mtf_nyquist:g} above mtf_quarter = "
                f"{self.mtf_quarter:g}: the response must not rise with frequency."
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "the sensor") -> SensorDescriptor:
        """Build from plain values.

        Args:
            values: Some of the fields; the others are those of `BICUBIC`.
            where: The file or section, for messages.

        Raises:
            ConfigError: A key is unknown, or a value of the wrong type or out of range.
        """
        described: SensorDescriptor = build(cls, values, where)
        return described

    @classmethod
    def of_degradation(cls, degradation: Degradation, scale: int) -> SensorDescriptor:
        """What a degradation does when every range has its middle value.

        Bands of different sharpness give the mean of their responses. Noise is that of a signal of 0.5.

        Args:
            degradation: The degradation.
            scale: hr pixels per lr pixel.
        """
        rest = degradation.at_rest()
        samplings = rest.samplings(scale, len(rest.mtf_by_band))
        noise = math.sqrt(rest.noise_read[0] ** 2 + rest.noise_shot[0] * _MID_SIGNAL)
        quality = rest.jpeg_quality and rest.jpeg_quality[0]
        return cls.of_imaging(Imaging(samplings[:-1] or samplings, noise, quality))

    @classmethod
    def of_imaging(cls, imaging: Imaging) -> SensorDescriptor:
        """What a degradation did to one patch.

        Both axes, and bands of different sharpness, give the mean of their responses.
        """
        quarter, nyquist = (
            float(np.mean([response(sampling, at) for sampling in imaging.samplings])) for at in (0.25, 0.5)
        )
        return cls(
            mtf_quarter=min(quarter, 1.0),
            mtf_nyquist=min(nyquist, quarter, 1.0),
            noise=min(imaging.noise, 1.0),
            quantisation=quantisation_of(imaging.jpeg_quality) if imaging.jpeg_quality else 0.0,
        )

    @classmethod
    def load(cls, source: str | Path, scale: int) -> SensorDescriptor:
        """The descriptor called "bicubic", or that of a TOML file.

        The file holds fields of this class, or a degradation as `train --degradation` reads it.

        Args:
            source: "bicubic" or a path.
            scale: hr pixels per lr pixel, for a degradation.

        Raises:
            ConfigError: The file cannot be read, has an unknown key or an impossible value.
        """
        if str(source) == "bicubic":
            return BICUBIC
        try:
            values = tomllib.loads(Path(source).read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(
                f"Cannot read a sensor from '{source}': {error}. Pass auto, bicubic, or a TOML file with "
                f"{', '.join(_LIMITS)}."
            ) from error
        own = [entry.name for entry in fields(cls)]
        degradation = [entry.name for entry in fields(Degradation)]
        refuse_unknown_keys(values, own + degradation, f"'{source}'")
        if not any(key in degradation for key in values):
            return cls.from_dict(values, f"'{source}'")
        if any(key in own for key in values):
            raise ConfigError(
                f"Cannot read a sensor from '{source}': it has keys of a descriptor ({', '.join(own)}) and of a "
                "degradation. Keep one kind."
            )
        return cls.of_degradation(Degradation.from_dict(values, f"'{source}'"), scale)

    def to_dict(self) -> dict[str, float]:
        """The four numbers by name; `from_dict` gives the same descriptor back."""
        return asdict(self)

    def to_toml(self) -> str:
        """The text of a TOML file that `load` reads."""
        return "".join(f"{name} = {float(value)!r}\n" for name, value in self.to_dict().items())

    @property
    def numbers(self) -> tuple[float, float, float, float]:
        """The four numbers in the order in which a network is told them."""
        return (self.mtf_quarter, self.mtf_nyquist, self.noise, self.quantisation)

    @property
    def jpeg_quality(self) -> float | None:
        """Quality of the JPEG compression, 1 to 100; None if not compressed."""
        return quality_of(self.quantisation) if self.quantisation else None

    def same_as(self, other: SensorDescriptor, tolerance: tuple[float, ...] = _TOLERANCE) -> bool:
        """Whether no number differs by more than its tolerance; by default, by more than any network notices."""
        pairs = zip(self.numbers, other.numbers, tolerance, strict=True)
        return all(abs(mine - theirs) <= most for mine, theirs, most in pairs)

    @property
    def is_bicubic(self) -> bool:
        """Whether the scene is as sharp and as clean as antialiased bicubic reduction leaves it."""
        return self.same_as(BICUBIC)

    def rounded(self) -> SensorDescriptor:
        """The same in steps of 0.01 (MTF), 0.05 / 255 (noise) and 1 % (quantisation)."""
        return replace(
            self,
            mtf_quarter=round(self.mtf_quarter, 2),
            mtf_nyquist=round(self.mtf_nyquist, 2),
            noise=round(round(self.noise * 255 / 0.05) * 0.05 / 255, 6),
            quantisation=float(round(self.quantisation)),
        )

    def __str__(self) -> str:
        noise = self.noise * 255
        quality = self.jpeg_quality
        return ", ".join(
            (
                f"MTF {self.mtf_nyquist:.2f} at Nyquist",
                f"noise {noise:.1f} DN of 255" if noise >= 0.05 else "no noise",
                "no JPEG" if quality is None else f"JPEG about q {quality:.0f}",
            )
        )


BICUBIC = SensorDescriptor()
"""A scene made by antialiased bicubic reduction: no further blur, no noise, no compression."""


@lru_cache(maxsize=1024)
def response(sampling: Sampling, frequency: float) -> float:
    """Modulus of the transfer function of blur and sampling.

    Args:
        sampling: Weights of the hr pixels that make an lr pixel.
        frequency: Cycles per lr pixel.

    Returns:
        1 at frequency 0.
    """
    weights = np.asarray(sampling.weights)
    at = (np.arange(len(weights)) - (len(weights) - 1) / 2) / sampling.scale  # lr pixels from the middle
    return float(abs(weights @ np.exp(-2j * np.pi * frequency * at)))


def sampling_of(sensor: SensorDescriptor, scale: int) -> Sampling:
    """Weights of the hr pixels that make an lr pixel, for a scene of which only the descriptor is known.

    Antialiased bicubic reduction after a Gaussian blur that gives the response at 1/4 cycle per lr pixel.

    Args:
        sensor: Noise and compression are left out.
        scale: hr pixels per lr pixel.
    """
    bicubic = Degradation().samplings(scale, 1)[-1]
    sigma = scale * blur_of(sensor, scale)  # hr pixels
    if not sigma:
        return bicubic
    reach = math.ceil(4 * sigma / scale)
    away = np.arange(-reach * scale, reach * scale + 1)
    gauss = np.exp(-0.5 * (away / sigma) ** 2)
    weights = np.convolve(bicubic.weights, gauss / gauss.sum())
    return Sampling(scale, tuple(weights / weights.sum()))


def blur_of(sensor: SensorDescriptor, scale: int = 4) -> float:
    """Width of the Gaussian blur that gives the response at 1/4 cycle per lr pixel, before antialiased bicubic reduction.

    Args:
        sensor: Noise and compression are left out.
        scale: hr pixels per lr pixel.

    Returns:
        Standard deviation in lr pixels; 0 where the reduction alone is as soft.
    """
    ratio = max(sensor.mtf_quarter, _LEAST_RESPONSE) / response(Degradation().samplings(scale, 1)[-1], 0.25)
    return 0.0 if ratio >= 1 else math.sqrt(-2 * math.log(ratio)) / (2 * math.pi * 0.25)


def quantisation_of(quality: float) -> float:
    """Scale of the quantisation tables, in percent, for a JPEG quality of 1 to 100.

    Source:
        `jpeg_quality_scaling` of libjpeg's jcparam.c.
    """
    return 5000 / quality if quality < 50 else 200 - 2 * quality


def quality_of(quantisation: float) -> float:
    """JPEG quality for a scale of the quantisation tables above 0; the inverse of `quantisation_of`."""
    return 5000 / quantisation if quantisation > 100 else 100 - quantisation / 2
