"""What a model gains over bicubic where the input was blurred, noisy or compressed, on every source of a folder.

    python benchmarks/quality/sensors.py IMAGERY/val --scale 4 [--model FILE ...] [--sensor auto|bicubic|true] [--every SOURCE=N ...]

Each subfolder of IMAGERY/val is a source. Its images are blurred by a Gaussian, reduced by antialiased bicubic, given noise,
rounded to 8 bits and compressed, then enlarged by `super_resolve` with default settings, so that the sensor is estimated by
the package itself; `true` tells it what was done. PSNR of Y (BT.601) without SCALE pixels at each edge, in dB, as gain over
bicubic (a = -0.5). With `--lpips WEIGHTS`, LPIPS follows in each cell. Images with more than 640 pixels a side are cut to their
middle.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import xarray as xr
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter1d

import geosegsr
from benchmarks.quality.lpips import Lpips
from geosegsr.sensor.degradation import Degradation, imresize_down
from geosegsr.sensor.descriptor import SensorDescriptor, quantisation_of, response

LONGEST = 640
LUMA = np.array([65.481, 128.553, 24.966])
SUFFIXES = (".tif", ".png", ".webp", ".jpg")


@dataclass(frozen=True)
class Spoilt:
    """What is done to an image before it is enlarged again."""

    blur: float = 0.0  # standard deviation of a Gaussian, in lr pixels
    noise: float = 0.0  # standard deviation, in DN of 255
    quality: int = 0  # of a JPEG; 0: none

    def lr(self, hr: NDArray[np.float32], scale: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        if self.blur:
            for axis in (1, 2):
                hr = gaussian_filter1d(hr, self.blur * scale, axis=axis, mode="reflect")
        lr = imresize_down(hr, scale)
        lr = lr + rng.standard_normal(lr.shape) * self.noise / 255
        dn = (lr * 255).round().clip(0, 255).astype(np.uint8)
        if not self.quality:
            return dn
        packed = io.BytesIO()
        Image.fromarray(dn.transpose(1, 2, 0)).save(packed, "JPEG", quality=self.quality)
        return np.asarray(Image.open(packed)).transpose(2, 0, 1)

    def sensor(self, scale: int) -> SensorDescriptor:
        """The descriptor of what was done."""
        bicubic = Degradation().samplings(scale, 1)[-1]
        quarter, nyquist = (
            response(bicubic, f) * math.exp(-2 * (math.pi * self.blur * f) ** 2) for f in (0.25, 0.5)
        )
        packed = quantisation_of(self.quality) if self.quality else 0.0
        return SensorDescriptor(quarter, nyquist, self.noise / 255, packed)


KINDS = {
    "clean": Spoilt(),
    "blur 0.6": Spoilt(blur=0.6),
    "blur 0.9": Spoilt(blur=0.9),
    "blur 1.2": Spoilt(blur=1.2),
    "noise 3": Spoilt(noise=3),
    "noise 8": Spoilt(noise=8),
    "JPEG 90": Spoilt(quality=90),
    "JPEG 75": Spoilt(quality=75),
    "JPEG 50": Spoilt(quality=50),
    "blur 0.8, noise 3, JPEG 75": Spoilt(0.8, 3, 75),
}


def images_of(folder: Path, scale: int, every: int) -> Iterator[NDArray[np.uint8]]:
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    for file in files[::every]:
        with rasterio.open(file) as scene:
            pixels = scene.read([1, 2, 3])
        sides = [min(side, LONGEST) // (6 * scale) * (6 * scale) for side in pixels.shape[1:]]
        row, col = ((whole - side) // 2 for whole, side in zip(pixels.shape[1:], sides, strict=True))
        row, col = (
            start if whole > LONGEST else 0 for start, whole in zip((row, col), pixels.shape[1:], strict=True)
        )
        yield pixels[:, row : row + sides[0], col : col + sides[1]]


def psnr_y(sr: NDArray[np.uint8], hr: NDArray[np.uint8], border: int) -> float:
    off = np.tensordot(LUMA, sr.astype(np.float64) - hr, 1)[border:-border, border:-border] / 255
    return 10 * math.log10(255**2 / float((off**2).mean()))


def enlarged(
    lr: NDArray[np.uint8], scale: int, model: str, sensor: str | SensorDescriptor
) -> NDArray[np.uint8]:
    array = xr.DataArray(
        lr, dims=("band", "y", "x"), coords={"y": -np.arange(lr.shape[1]), "x": np.arange(lr.shape[2])},
        attrs={"long_name": ("red", "green", "blue")},
    )  # fmt: skip
    return np.asarray(geosegsr.super_resolve(array, scale, model, sensor=sensor).values)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("val", type=Path)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--model", action="append", help="Several may be compared. Default: bundled.")
    parser.add_argument("--sensor", default="auto", help="auto, bicubic, or true.")
    parser.add_argument(
        "--every", action="append", default=[], metavar="SOURCE=N", help="Take every Nth image."
    )
    parser.add_argument("--kinds", help="Some of the kinds, separated by semicolons.")
    parser.add_argument("--lpips", type=Path, help="Weights for LPIPS, see lpips.py: how different a result looks, as a second number.")  # fmt: skip
    parser.add_argument("--out", type=Path, help="Write all numbers as JSON, too.")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    every = dict(item.split("=") for item in args.every)
    kinds = args.kinds.split(";") if args.kinds else list(KINDS)
    models = args.model or ["bundled"]
    measures: list[Callable[[NDArray[np.uint8], NDArray[np.uint8]], float]] = [
        lambda sr, hr: psnr_y(sr, hr, args.scale)
    ]
    if args.lpips:
        measures.append(Lpips(args.lpips))
    numbers: dict[str, dict[str, dict[str, float]]] = {}
    print(f"| source | images | kind | bicubic | {' | '.join(Path(m).stem for m in models)} |")
    print(f"|---|---|---|---|{'---|' * len(models)}")
    for source in sorted(path for path in args.val.iterdir() if path.is_dir()):
        images = list(images_of(source, args.scale, int(every.get(source.name, 1))))
        for kind in kinds:
            rng = np.random.default_rng(7)
            spoilt, rows = KINDS[kind], []
            told = spoilt.sensor(args.scale) if args.sensor == "true" else args.sensor
            for hr in images:
                lr = spoilt.lr(hr.astype(np.float32) / 255, args.scale, rng)
                results = [enlarged(lr, args.scale, m, told) for m in ("bicubic", *models)]
                rows.append([[measure(sr, hr) for sr in results] for measure in measures])
            (bicubic, *gains), *looks = np.mean(rows, 0)
            numbers.setdefault(source.name, {})[kind] = {
                "bicubic": bicubic, **dict(zip(models, gains - bicubic, strict=True))
            }  # fmt: skip
            cells = [f"{bicubic:.2f}", *(f"{gain - bicubic:+.2f}" for gain in gains)]
            if looks:
                numbers[source.name][kind] |= {
                    f"{m}, LPIPS": look for m, look in zip(("bicubic", *models), looks[0], strict=True)
                }
                cells = [f"{cell}, {look:.3f}" for cell, look in zip(cells, looks[0], strict=True)]
            print(f"| {source.name} | {len(images)} | {kind} | {' | '.join(cells)} |", flush=True)
    if args.out:
        args.out.write_text(json.dumps(numbers, indent=1, default=float))


if __name__ == "__main__":
    main()
