"""Coarse bands sharpened by finer ones, by Wald's protocol one level down, where the truth is known.

The coarse bands are reduced by their own ratio and restored, guided by the finer bands reduced to the coarse grid. The
fit sees the upper two thirds; the lower third is scored.

    python benchmarks/quality/multires.py PRODUCT                       a .SAFE, its zip, a Landsat folder, ...
    python benchmarks/quality/multires.py 10m.tif 20m.tif 60m.tif       rasters of one ground, from the finest

Printed for each band: PSNR in dB against the range between the percentiles 0.1 and 99.9 of the scored truth, and RMSE in
DN, of

    bicubic     each band alone
    alone       the least image that agrees with the input, each band alone
    guided      `geosegsr.sharpening`, told the blur by which the protocol reduces
    estimated   the same, with the blur estimated from the reduced scene, which is the input of the protocol
    both        estimated, and fitted on the reduced scene itself, one level further down, as `upscale` fits a scene
    from below  fitted there, but told the blur; in brackets the error that this fit expects

The protocol reduces the guide by the blur of the coarse bands (--mtf), so the guide becomes blurrier than they are wherever the
scene's own bands differ less. With --guide-mtf 0 the guide is reduced by the blur that the scene shows between its own bands:
the reduced bands then differ as those of the scene do.

and below each group, for the native bands on the finest grid, the correlation of their fine detail with that of the guide's
band that is most like them: enlarged by bicubic interpolation, and sharpened.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from geosegsr.models.interpolation import Interpolator
from geosegsr.raster.products import open_product
from geosegsr.raster.scene import Scene
from geosegsr.raster.window import Window
from geosegsr.sensor.consistency import degraded, least_image
from geosegsr.sharpening.blur import Sample, estimate_mtf, sampling_of_mtf
from geosegsr.sharpening.fit import fit
from geosegsr.sharpening.product import groups_of
from geosegsr.sharpening.scene import SharpenedScene
from geosegsr.sharpening.sharpen import sharpen
from geosegsr.sharpening.stack import StackedScene

Floats = NDArray[np.floating[Any]]
_EDGE = 4
"""Coarse pixels at the edges that are not scored."""


@dataclass(frozen=True)
class Level:
    """Coarse bands and their guide, from the middle of a scene."""

    names: tuple[str, ...]
    guide_names: tuple[str, ...]
    coarse: Floats
    """DN, shape (bands, h, w)."""
    guide: Floats
    """DN, shape (guide bands, ratio * h, ratio * w)."""
    usable: NDArray[np.bool_]
    sharpened: Floats
    """What `upscale --scale 1` makes of the coarse bands, on the guide's grid."""
    ratio: int
    half: bool
    seconds: float
    """What the fit to the scene took."""
    mtf: float
    """Of the blur between both, estimated."""


def levels(rasters: list[str], side: int) -> list[Level]:
    """Each coarser raster with all finer ones as its guide."""
    finest, *coarser = rasters
    guide, found = Scene.open(finest), []
    for raster in coarser:
        coarse = Scene.open(raster)
        began = time.perf_counter()
        scene = SharpenedScene.of(coarse, guide)
        found.append(_level(coarse, guide, scene, side, time.perf_counter() - began))
        guide = StackedScene.of(raster, guide, scene)
    return found


