"""How a sensor sees the ground at a coarser scale: blur and sampling, noise, quantisation, JPEG.

ground -> Gaussian blur -> kernel -> noise -> quantisation or JPEG -> lr
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np

from geosegsr.errors import ConfigError
from geosegsr.models.contract import Upscaler
from geosegsr.schema import UPWARDS, Checked, bounds, build, length, one_of
from geosegsr.sensor.blur import (
    KERNELS,
    PLAIN,
    Array,
    Kernel,
    margin_of_kernels,
    sampled,
    sampling_of_kernel,
)
from geosegsr.sensor.consistency import Sampling
from geosegsr.sensor.recording import MCU, SUBSAMPLINGS, around, compressed, noise_of, noisy

Range: TypeAlias = tuple[float, float]
Mtf: TypeAlias = Annotated[Range, bounds(gt=0, lt=1), UPWARDS]
Name: TypeAlias = Annotated[str, one_of(KERNELS)]
Share: TypeAlias = Annotated[float, bounds(0, 1)]
_MOST_UNEVEN = 3.0
"""Standard deviations at which the widths of the two axes are cut."""
_WHOLE = (slice(None), slice(None))


def margin_of(scale: int, degradation: Degradation) -> int:
    """Context around a patch that its lr pixels depend on.

    Returns:
        hr pixels, a multiple of `scale`.
    """
    widest = math.exp(_MOST_UNEVEN * degradation.unevenness)
    weakest = min(low for low, _ in (degradation.mtf, *degradation.mtf_by_band))
    kernels = [Kernel.of(name, weakest, degradation.blur[1], widest) for name in degradation.kernel]
    return margin_of_kernels([*kernels, PLAIN] if degradation.spares_some else kernels, scale)


@dataclass(frozen=True)
class Imaging:
    """What a degradation did to one patch."""

    samplings: tuple[Sampling, ...]
    """Blur and sampling: along columns and along rows, of each band or of all together."""
    noise: float = 0.0
    """Standard deviation of the noise, root mean square over the patch, in the model's range."""
    jpeg_quality: int | None = None
    """Of the JPEG compression; None if not compressed."""


