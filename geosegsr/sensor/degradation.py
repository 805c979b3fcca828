"""How a sensor sees the ground at a coarser scale: blur and sampling, noise, quantisation, JPEG.

Blur and sampling are one linear map along each side: every lr pixel is a weighted mean of hr pixels around
its centre, so a kernel is all that tells bicubic, box and a sensor's MTF apart.

    hr pixels   0   1   2   3 | 4   5   6   7        scale 4
    lr pixels         0       |       1              centre of lr pixel i: 4 * i + 1.5 hr pixels
"""

from __future__ import annotations

import io
import math
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from geosegsr.errors import ConfigError
from geosegsr.models.contract import Upscaler
from geosegsr.models.kernels import keys
from geosegsr.schema import UPWARDS, Checked, bounds, build, one_of
from geosegsr.sensor.consistency import Sampling

Array: TypeAlias = NDArray[np.float32]
Range: TypeAlias = tuple[float, float]
Mtf: TypeAlias = Annotated[Range, bounds(gt=0, lt=1), UPWARDS]
Kernel: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]
KERNELS = ("bicubic", "box", "mtf")


def sigma_of_mtf(mtf: float, scale: int) -> float:
    """Width of the Gaussian whose response at the lr Nyquist frequency is `mtf`.

    Args:
        mtf: Response at half a cycle per lr pixel, 0 < mtf < 1.
        scale: hr pixels per lr pixel.

    Returns:
        Standard deviation, in hr pixels.

    Source:
        The Fourier transform of a Gaussian, exp(-2 pi^2 sigma^2 f^2), at f = 1 / (2 * scale).
    """
    return 2 * scale / math.pi * math.sqrt(-math.log(mtf) / 2)


def _kernel(name: str, scale: int, mtf: float) -> tuple[Kernel, float]:
    """A kernel over distances in hr pixels, and how far it reaches."""
    if name == "bicubic":
        return (lambda x: keys(x / scale)), 2.0 * scale
    if name == "box":
        return (lambda x: (np.abs(x) <= scale / 2).astype(np.float64)), scale / 2
    sigma = sigma_of_mtf(mtf, scale)
    return (lambda x: np.where(np.abs(x) <= 4 * sigma, np.exp(-0.5 * (x / sigma) ** 2), 0)), 4 * sigma


@lru_cache(maxsize=512)
def sampling_matrix(size: int, scale: int, kernel: str = "bicubic", mtf: float = 0.25) -> Array:
    """The weights with which hr pixels of one side make its lr pixels.

    Beyond the ends the side is mirrored, the end pixel included, as imresize does.

    Args:
        size: Length of the side in hr pixels, a multiple of `scale`.
        scale: hr pixels per lr pixel.
        kernel: "bicubic" (antialiased, widened by the scale), "box" or "mtf" (a Gaussian).
        mtf: Response at the lr Nyquist frequency, for "mtf".

    Returns:
        float32, shape (size // scale, size); each row sums to 1.
    """
    weigh, reach = _kernel(kernel, scale, mtf)
    out = size // scale
    centres = np.arange(out) * scale + (scale - 1) / 2
    first = np.floor(centres - reach).astype(int)
    taps = first[:, None] + np.arange(math.ceil(2 * reach) + 2)
    weights = weigh(taps - centres[:, None])
    weights /= weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((out, size))
    mirrored = np.concatenate([np.arange(size), np.arange(size)[::-1]])
    np.add.at(matrix, (np.arange(out)[:, None], mirrored[taps % (2 * size)]), weights)
    frozen = matrix.astype(np.float32)
    frozen.flags.writeable = False
    return frozen


@lru_cache(maxsize=512)
def _sparse(size: int, scale: int, kernel: str, mtf: float) -> Any:
    return csr_array(sampling_matrix(size, scale, kernel, mtf))