def _level(coarse: Scene, guide: Scene, scene: SharpenedScene, side: int, seconds: float) -> Level:
    nesting = scene.sharpener.nesting
    ratio = nesting.ratio
    rows, cols = (
        min(side, length) // ratio**2 * ratio**2 or length // ratio * ratio
        for length in (coarse.height, coarse.width)
    )
    window = Window((coarse.height - rows) // 2, (coarse.width - cols) // 2, rows, cols)
    values, valid = coarse.read(window)
    fine = window.scaled(ratio)
    part = nesting.read(fine)
    assert part is not None, "the guide does not reach the middle of the scene"
    sharp, known = nesting.spread(fine, *guide.read(part))
    usable = valid.all(0) & known.all(0).reshape(rows, ratio, cols, ratio).all((1, 3))
    return Level(
        _names(coarse), _names(guide), values.astype(np.float64), sharp.astype(np.float64), usable,
        scene.read(fine)[0].astype(np.float64), ratio, nesting.half, seconds, scene.sharpener.fit.mtf,
    )  # fmt: skip


def _names(scene: Scene) -> tuple[str, ...]:
    return tuple(
        name or f"band {band}" for band, name in zip(scene.image_bands, scene.descriptions, strict=True)
    )


def restored(level: Level, mtf: float, guide_mtf: float) -> tuple[dict[str, Floats], list[float]]:
    """The coarse bands, reduced by a blur and restored in several ways; and the errors that the last way expects."""
    sampling = sampling_of_mtf(level.ratio, mtf, level.half)
    of_guide = sampling_of_mtf(level.ratio, guide_mtf, level.half)
    # The lower level needs sides that divide again.
    rows, cols = (length // level.ratio * level.ratio for length in level.usable.shape)
    truth = level.coarse[:, :rows, :cols]
    low = np.stack([degraded(band, sampling) for band in truth])
    guide = np.stack([degraded(band, of_guide) for band in level.guide])[:, :rows, :cols]
    upper = rows * 2 // 3 // level.ratio * level.ratio
    sample = Sample(
        truth[:, :upper].astype(np.float32),
        level.guide[:, : upper * level.ratio, : cols * level.ratio].astype(np.float32),
        level.usable[:upper, :cols],
    )
    whole = np.ones(low.shape, bool), np.ones(guide.shape, bool)
    out = {
        "bicubic": Interpolator("bicubic", level.ratio)(low[None])[0],
        "alone": np.stack([least_image(band, sampling) for band in low]),
    }
    below = _below(low, guide, level.ratio)
    estimated = estimate_mtf([below], level.ratio, level.half)
    print(
        f"MTF {mtf:.2f} (guide {guide_mtf:.2f}), estimated from the reduced scene {estimated:.2f}, from the scene itself {level.mtf:.2f}\n"
    )
    for name, known, seen in (
        ("guided", mtf, sample),
        ("estimated", estimated, sample),
        ("both", estimated, below),
        ("from below", mtf, below),
    ):
        fitted = fit([seen], level.ratio, len(guide), len(low), mtf=known, half=level.half)
        out[name] = sharpen(fitted, (low, whole[0]), (guide, whole[1]), (0, 0), np.dtype(np.float64))
    return out, [quality.rmse for quality in fitted.quality]


def _below(low: Floats, guide: Floats, ratio: int) -> Sample:
    """The reduced scene, as far as it divides again."""
    rows, cols = (length // ratio * ratio for length in low.shape[1:])
    return Sample(
        low[:, :rows, :cols].astype(np.float32),
        guide[:, : rows * ratio, : cols * ratio].astype(np.float32),
        np.ones((rows, cols), dtype=bool),
    )


def scores(found: Floats, level: Level) -> NDArray[np.float64]:
    """PSNR in dB and RMSE in DN of each band, over the lower third; shape (bands, 2)."""
    rows, cols = found.shape[1:]
    edge = min(_EDGE, rows // 12)
    scored = (slice(rows * 2 // 3 + edge, rows - edge), slice(edge, cols - edge))
    inside = level.usable[:rows, :cols][scored]
    result = []
    for band, truth in zip(found, level.coarse[:, :rows, :cols], strict=True):
        t = truth[scored][inside]
        low, high = np.percentile(t, [0.1, 99.9])
        error = np.sqrt(np.mean((band[scored][inside] - t) ** 2))
        result.append((20 * np.log10((high - low) / error), error))
    return np.array(result)


def detail_correlation(level: Level) -> list[tuple[str, str, float, float]]:
    """Of each native band: its name, the most similar band of the guide, and the correlation of fine detail with it."""

    def fine(band: Floats) -> Floats:
        inner = (band - uniform_filter(band, level.ratio + 1))[8:-8, 8:-8]
        return (inner - inner.mean()) / max(inner.std(), 1e-9)

    rows, cols = level.usable.shape
    seen = level.guide.reshape(len(level.guide), rows, level.ratio, cols, level.ratio).mean((2, 4))
    enlarged = Interpolator("bicubic", level.ratio)(level.coarse[None])[0]
    found = []
    for name, coarse, plain, sharp in zip(level.names, level.coarse, enlarged, level.sharpened, strict=True):
        alike = [np.corrcoef(coarse.ravel(), band.ravel())[0, 1] for band in seen]
        best = int(np.argmax(alike))
        own = fine(level.guide[best])
        found.append(
            (
                name,
                level.guide_names[best],
                float((fine(plain) * own).mean()),
                float((fine(sharp) * own).mean()),
            )
        )
    return found


def report(level: Level, mtf: float, guide_mtf: float) -> None:
    """Print the tables of one level."""
    h, w = level.usable.shape
    print(
        f"\n{', '.join(level.names)} by {', '.join(level.guide_names)}: ratio {level.ratio}, {w} x {h} coarse pixels, fit {level.seconds:.1f} s\n"
    )
    found, expected = restored(level, mtf, guide_mtf or level.mtf)
    by_way = {way: scores(bands, level) for way, bands in found.items()}
    print(f"| band | {' | '.join(by_way)} |\n|---|{'---|' * len(by_way)}")
    expected = [*expected, float(np.mean(expected))]
    for number, name in enumerate((*level.names, "mean")):
        cells = [
            "{:.2f} dB, {:.1f} DN".format(*(table[number] if number < len(table) else table.mean(0)))
            for table in by_way.values()
        ]
        print(f"| {name} | {' | '.join(cells)} ({expected[number]:.1f}) |")
    print("\n| native band | most alike | bicubic | sharpened |\n|---|---|---|---|")
    for name, other, plain, sharp in detail_correlation(level):
        print(f"| {name} | {other} | {plain:.3f} | {sharp:.3f} |")


def main() -> None:
    """Read the command line and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "rasters", nargs="+", help="a product, or rasters of one ground from the finest to the coarsest"
    )
    parser.add_argument(
        "--mtf", type=float, default=0.3, help="of the protocol's blur, at the Nyquist frequency (0.3)"
    )
    parser.add_argument(
        "--guide-mtf",
        type=float,
        help="of the blur that reduces the guide; 0 for what the scene shows (as --mtf)",
    )
    parser.add_argument(
        "--side", type=int, default=600, help="most coarse pixels along a side, from the middle (600)"
    )
    options = parser.parse_args()
    rasters = options.rasters
    if len(rasters) == 1:
        product = open_product(rasters[0])
        rasters = [] if product is None else [part.source for part in groups_of(product)]
    if len(rasters) < 2:
        parser.error("needed are a product with several pixel sizes, or two rasters or more")
    for level in levels(rasters, options.side):
        report(level, options.mtf, options.mtf if options.guide_mtf is None else options.guide_mtf)


if __name__ == "__main__":
    main()
