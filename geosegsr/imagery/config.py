"""Which images a training run or an evaluation reads, and how patches are cut from them."""

from __future__ import annotations

from dataclasses import dataclass

from geosegsr.errors import ConfigError
from geosegsr.schema import choose
from geosegsr.sensor.degradation import Degradation

RADIOMETRIES = ("auto", "dtype", "declared", "percentiles", "standard", "range")


@dataclass(frozen=True)
class SourceConfig:
    """One kind of images among several that a model is trained on together."""

    hr: tuple[str, ...] = ()
    """Folders, patterns or files of high-resolution images of one kind."""
    share: float = 1.0
    """How often patches come from here, beside the shares of the others."""
    bands: tuple[int, ...] = ()
    """1-based bands to use, in this order; empty for all. Where they are more than the model's, every patch
    draws as many of them at random; a single one is repeated."""
    nodata: float | None = None
    """Overrides the files' own nodata value."""
    radiometry: str = "auto"
    """Where the range of each image comes from: "auto", "dtype", "declared", "percentiles" (its own, of all bands
    together) or "bands" (percentiles of each band)."""
    grey: float = 0.0
    """Share of patches whose bands are all replaced by one of them, or by a mixture."""
    shuffle_bands: float = 0.0
    """Share of patches whose bands change places."""
    blur: tuple[float, float] = (0.0, 0.0)
    """Widths (standard deviation, hr pixels) of a blur over hr itself, drawn for each patch: imagery that was
    resampled from coarser pixels and has no detail to be restored."""
    zoom: tuple[float, float] = (1.0, 1.0)
    """Factors by which hr is reduced, drawn for each patch and axis: the same things in other sizes and shapes. An image
    smaller than a patch times its factor is reduced as far as it reaches."""
    degradation: Degradation | None = None
    """hr to lr, where it is not the run's."""


@dataclass(frozen=True)
class DataConfig:
    """Which images, and how patches are cut from them."""

    hr: tuple[str, ...] = ()
    """Folders, patterns or files of high-resolution images."""
    sources: tuple[SourceConfig, ...] = ()
    """Images of several kinds, in place of `hr`; the first one's bands are the model's."""
    lr: tuple[str, ...] = ()
    """The same for the low-resolution side of real pairs; empty to make it by degradation."""
    val: tuple[str, ...] = ()
    """Images to validate on; empty to set a part of the ground aside."""
    val_lr: tuple[str, ...] = ()
    """Low-resolution side of `val`, for real pairs."""
    val_share: float = 0.1
    """Share of the ground set aside where `val` is empty."""
    bands: tuple[int, ...] = ()
    """1-based bands to train on; empty for all."""
    nodata: float | None = None
    """Overrides the files' own nodata value."""
    radiometry: str = "auto"
    """Where the model's range comes from: "auto", "dtype", "declared" (scale and offset tags),
    "percentiles" (of all training images), "standard" (mean and deviation of each band) or "range"."""
    range: tuple[float, ...] = ()
    """LO and HI in DN, for the radiometry "range"."""
    patch: int = 48
    """Side of a patch, in lr pixels."""
    texture: float = 0.5
    """How strongly textured places are preferred: 0 not at all, 1 in proportion to their texture."""
    augment: bool = True
    """Flips, quarter turns, and patches that begin at any hr pixel instead of every scale-th."""
    grey: float = 0.0
    """Share of patches whose bands are all replaced by one of them, or by a mixture."""
    shuffle_bands: float = 0.0
    """Share of patches whose bands change places, for models that shall not depend on their order."""
    max_shift: float = 3.0
    """Largest shift in a pair that is corrected, in lr pixels; pairs beyond it are left out."""
    match_pairs: bool = True
    """Give hr of a real pair the mean and deviation of its lr in each band."""
    cache_gb: float = 4.0
    """Images are kept decoded in memory as long as they fit into this; others are read by windows."""
    workers: int = 1
    """Threads that prepare batches."""


def check_source(source: SourceConfig, where: str) -> None:
    """Refuse a source that no patch can be drawn from.

    Raises:
        ConfigError: It names no images, or one of its numbers cannot work.
    """
    if not source.hr:
        raise ConfigError(f"Cannot train on {where}: it names no images. Give it hr.")
    if source.share <= 0:
        raise ConfigError(f"Cannot train on {where}: its share is {source.share:g}; it must be above 0.")
    choose(f"radiometry of {where}", source.radiometry, ("auto", "dtype", "declared", "percentiles", "bands"))
    for name, span, least in (("blur", source.blur, 0), ("zoom", source.zoom, 1)):
        if len(span) != 2 or not least <= span[0] <= span[1]:
            raise ConfigError(
                f"Cannot train with {name} {list(span)} in {where}: it must be two numbers, upwards from {least}."
            )
    for name, share in (("grey", source.grey), ("shuffle_bands", source.shuffle_bands)):
        if not 0 <= share <= 1:
            raise ConfigError(f"Cannot train with {name} = {share:g} in {where}: it must be from 0 to 1.")
