"""Loss terms. Each takes sr and hr, shape (N, C, H, W), and returns a scalar."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from geosegsr.errors import ConfigError


def l1(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean absolute error."""
    return (sr - hr).abs().mean()


def charbonnier(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean absolute error, smoothed below a thousandth of the value range so that its gradient is continuous.

    Source:
        Lai et al., "Deep Laplacian pyramid networks", 2017, section 3.3, epsilon 1e-3.
    """
    return ((sr - hr).square() + 1e-6).sqrt().mean()


def mse(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean square error."""
    return (sr - hr).square().mean()


def psnr(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean over patches of the negative PSNR in dB: smooth patches count as much as textured ones.

    Errors below 0.1 % of the value range (60 dB), about those of rounding to 8 bits, lose their weight.

    Source:
        Chen et al., "Simple baselines for image restoration", 2022; the bound is our addition.
    """
    each: Tensor = (sr - hr).square().flatten(1).mean(1)  # (N)
    return 10 * torch.log10(each + 1e-6).mean()


def fft(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean absolute difference of the spectra (unitary transform): fine detail weighs as much as coarse.

    Source:
        Cho et al., "Rethinking coarse-to-fine approach in single image deblurring", 2021, equation 3.
    """
    a, b = (torch.fft.rfft2(image.float(), norm="ortho") for image in (sr, hr))
    difference: Tensor = (a - b).abs()
    return difference.mean()


def spectral_angle(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean angle between the bands of sr and hr at each pixel, in radians; 0 for a single band."""
    a, b = sr.float(), hr.float()
    # Unlike the cosine, the distance between unit vectors has a finite gradient where they are equal.
    a = a / (a.norm(dim=1, keepdim=True) + 1e-4)
    b = b / (b.norm(dim=1, keepdim=True) + 1e-4)
    chord = ((a - b).square().sum(dim=1) + 1e-12).sqrt().clamp(max=1.999)
    return (2 * torch.asin(chord / 2)).mean()


TERMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": l1,
    "charbonnier": charbonnier,
    "mse": mse,
    "psnr": psnr,
    "fft": fft,
    "spectral_angle": spectral_angle,
}


class Loss:
    """A weighted sum of terms."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        unknown = sorted(set(weights) - set(TERMS))
        if (
            unknown
            or not weights
            or not all(
                isinstance(weight, int | float) and 0 <= weight < math.inf for weight in weights.values()
            )
            or not any(weights.values())
        ):
            raise ConfigError(
                f"Cannot use the loss {dict(weights)}: it needs terms out of {', '.join(TERMS)}, "
                "with weights of at least 0, at least one of them above 0."
            )
        self.weights = {name: weight for name, weight in weights.items() if weight}

    def __call__(self, sr: Tensor, hr: Tensor) -> Tensor:
        """The loss of sr against hr, both float32, shape (N, C, H, W); a scalar."""
        terms = [weight * TERMS[name](sr, hr) for name, weight in self.weights.items()]
        return torch.stack(terms).sum()
