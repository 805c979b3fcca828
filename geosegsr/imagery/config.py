"""Which images a training run or an evaluation reads, and how patches are cut from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from geosegsr.schema import UPWARDS, Checked, bounds, length, one_of
from geosegsr.sensor.degradation import Degradation

RADIOMETRIES = ("auto", "dtype", "declared", "percentiles", "standard", "range")


@dataclass(frozen=True)
class SourceConfig(Checked):
    """Images of one kind, in a training run on several kinds."""

    hr: Annotated[tuple[str, ...], length(1)]
    """Folders, patterns or files of high-resolution images of one kind."""
    share: Annotated[float, bounds(gt=0)] = 1.0
    """Share of the patches that come from here, relative to the shares of the other sources."""
    bands: tuple[int, ...] = ()
    """1-based bands to use, in this order; empty for all. If there are more than the model takes, every patch draws
    that many at random; a single band is repeated."""
    nodata: float | Literal["auto"] | None = None
    """Overrides the files' own nodata value; "auto" takes that of a region along the border, where a file declares none."""
    radiometry: Annotated[str, one_of(("auto", "dtype", "declared", "percentiles", "bands"))] = "auto"
    """Origin of the value range of each image: "auto", "dtype", "declared", "percentiles" (of the image, all bands
    together) or "bands" (percentiles of each band)."""
    grey: Annotated[float, bounds(0, 1)] = 0.0
    """Share of patches whose bands are all replaced by one of them, or by a mixture of them."""
    shuffle_bands: Annotated[float, bounds(0, 1)] = 0.0
    """Share of patches whose bands are put in random order."""
    blur: Annotated[tuple[float, float], bounds(0), UPWARDS] = (0.0, 0.0)
    """Range of the standard deviation, in hr pixels, of a blur of hr itself, drawn for each patch. It imitates imagery
    that was resampled from coarser pixels and has no detail to restore."""
    zoom: Annotated[tuple[float, float], bounds(1), UPWARDS] = (1.0, 1.0)
    """Range of the factor by which hr is downsampled, drawn for each patch and axis: the same objects in other sizes and
    shapes. An image smaller than a patch times its factor is downsampled as far as it reaches."""
    degradation: Degradation | None = None
    """hr to lr; by default that of the run."""


@dataclass(frozen=True)
class DataConfig(Checked):
    """Which images, and how patches are cut from them."""

    hr: tuple[str, ...] = ()
    """Folders, patterns or files of high-resolution images."""
    sources: tuple[SourceConfig, ...] = ()
    """Images of several kinds, in place of `hr`; the model takes the bands of the first."""
    lr: tuple[str, ...] = ()
    """The low-resolution side of real pairs; empty to make lr by degradation."""
    val: tuple[str, ...] = ()
    """Images to validate on; empty to set part of the ground aside."""
    val_lr: tuple[str, ...] = ()
    """Low-resolution side of `val`, for real pairs."""
    val_share: Annotated[float, bounds(0, lt=1)] = 0.1
    """Share of the ground that is set aside if `val` is empty."""
    bands: tuple[int, ...] = ()
    """1-based bands to train on; empty for all."""
    nodata: float | Literal["auto"] | None = None
    """Overrides the files' own nodata value; "auto" takes that of a region along the border, where a file declares none."""
    radiometry: Annotated[str, one_of(RADIOMETRIES)] = "auto"
    """Origin of the model's value range: "auto", "dtype", "declared" (scale and offset tags),
    "percentiles" (of all training images), "standard" (mean and standard deviation of each band) or "range"."""
    range: tuple[float, ...] = ()
    """LO and HI in DN, for the radiometry "range"."""
    patch: Annotated[int, bounds(8)] = 48
    """Side of a patch, in lr pixels."""
    texture: float = 0.5
    """Preference for textured places: 0 for none, 1 for a probability in proportion to their texture."""
    augment: bool = True
    """Flips, quarter turns, and patches that begin at any hr pixel instead of every scale-th."""
    grey: Annotated[float, bounds(0, lt=1)] = 0.0
    """Share of patches whose bands are all replaced by one of them, or by a mixture of them."""
    shuffle_bands: Annotated[float, bounds(0, lt=1)] = 0.0
    """Share of patches whose bands are put in random order, for models that must not depend on the order."""
    max_shift: float = 3.0
    """Largest shift within a pair that is corrected, in lr pixels; pairs beyond it are left out."""
    match_pairs: bool = True
    """Whether each band of hr of a real pair gets the mean and the contrast that its lr has around each pixel."""
    cache_gb: float = 4.0
    """Memory for decoded images, in GB; images beyond it are read by windows."""
    workers: Annotated[int, bounds(1)] = 1
    """Threads that prepare batches."""