def _sampled(hr: Array, scale: int, kernel: str, mtf: float) -> Array:
    """Both sides of every band, (C, H, W) -> (C, h, w).

    Sparse products: threads that prepare patches must not each wake the processor's every core, as dense
    ones do.
    """
    bands, height, width = hr.shape
    tall = np.moveaxis(hr, 1, 0).reshape(height, bands * width)
    tall = _sparse(height, scale, kernel, mtf) @ tall  # (h, C * W)
    wide = np.moveaxis(tall.reshape(-1, bands, width), 2, 0).reshape(width, -1)
    wide = _sparse(width, scale, kernel, mtf) @ wide  # (w, h * C)
    return np.ascontiguousarray(wide.reshape(width // scale, -1, bands).transpose(2, 1, 0))


@lru_cache(maxsize=64)
def _sampling(scale: int, kernel: str, mtf: float) -> Sampling:
    """The weights of one lr pixel far from the ends."""
    reach = math.ceil(max(_kernel(kernel, scale, mtf)[1] / scale - 0.5, 0))
    row = sampling_matrix((2 * reach + 1) * 3 * scale, scale, kernel, mtf)[3 * reach + 1].astype(np.float64)
    seen = row[(2 * reach + 1) * scale : (2 * reach + 1) * 2 * scale]
    return Sampling(scale, tuple(seen / seen.sum()))


def margin_of(scale: int, degradation: Degradation) -> int:
    """Context around a patch that its lr pixels depend on.

    Returns:
        hr pixels, a multiple of `scale`.
    """
    if degradation.kernel == "box":
        return 0
    weakest = min(low for low, _ in (degradation.mtf, *degradation.mtf_by_band))
    reach = 2 * scale if degradation.kernel == "bicubic" else 4 * sigma_of_mtf(weakest, scale)
    return math.ceil(reach / scale) * scale


@dataclass(frozen=True)
class Degradation(Checked):
    """What a sensor does to the ground, hr to lr. A range is drawn from for each patch.

    Values are in the model's range, so a noise of 0.01 is a hundredth of the radiometric range.
    """

    kernel: Annotated[str, one_of(KERNELS)] = "bicubic"
    """"bicubic" (equals MATLAB's imresize), "box" (block means) or "mtf" (Gaussian)."""
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
            return cls(kernel=str(source))
        try:
            text = Path(source).read_text(encoding="utf-8")
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
        """The same sensor with every range drawn together to its middle, for validation."""

        def middle(span: Range) -> Range:
            return (sum(span) / 2, sum(span) / 2)

        quality = self.jpeg_quality and (sum(self.jpeg_quality) // 2,) * 2
        return replace(
            self,
            mtf=middle(self.mtf),
            mtf_by_band=tuple(middle(span) for span in self.mtf_by_band),
            noise_read=middle(self.noise_read),
            noise_shot=middle(self.noise_shot),
            jpeg_quality=quality,
        )

    def sample(self, hr: Array, scale: int, rng: np.random.Generator) -> Array:
        """Blur and sample only.

        Args:
            hr: float32, shape (C, H, W); sides are multiples of `scale`.
            scale: hr pixels per lr pixel.
            rng: Draws the MTF where it is a range.

        Returns:
            float32, shape (C, H // scale, W // scale).
        """
        if self.kernel != "mtf" or not self.mtf_by_band:
            return _sampled(hr, scale, self.kernel, round(rng.uniform(*self.mtf), 3))
        if len(self.mtf_by_band) != len(hr):
            raise ConfigError(
                f"Cannot degrade {len(hr)} bands: mtf_by_band describes {len(self.mtf_by_band)}. "
                "Give one value for each band."
            )
        drawn = [round(rng.uniform(*span), 3) for span in self.mtf_by_band]
        return np.concatenate(
            [_sampled(band[None], scale, "mtf", mtf) for band, mtf in zip(hr, drawn, strict=True)]
        )

    def samplings(self, scale: int, bands: int) -> tuple[Sampling, ...]:
        """Blur and sampling of the sensor at rest: of each band, and last of a band that is none of these.

        Raises:
            ConfigError: `mtf_by_band` describes another number of bands.
        """
        steady = self.at_rest()
        by_band = steady.mtf_by_band or (steady.mtf,) * bands
        if len(by_band) != bands:
            raise ConfigError(
                f"Cannot degrade {bands} bands: mtf_by_band describes {len(by_band)}. Give one value for each band."
            )
        return tuple(_sampling(scale, self.kernel, round(mtf, 3)) for mtf, _ in (*by_band, steady.mtf))

    def record(self, lr: Array, rng: np.random.Generator) -> Array:
        """Noise and JPEG on sampled pixels; quantisation is the radiometry's, see `quantised`.

        Args:
            lr: float32, shape (C, h, w), in the model's range.
            rng: Draws noise and the values of ranges.

        Returns:
            float32, shape (C, h, w).
        """
        read, shot = rng.uniform(*self.noise_read), rng.uniform(*self.noise_shot)
        if read or shot:
            spread = np.sqrt(read**2 + shot * np.clip(lr, 0, None))
            lr = lr + spread * rng.standard_normal(lr.shape, dtype=np.float32)
        if self.jpeg_quality:
            lr = _jpeg(lr, int(rng.integers(self.jpeg_quality[0], self.jpeg_quality[1] + 1)))
        return lr.astype(np.float32)

    def apply(self, hr: Array, scale: int, rng: np.random.Generator) -> Array:
        """The whole sensor but for quantisation: blur, sampling, noise, JPEG.

        Args:
            hr: float32, shape (C, H, W), in the model's range; sides are multiples of `scale`.
            scale: hr pixels per lr pixel.
            rng: Where random variation comes from.

        Returns:
            float32, shape (C, H // scale, W // scale), not clipped.
        """
        return self.record(self.sample(hr, scale, rng), rng)


def imresize_down(hr: Array, scale: int) -> Array:
    """Antialiased bicubic reduction, as MATLAB's imresize(image, 1/scale) computes it.

    Args:
        hr: Shape (C, H, W); sides are multiples of `scale`.
        scale: hr pixels per lr pixel.

    Returns:
        float32, shape (C, H // scale, W // scale), neither rounded nor clipped.
    """
    return Degradation().sample(np.asarray(hr, np.float32), scale, np.random.default_rng(0))


def _jpeg(lr: Array, quality: int) -> Array:
    """Through JPEG and back, in the model's range."""
    from PIL import Image

    if lr.shape[0] not in (1, 3):
        raise ConfigError(
            f"Cannot compress {lr.shape[0]} bands as JPEG: it takes 1 or 3. Leave jpeg_quality out."
        )
    dn = np.rint(np.clip(lr, 0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(dn[0] if len(dn) == 1 else dn.transpose(1, 2, 0))
    packed = io.BytesIO()
    picture.save(packed, "JPEG", quality=quality)
    back: Array = np.asarray(Image.open(packed), np.float32) / np.float32(255)
    return back[None] if back.ndim == 2 else back.transpose(2, 0, 1)


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
