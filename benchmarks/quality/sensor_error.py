"""How well the sensor of a scene is estimated from its pixels: true against estimated, for images that were made worse.

    python benchmarks/quality/sensor_error.py imagery/val --picture docs/pictures/sensor_error.png

Each image is one scene: blurred, reduced, and given noise and a real JPEG compression. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import io
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import rasterio
from scipy.ndimage import gaussian_filter

from geosegsr.sensor.degradation import Degradation, imresize_down
from geosegsr.sensor.descriptor import SensorDescriptor, quantisation_of
from geosegsr.sensor.estimate import Estimate, estimate

MOST = 128  # pixels along a side of a patch
PANEL = 340  # pixels along a side of a plot
COLOURS = (
    "#000000",
    "#9ecae1",
    "#4292c6",
    "#2171b5",
    "#08306b",
    "#74c476",
    "#006d2c",
    "#fdae6b",
    "#e6550d",
    "#a63603",
    "#6a3d9a",
    "#e7298a",
)


@dataclass(frozen=True)
class Case:
    """What is done to an image."""

    name: str
    blur: float = 0.0  # of the Gaussian, in lr pixels
    noise: float = 0.0  # DN
    quality: int = 0
    aliased: float = 0.0
    """MTF at Nyquist of a Gaussian that takes the place of bicubic reduction; 0: none does."""

    def truth(self, scale: int) -> SensorDescriptor:
        if self.aliased:
            return SensorDescriptor.of_degradation(self.thin, scale)
        bicubic = SensorDescriptor.of_degradation(Degradation(), scale)
        quarter, nyquist = (math.exp(-2 * (math.pi * self.blur * f) ** 2) for f in (0.25, 0.5))
        return SensorDescriptor(
            bicubic.mtf_quarter * quarter,
            bicubic.mtf_nyquist * nyquist,
            self.noise / 255,
            quantisation_of(self.quality) if self.quality else 0.0,
        )

    @property
    def thin(self) -> Degradation:
        return Degradation(kernel="mtf", mtf=(self.aliased, self.aliased))

    def of(self, hr: np.ndarray, scale: int, seed: int) -> np.ndarray:
        """What the sensor makes of hr; both uint8, of shape (3, ...)."""
        if self.aliased:
            lr = self.thin.sample(hr.astype(np.float32), scale, np.random.default_rng(seed))
        else:
            sigma = self.blur * scale
            lr = imresize_down(
                gaussian_filter(hr.astype(np.float32), (0, sigma, sigma), mode="reflect"), scale
            )
        lr = lr + self.noise * np.random.default_rng(seed).standard_normal(lr.shape)
        dn = np.rint(lr).clip(0, 255).astype(np.uint8)
        if not self.quality:
            return dn
        packed = io.BytesIO()
        PIL.Image.fromarray(dn.transpose(1, 2, 0)).save(packed, "JPEG", quality=self.quality)
        return np.asarray(PIL.Image.open(packed)).transpose(2, 0, 1)


CASES = (
    Case("clean"),
    *(Case(f"blur {blur}", blur=blur) for blur in (0.3, 0.6, 0.9, 1.2)),
    *(Case(f"noise {noise}", noise=noise) for noise in (3, 8)),
    *(Case(f"JPEG {quality}", quality=quality) for quality in (90, 75, 50)),
    Case("blur 0.8, noise 3, JPEG 75", 0.8, 3, 75),
    Case("aliased", aliased=0.85),
)


def patches_of(lr: np.ndarray) -> Iterator[np.ndarray]:
    """A scene in equal patches that begin at multiples of 8 pixels."""
    tops, height = cuts(lr.shape[1])
    lefts, width = cuts(lr.shape[2])
    for top in tops:
        for left in lefts:
            yield lr[:, top : top + height, left : left + width]


def cuts(size: int) -> tuple[list[int], int]:
    """Where patches begin along a side, and how long they are."""
    count = -(-size // MOST)
    length = size // count // 8 * 8
    return [index * length for index in range(count)], length


def scenes(folder: Path, scale: int) -> Iterator[tuple[str, np.ndarray]]:
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    for file in sorted(folder.glob("*/*.tif")) + sorted(folder.glob("*/*.webp")):
        with rasterio.open(file) as scene:
            hr = scene.read()[:3]
        height, width = (side // (8 * scale) * 8 * scale for side in hr.shape[1:])
        if min(height, width) // scale >= 48 and len(hr) == 3 and hr.dtype == np.uint8:
            yield file.parent.name, hr[:, :height, :width]


@dataclass
class Row:
    """Results of one case."""

    case: Case
    truth: SensorDescriptor
    found: list[Estimate]

    def errors(self) -> np.ndarray:
        """Absolute errors: MTF at 1/4 and 1/2, noise in DN, scale of the tables; shape (scenes, 4)."""
        off = np.array([each.sensor.numbers for each in self.found]) - self.truth.numbers
        return np.abs(off) * (1, 1, 255, 1)

    def line(self) -> str:
        off = self.errors()
        middle, worst = np.median(off, 0), np.percentile(off, 90, axis=0)
        cells = [
            f"{low:.{digits}f} / {high:.{digits}f}"
            for low, high, digits in zip(middle, worst, (2, 2, 1, 0), strict=True)
        ]
        clean = np.mean([each.sensor.is_bicubic for each in self.found])
        told = f"{self.truth.mtf_nyquist:.2f}"
        share = f"{100 * np.mean(off[:, 1] < 0.06):.0f} %"
        return f"| {self.case.name} | {told} | {' | '.join(cells)} | {share} | {100 * clean:.0f} % |"


def draw(rows: list[Row], file: Path) -> None:
    """True across, estimated upwards; one panel a number, one colour a case."""
    panels = (
        ("MTF at Nyquist", 1, 1, 1.0, 0.2),
        ("noise, DN of 255", 2, 255, 12, 2),
        ("JPEG tables, %", 3, 1, 130, 20),
    )
    picture = PIL.Image.new("RGB", (3 * PANEL, PANEL + 26), "white")
    rng = np.random.default_rng(0)
    for place, (name, number, unit, most, step) in enumerate(panels):
        panel = Panel(PIL.ImageDraw.Draw(picture), place * PANEL + 34, PANEL - 34, most)
        panel.axes(name, step)
        for row, colour in zip(rows, COLOURS, strict=True):
            truth = row.truth.numbers[number] * unit
            for found in row.found:
                panel.point(
                    truth + 0.008 * most * rng.standard_normal(), found.sensor.numbers[number] * unit, colour
                )
    pen = PIL.ImageDraw.Draw(picture)
    for index, (row, colour) in enumerate(zip(rows, COLOURS, strict=True)):
        pen.text(
            (8 + index * 3 * PANEL / len(rows), PANEL + 6),
            row.case.name.split(", ")[0] + (" ..." if ", " in row.case.name else ""),
            fill=colour,
            font_size=11,
        )
    picture.save(file, optimize=True)


@dataclass(frozen=True)
class Panel:
    """A square with both axes from 0 to `most`."""

    pen: PIL.ImageDraw.ImageDraw
    left: int
    bottom: int
    most: float

    def place(self, x: float, y: float) -> tuple[float, float]:
        side = PANEL - 60
        return self.left + side * x / self.most, self.bottom - side * y / self.most

    def axes(self, name: str, step: float) -> None:
        for value in np.arange(0, self.most + step / 2, step):
            for one, other in (((value, 0), (value, self.most)), ((0, value), (self.most, value))):
                self.pen.line([self.place(*one), self.place(*other)], fill="#dddddd")
            x, y = self.place(value, 0)
            self.pen.text((x, y + 3), f"{value:g}"[:4], fill="black", anchor="mt", font_size=10)
            x, y = self.place(0, value)
            self.pen.text((x - 4, y), f"{value:g}"[:4], fill="black", anchor="rm", font_size=10)
        self.pen.line([self.place(0, 0), self.place(self.most, self.most)], fill="black")
        self.pen.text(
            (self.left + 6, 6), f"{name}: true across, estimated upwards", fill="black", font_size=12
        )

    def point(self, x: float, y: float, colour: str) -> None:
        x, y = self.place(x, min(y, self.most))
        self.pen.ellipse([x - 1, y - 1, x + 1, y + 1], fill=colour)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path, help="A folder of folders of images.")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--every", type=int, default=1, help="Take every n-th image.")
    parser.add_argument("--picture", type=Path, help="Write a scatter plot here.")
    args = parser.parse_args()
    images = list(scenes(args.images, args.scale))[:: args.every]
    print(f"{len(images)} scenes, x{args.scale}. Errors: median / 90th percentile.\n")
    print(
        "| made by | MTF at Nyquist | MTF at 1/4 | MTF at Nyquist | noise, DN | tables, % | below 0.06 | taken for clean |"
    )
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    for case in CASES:
        row = Row(case, case.truth(args.scale), [])
        for seed, (_, hr) in enumerate(images):
            patches = np.stack(list(patches_of(case.of(hr, args.scale, seed)))).astype(np.float32) / 255
            row.found.append(estimate(patches, args.scale))
        print(row.line(), flush=True)
        rows.append(row)
    every = np.concatenate([row.errors()[:, 1] for row in rows])
    print(f"\nMTF at Nyquist within 0.06 in {100 * np.mean(every < 0.06):.1f} % of {len(every)} scenes.")
    if args.picture:
        draw(rows, args.picture)


if __name__ == "__main__":
    main()