@dataclass(frozen=True)
class Degradation(Checked):
    """What a sensor does to the ground, hr to lr. A range is drawn from for each patch.

    Values are in the model's range, so a noise of 0.01 is a hundredth of the radiometric range.
    """

    kernel: Annotated[tuple[Name, ...], length(1, 32)] = ("bicubic",)
    """"bicubic" (equals MATLAB's imresize), "box" (block means) or "mtf" (Gaussian); of several, each patch draws one."""
    mtf: Mtf = (0.25, 0.25)
    """Response at the lr Nyquist frequency, for the kernel "mtf"; between 0 and 1."""
    mtf_by_band: tuple[Mtf, ...] = ()
    """The same for each band, where bands differ; empty to use `mtf` for all."""
    noise_read: Annotated[Range, bounds(0), UPWARDS] = (0.0, 0.0)
    """Standard deviation of noise that does not depend on the signal, in the model's range."""
    noise_shot: Annotated[Range, bounds(0), UPWARDS] = (0.0, 0.0)
    """Variance of noise per unit of signal, in the model's range."""
    quantise: bool = True
    """Round to the steps of the image's dtype, as a file of lr pixels would hold them."""
    jpeg_quality: Annotated[tuple[int, int], bounds(1, 100), UPWARDS] | None = None
    """Quality of a JPEG compression, 1 to 100; 8-bit images of 1 or 3 bands only."""
    blur: Annotated[Range, bounds(0, 10), UPWARDS] = (0.0, 0.0)
    """Standard deviation of a Gaussian blur before the kernel, in lr pixels."""
    unevenness: Annotated[float, bounds(0, 0.5)] = 0.0
    """Standard deviation of the logarithm of a factor on the width of blur and of "mtf", drawn for each axis."""
    noise_soft: Share = 0.0
    """Share of the noisy patches whose noise is correlated between neighbours, as demosaicking and resampling leave it."""
    jpeg_subsampling: Annotated[str, one_of((*SUBSAMPLINGS, "either"))] = "4:2:0"
    """Colour of the JPEG: "4:2:0" (halved along both sides), "4:4:4" (whole) or "either"."""
    jpeg_grid: Annotated[str, one_of(("patch", "anywhere"))] = "patch"
    """Where the blocks of the JPEG begin: with the "patch", or "anywhere"."""
    clean: Share = 0.0
    """Share of patches that are antialiased bicubic downsampling and nothing else."""
    blurred: Share = 1.0
    """Share of the other patches that kernel and blur apply to; the rest is downsampled bicubically."""
    noisy: Share = 1.0
    """Share of the other patches with noise."""
    compressed: Share = 1.0
    """Share of the other patches with JPEG compression."""

    @property
    def spares_some(self) -> bool:
        """Whether some patches are reduced bicubically, without the kernel and the blur."""
        return self.clean > 0 or self.blurred < 1

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "the degradation") -> Degradation:
        """Build from plain values; a number stands for a range of that one number.

        Raises:
            ConfigError: A key is unknown or a value impossible.
        """
        degradation: Degradation = build(cls, values, where)
        return degradation

    @classmethod
    def load(cls, source: str | Path) -> Degradation:
        """The degradation called "bicubic" or "box", or the one that a TOML file describes.

        Raises:
            ConfigError: No such name or file, or the file does not describe one.
        """
        if str(source) in ("bicubic", "box"):
            return cls(kernel=(str(source),))
        try:
            text = Path(source).read_text(encoding="utf-8-sig")
            return cls.from_dict(tomllib.loads(text), f"'{source}'")
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(
                f"Cannot read a degradation from '{source}': {error}. "
                "Pass --degradation bicubic, box or a TOML file that describes a sensor."
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a TOML file or a model card; from_dict gives the same degradation back."""
        plain = {key: value for key, value in asdict(self).items() if value is not None}
        return {key: _listed(value) for key, value in plain.items()}

    def at_rest(self) -> Degradation:
        """One sensor that stands for all patches, for validation.

        Every range is drawn together to its middle. What happens to fewer than half of the patches is left out; the first
        of several kernels is taken.
        """

        def middle(span: Range) -> Range:
            return (sum(span) / 2, sum(span) / 2)

        soiled = 1 - self.clean
        blurred, noisy, compressed = (
            soiled * share >= 0.5 for share in (self.blurred, self.noisy, self.compressed)
        )
        quality = self.jpeg_quality and (sum(self.jpeg_quality) // 2,) * 2
        nothing = (0.0, 0.0)
        return Degradation(
            kernel=self.kernel[:1] if blurred else (PLAIN.name,),
            mtf=middle(self.mtf) if blurred else Degradation.mtf,
            mtf_by_band=tuple(middle(span) for span in self.mtf_by_band) if blurred else (),
            noise_read=middle(self.noise_read) if noisy else nothing,
            noise_shot=middle(self.noise_shot) if noisy else nothing,
            quantise=self.quantise,
            jpeg_quality=quality if compressed else None,
            blur=middle(self.blur) if blurred else nothing,
            noise_soft=float(self.noise_soft >= 0.5),
            jpeg_subsampling="4:4:4" if self.jpeg_subsampling == "4:4:4" else "4:2:0",
        )

    def image(
        self,
        hr: Array,
        scale: int,
        rng: np.random.Generator,
        part: tuple[slice, slice] = _WHOLE,
    ) -> tuple[Array, Imaging]:
        """Blur, sampling, noise and JPEG; quantisation is the radiometry's, see `quantise`.

        Args:
            hr: float32, shape (C, H, W), in the model's range; sides are multiples of `scale`.
            scale: hr pixels per lr pixel.
            rng: Where random variation comes from.
            part: Rows and columns of lr that are wanted; the others are context.

        Returns:
            float32, shape (C, h, w), not clipped; and what was done to it.
        """
        if _happens(self.clean, rng):
            lr = sampled(hr, scale, PLAIN, PLAIN)
            return np.ascontiguousarray(lr[:, *part]), Imaging((sampling_of_kernel(PLAIN, scale),))
        lr, imaging = self._sampled(hr, scale, rng)
        if self.jpeg_quality is None or self.jpeg_grid == "patch":
            return self._recorded(np.ascontiguousarray(lr[:, *part]), imaging, rng)
        before = (int(rng.integers(MCU)), int(rng.integers(MCU)))
        height, width = lr[:, *part].shape[1:]
        whole, imaging = self._recorded(around(lr, part, before), imaging, rng)
        inner = whole[:, before[0] : before[0] + height, before[1] : before[1] + width]
        return np.ascontiguousarray(inner), imaging

    def sample(self, hr: Array, scale: int, rng: np.random.Generator) -> Array:
        """Blur and sampling of a patch that is not spared; arguments and result as for `image`."""
        return self._sampled(hr, scale, rng)[0]

    def record(self, lr: Array, rng: np.random.Generator) -> Array:
        """Noise and JPEG on sampled pixels of a patch that is not spared.

        Args:
            lr: float32, shape (C, h, w), in the model's range.
            rng: Draws noise and the values of ranges.

        Returns:
            float32, shape (C, h, w).
        """
        return self._recorded(lr, Imaging(()), rng)[0]

    def samplings(self, scale: int, bands: int) -> tuple[Sampling, ...]:
        """Blur and sampling of the sensor at rest: of each band, and last of a band that is none of these.

        Raises:
            ConfigError: `mtf_by_band` describes another number of bands.
        """
        steady = self.at_rest()
        by_band = steady.mtf_by_band or (steady.mtf,) * bands
        _check_bands(by_band, bands)
        return tuple(
            sampling_of_kernel(Kernel.of(steady.kernel[0], mtf, steady.blur[0]), scale)
            for mtf, _ in (*by_band, steady.mtf)
        )

    def _sampled(self, hr: Array, scale: int, rng: np.random.Generator) -> tuple[Array, Imaging]:
        """Blurred and sampled, shape (C, h, w)."""
        pairs = self._draw_kernels(len(hr), rng)
        imaging = Imaging(tuple(sampling_of_kernel(kernel, scale) for pair in pairs for kernel in pair))
        if len(pairs) == 1:
            return sampled(hr, scale, *pairs[0]), imaging
        planes = [sampled(band[None], scale, *pair) for band, pair in zip(hr, pairs, strict=True)]
        return np.concatenate(planes), imaging

    def _draw_kernels(self, bands: int, rng: np.random.Generator) -> list[tuple[Kernel, Kernel]]:
        """The kernels along columns and along rows, of all bands together or of each."""
        if not _happens(self.blurred, rng):
            return [(PLAIN, PLAIN)]
        names = self.kernel
        name = names[int(rng.integers(len(names)))] if len(names) > 1 else names[0]
        spans: tuple[Range, ...] = (self.mtf,)
        if name == "mtf" and self.mtf_by_band:
            _check_bands(self.mtf_by_band, bands)
            spans = self.mtf_by_band
        drawn = [rng.uniform(*span) for span in spans]
        blur = rng.uniform(*self.blur) if self.blur[1] else 0.0
        down = across = 1.0
        if self.unevenness:
            z = rng.standard_normal(2).clip(-_MOST_UNEVEN, _MOST_UNEVEN)
            down, across = (float(factor) for factor in np.exp(self.unevenness * z))
        return [(Kernel.of(name, mtf, blur, down), Kernel.of(name, mtf, blur, across)) for mtf in drawn]

    def _recorded(self, lr: Array, imaging: Imaging, rng: np.random.Generator) -> tuple[Array, Imaging]:
        """With noise and through JPEG, shape (C, h, w)."""
        if _happens(self.noisy, rng):
            read, shot = rng.uniform(*self.noise_read), rng.uniform(*self.noise_shot)
            if read or shot:
                imaging = replace(imaging, noise=noise_of(lr, read, shot))
                lr = noisy(lr, read, shot, _happens(self.noise_soft, rng), rng)
        if self.jpeg_quality and _happens(self.compressed, rng):
            quality = int(rng.integers(self.jpeg_quality[0], self.jpeg_quality[1] + 1))
            way = self.jpeg_subsampling
            lr = compressed(lr, quality, SUBSAMPLINGS[int(rng.integers(2))] if way == "either" else way)
            imaging = replace(imaging, jpeg_quality=quality)
        return lr.astype(np.float32), imaging


def imresize_down(hr: Array, scale: int) -> Array:
    """Antialiased bicubic reduction, as MATLAB's imresize(image, 1/scale) computes it.

    Args:
        hr: Shape (C, H, W); sides are multiples of `scale`.
        scale: hr pixels per lr pixel.

    Returns:
        float32, shape (C, H // scale, W // scale), neither rounded nor clipped.
    """
    return Degradation().sample(np.asarray(hr, np.float32), scale, np.random.default_rng(0))


def _happens(share: float, rng: np.random.Generator) -> bool:
    """Whether something that happens to a share of all patches does; certain things draw nothing."""
    return share == 1 or (share > 0 and rng.random() < share)


def _check_bands(described: tuple[Range, ...], bands: int) -> None:
    if len(described) != bands:
        raise ConfigError(
            f"Cannot degrade {bands} bands: mtf_by_band describes {len(described)}. Give one value for each band."
        )


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


def wants_consistency(upscaler: Upscaler, asked: bool | None) -> bool:
    """Whether results are made consistent with their input: as asked, else where a card says how a model's input was made.

    Interpolations, and models whose training is unknown, are left as they are.
    """
    card = upscaler.facts.card
    return asked if asked is not None else card is not None and card.degradation is not None


def samplings_of(upscaler: Upscaler) -> tuple[Sampling, ...]:
    """How hr pixels make the lr pixels of a model: of each of its bands, and last of a band that is none of these.

    A model that does not say gets antialiased bicubic reduction.

    Raises:
        ConfigError: The card describes no sensor of these bands.
    """
    card = upscaler.facts.card
    described = None if card is None else card.degradation
    sensor = Degradation.from_dict(described or {}, f"the card of '{upscaler.facts.name}'")
    return sensor.samplings(upscaler.facts.scale, upscaler.facts.bands or 0)
