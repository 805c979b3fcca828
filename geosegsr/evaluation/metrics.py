"""Measures of an enlarged image: against the truth, and against its own input.

Images have the shape (bands, height, width) and are in the model's range: 0 to 1 for the value range. A mask of valid
pixels, shape (height, width), excludes the others; SSIM and UQI exclude windows that hold an invalid pixel. Each function
measures one image; the caller takes means over images.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torchmetrics.functional.image import (
    error_relative_global_dimensionless_synthesis,
    spectral_angle_mapper,
    structural_similarity_index_measure,
    universal_image_quality_index,
)

from geosegsr.errors import ConfigError
from geosegsr.imagery.registration import phase_shift

Image: TypeAlias = NDArray[np.floating[Any]]
Mask: TypeAlias = NDArray[np.bool_]
LUMA = np.array([65.481, 128.553, 24.966])
"""Weights of red, green and blue in brightness, which spans 16 to 235 where they span 0 to 1."""
SSIM_REACH = 5
"""Pixels at each edge that SSIM's and UQI's 11 x 11 window cannot be centred on."""


def crop_border(image: NDArray[Any], border: int) -> NDArray[Any]:
    """An image without `border` pixels at each edge; the literature crops as many as the scale."""
    return image[..., border : image.shape[-2] - border, border : image.shape[-1] - border]


def luma(rgb: Image) -> Image:
    """Brightness as television defines it.

    Args:
        rgb: Red, green, blue in 0 to 1, shape (3, h, w).

    Returns:
        Shape (1, h, w), values in 16/255 to 235/255.

    Source:
        ITU-R BT.601, with the constants of MATLAB's rgb2ycbcr.
    """
    return np.tensordot(LUMA / 255, rgb.astype(np.float64), axes=1)[None] + 16 / 255


def psnr(sr: Image, hr: Image, valid: Mask | None = None, data_range: float = 1.0) -> float:
    """Peak signal-to-noise ratio over all bands and valid pixels, in dB; infinite for equal images."""
    error = _pixels(sr, valid) - _pixels(hr, valid)
    mean = float(np.mean(error**2)) if error.size else math.nan
    return math.inf if mean == 0 else 10 * math.log10(data_range**2 / mean)


def ssim(sr: Image, hr: Image, valid: Mask | None = None, data_range: float = 1.0) -> float:
    """Structural similarity, mean over bands and the places where its whole window lies in the image.

    Returns:
        At most 1; NaN where no window fits.

    Source:
        Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural
        similarity", 2004: 11 x 11 Gaussian window, sigma 1.5, K 0.01 and 0.03.
    """

    def index(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        found = structural_similarity_index_measure(a, b, data_range=data_range, return_full_image=True)
        return crop_border(found[1], SSIM_REACH)  # type: ignore[arg-type, return-value]

    return _mean_of_windows(index, sr, hr, valid)


def uqi(sr: Image, hr: Image, valid: Mask | None = None) -> float:
    """Universal quality index, mean over bands and the places where its whole window lies in the image.

    Source:
        Wang, Bovik, "A universal image quality index", 2002, as torchmetrics computes it (Gaussian window).
    """

    def index(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = universal_image_quality_index(a, b, reduction="none")
        return found

    return _mean_of_windows(index, sr, hr, valid)


def sam(sr: Image, hr: Image, valid: Mask | None = None) -> float:
    """Spectral angle, mean over valid pixels, in degrees.

    Pixels that are zero in either image have no direction and are left out. NaN if none is left, or for a single
    band.
    """
    if sr.shape[0] < 2:
        return math.nan
    a, b = _pixels(sr, valid), _pixels(hr, valid)
    lit = (np.abs(a).sum(axis=0) > 0) & (np.abs(b).sum(axis=0) > 0)
    if not lit.any():
        return math.nan
    angles = spectral_angle_mapper(
        _batch(a[:, None, lit]), _batch(b[:, None, lit]), reduction="elementwise_mean"
    )
    return math.degrees(float(angles))


def ergas(sr: Image, hr: Image, scale: int, valid: Mask | None = None) -> float:
    """Relative dimensionless global error; 0 is best. NaN if the mean of a band is 0.

    Source:
        L. Wald, "Quality of high resolution synthesised images", 2000: 100 / scale times the root mean
        square over bands of RMSE / mean.
    """
    a, b = _pixels(sr, valid), _pixels(hr, valid)
    if not b.size or not np.abs(b.mean(axis=1)).all():
        return math.nan
    return float(
        error_relative_global_dimensionless_synthesis(_batch(a[:, None]), _batch(b[:, None]), ratio=scale)
    )


def quality(
    sr: Image, hr: Image, scale: int, *, border: int | None = None, valid: Mask | None = None
) -> dict[str, float]:
    """Every measure against the truth.

    Args:
        sr: Enlarged image, shape (C, H, W).
        hr: The truth, same shape.
        scale: Output pixels per input pixel.
        border: Pixels cropped at each edge before anything is measured; the scale by default.
        valid: Pixels that count, shape (H, W); all by default.

    Returns:
        psnr, ssim, sam, ergas, uqi over all bands; psnr_y and ssim_y for images of three bands.
    """
    border = scale if border is None else border
    sr, hr = crop_border(sr, border), crop_border(hr, border)
    valid = None if valid is None else crop_border(valid, border)
    found = {
        "psnr": psnr(sr, hr, valid),
        "ssim": ssim(sr, hr, valid),
        "sam": sam(sr, hr, valid),
        "ergas": ergas(sr, hr, scale, valid),
        "uqi": uqi(sr, hr, valid),
    }
    if sr.shape[0] == 3:
        y_sr, y_hr = luma(sr), luma(hr)
        found["psnr_y"], found["ssim_y"] = psnr(y_sr, y_hr, valid), ssim(y_sr, y_hr, valid)
    return found


def to_lr_grid(image: Image, scale: int) -> Image:
    """Downsample by antialiased bilinear interpolation, as opensr-test does.

    Args:
        image: Shape (C, H, W); sides are multiples of `scale`.
        scale: Pixels per lr pixel.

    Returns:
        Shape (C, H // scale, W // scale).
    """
    return _interpolate(image, 1 / scale)


def to_hr_grid(lr: Image, scale: int) -> Image:
    """Enlarge by bilinear interpolation, the reference of opensr-test."""
    return _interpolate(lr, float(scale))


def consistency(sr: Image, lr: Image, scale: int, border: int = 16) -> dict[str, float]:
    """How far an enlarged image, downsampled, is from its input.

    Args:
        sr: Shape (C, scale*h, scale*w).
        lr: The input, shape (C, h, w).
        scale: Output pixels per input pixel.
        border: hr pixels cropped at each edge; fewer if the image is small.

    Returns:
        reflectance: Mean absolute difference, in the model's range.
        spectral: Mean spectral angle, in degrees; NaN for a single band.
        spatial: Length of the shift between both, in lr pixels.

    Source:
        opensr-test (Aybar et al., "A comprehensive benchmark for optical remote sensing image
        super-resolution", 2024), consistency with its default distances L1, SAD and phase correlation.
    """
    cut = _lr_border(lr, scale, border)
    seen = to_lr_grid(crop_border(sr, cut * scale), scale)
    lr = crop_border(lr, cut)
    return {
        "reflectance": float(np.abs(seen - lr).mean()),
        "spectral": sam(seen, lr),
        "spatial": math.hypot(*phase_shift(seen.mean(axis=0), lr.mean(axis=0))),
    }


def correctness(
    sr: Image,
    hr: Image,
    lr: Image,
    scale: int,
    *,
    border: int = 16,
    threshold: float | None = None,
    harmonise: bool = True,
) -> dict[str, float]:
    """Shares of the missing detail that were added correctly, left out or invented.

    At each pixel three distances span a triangle: from input to truth (the missing detail), from sr to truth, and from sr
    to input. Close to the truth is improvement, close to the input omission, far from both hallucination.

    Args:
        sr: Shape (C, H, W).
        hr: The truth, same shape.
        lr: The input, shape (C, H // scale, W // scale).
        scale: Output pixels per input pixel.
        border: hr pixels cropped at each edge; fewer if the image is small.
        threshold: Pixels where no distance exceeds it are left out; by default the 75th percentile of the distance
            between input and truth.
        harmonise: Whether histogram matching and alignment remove colour and shift of sr against the truth first.

    Returns:
        improvement, omission, hallucination: 0 to 1, with sum 1; NaN if there is nothing to add.

    Source:
        opensr-test, correctness with its default distance (normalised difference), exponents 0.05 and
        temperature 0.25.
    """
    cut = _lr_border(lr, scale, border)
    sr, hr = crop_border(sr, cut * scale), crop_border(hr, cut * scale)
    base = to_hr_grid(crop_border(lr, cut), scale)
    if harmonise:
        sr = _harmonised(sr, hr)
    d_ref, d_im, d_om = _distance(base, hr), _distance(sr, hr), _distance(sr, base)
    if threshold is None:
        threshold = float(np.sort(d_ref, axis=None)[max(int(0.75 * d_ref.size) - 1, 0)])
    counted = ((d_ref > threshold) | (d_im > threshold) | (d_om > threshold)) & (d_ref > 0)
    if not counted.any():
        return dict.fromkeys(("improvement", "omission", "hallucination"), math.nan)
    shares = _shares(d_im[counted] / d_ref[counted], d_om[counted] / d_ref[counted])
    return dict(zip(("improvement", "omission", "hallucination"), shares, strict=True))


def _shares(d_im: Image, d_om: Image, exponent: float = 0.05, temperature: float = 0.25) -> list[float]:
    """Mean soft membership of pixels in the three classes; distances are in units of d_ref."""
    towards = 1 - np.exp(-(d_im + d_om - 1) * exponent)
    scores = np.stack([d_im + d_om * towards, d_om + d_im * towards, np.exp(-d_im * d_om * exponent)])
    weights = np.exp(-(scores - scores.min(axis=0)) / temperature)
    shares: list[float] = (weights / weights.sum(axis=0)).mean(axis=1).tolist()
    return shares


def _distance(a: Image, b: Image) -> Image:
    """Normalised difference of each pixel, mean over bands."""
    return np.asarray((np.abs(a - b) / np.abs(a + b + 1e-8)).mean(axis=0))


def _harmonised(sr: Image, hr: Image) -> Image:
    """The sr image with the histogram of the truth, moved onto the truth if it lies at most 5 pixels off."""
    matched = np.stack([_match_histogram(a, b) for a, b in zip(sr, hr, strict=True)])
    rows, cols = phase_shift(hr.mean(axis=0), matched.mean(axis=0))
    if max(abs(rows), abs(cols)) > 5 or math.hypot(rows, cols) < 0.05:
        return matched
    return np.asarray(ndimage.shift(matched, (0, rows, cols), order=1, mode="nearest"))


def _match_histogram(source: Image, target: Image) -> Image:
    """`source` with the distribution of values of `target`; what scikit-image calls `match_histograms`."""
    _, where, counts = np.unique(source, return_inverse=True, return_counts=True)
    values, target_counts = np.unique(target, return_counts=True)
    quantiles = np.cumsum(counts) / source.size
    matched = np.interp(quantiles, np.cumsum(target_counts) / target.size, values)
    return np.asarray(matched[where].reshape(source.shape))


def _pixels(image: Image, valid: Mask | None) -> Image:
    """Valid pixels of each band, float64, shape (C, n)."""
    flat = image.reshape(image.shape[0], -1) if valid is None else image[:, valid]
    return flat.astype(np.float64)


def _batch(image: Image) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image, np.float64))[None]


def _mean_of_windows(
    index: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], sr: Image, hr: Image, valid: Mask | None
) -> float:
    """Mean of an index over bands and over windows of valid pixels only; NaN if there is none.

    Args:
        index: From two images (1, C, h, w) to the values where a whole window fits, SSIM_REACH pixels off the edges.
        sr: Shape (C, h, w).
        hr: Same shape.
        valid: Shape (h, w).
    """
    height, width = sr.shape[-2:]
    if min(height, width) <= 2 * SSIM_REACH:
        return math.nan
    whole = np.ones((height, width), bool) if valid is None else valid
    counted = ndimage.minimum_filter(whole, 2 * SSIM_REACH + 1, mode="constant", cval=True)
    chosen = counted[SSIM_REACH : height - SSIM_REACH, SSIM_REACH : width - SSIM_REACH]
    if not chosen.any():
        return math.nan
    # float32: torch unfolds every window of a float64 image first, which is 121 times its size.
    values = index(_batch(sr).float(), _batch(hr).float())[0].double().numpy()
    return float(values[:, chosen].mean())


def _interpolate(image: Image, factor: float) -> Image:
    enlarged = torch.nn.functional.interpolate(
        _batch(image), scale_factor=factor, mode="bilinear", antialias=True
    )
    return np.asarray(enlarged[0].numpy())


def _lr_border(lr: Image, scale: int, border: int) -> int:
    """The border in lr pixels, but at most a quarter of a side."""
    if min(lr.shape[-2:]) < 1:
        raise ConfigError("Cannot measure an empty image: it has no pixels.")
    return min(border // scale, int(min(lr.shape[-2:])) // 4)
