"""Paints the sample scene: the edge of a village from the air, georeferenced, reproducible to the byte.

Nothing in it was photographed, so nobody holds rights in it. The ground is painted at 0.15 m as two layers,
colour and height; one sun then lights both, which gives every roof its bright and its dark side and
every tree its shadow; and a sensor averages 4 x 4 of those pixels into one of 0.6 m, so that edges
are as soft as real ones.

    python sample_data/paint_scene.py                      writes sample_data/scene.tif
    python sample_data/paint_scene.py --truth truth.tif    and the same ground at 0.15 m

Lengths are metres, x to the right and y downward from the scene's upper left corner.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.features import rasterize
from rasterio.transform import Affine, from_origin
from scipy import ndimage
from scipy.interpolate import CubicSpline
from shapely import LineString, Point, Polygon
from shapely.affinity import rotate, translate
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry
from shapely.ops import substring, unary_union

Array: TypeAlias = NDArray[np.floating[Any]]
Mask: TypeAlias = NDArray[np.bool_]
Colour: TypeAlias = tuple[float, float, float]

WIDTH, HEIGHT = 480, 400
"""Size of the scene, in its own pixels."""
PIXEL = 0.6
"""Metres per pixel of the scene."""
FINE = 4
"""Painted pixels per pixel of the scene, along each side."""
STEP = PIXEL / FINE
"""Metres per painted pixel."""
CORNER = (463_200.0, 5_426_400.0)
"""Easting and northing of the upper left corner, UTM zone 33 north."""
SEED = 20_261_120

SUN = (0.57, 0.82)
"""Where the sun stands, as a direction on the ground (right, down): south-south-east."""
SUN_SLOPE = 1.0
"""Tangent of the sun's elevation: shadows are as long as things are high."""
SHADE = np.array([0.40, 0.44, 0.54])
"""What is left of red, green and blue where only the sky lights the ground."""

ASPHALT: Colour = (104, 104, 108)
PAVEMENT: Colour = (166, 161, 153)
GRAVEL: Colour = (176, 165, 145)
PAINT: Colour = (226, 225, 218)
MEADOW: Colour = (97, 118, 66)
LAWN: Colour = (97, 122, 68)
PITCH: Colour = (90, 126, 70)
SOIL: Colour = (131, 101, 76)
CROP: Colour = (108, 128, 72)
STUBBLE: Colour = (189, 168, 112)
WATER: Colour = (56, 77, 74)
SAND: Colour = (182, 170, 138)
REED: Colour = (88, 97, 56)
ROOFS: tuple[Colour, ...] = (
    (160, 96, 76),
    (142, 80, 66),
    (176, 118, 92),
    (112, 106, 104),
    (92, 92, 100),
    (134, 96, 74),
    (160, 150, 140),
)
CARS: tuple[Colour, ...] = (
    (225, 226, 228),
    (188, 190, 194),
    (52, 54, 60),
    (150, 38, 36),
    (44, 70, 126),
    (104, 108, 114),
    (36, 40, 44),
    (206, 200, 186),
)

MAIN_ROAD = ((-8, 142), (50, 146), (110, 149), (165, 144), (215, 130), (255, 118), (298, 112))
WEST_STREET = ((62, 148), (58, 110), (64, 70), (56, 30), (60, -8))
EAST_STREET = ((139, 148), (142, 112), (134, 76), (139, 36), (132, -8))
LANE = ((63, 78), (90, 84), (115, 80), (135, 83))
RIVER = ((192, -12), (200, 30), (222, 74), (238, 116), (234, 164), (222, 204), (230, 254))


@dataclass
class Canvas:
    """The ground while it is painted.

    Attributes:
        colour: float64, shape (rows, columns, 3), red green blue, 0 to 255 in full sun.
        height: float64, shape (rows, columns), metres above the ground.
        rng: The one source of chance.
    """

    colour: Array
    height: Array
    rng: np.random.Generator

    @classmethod
    def blank(cls, seed: int) -> Canvas:
        """An empty canvas of the scene's extent, at the painted pixel size."""
        shape = (HEIGHT * FINE, WIDTH * FINE)
        return cls(np.zeros((*shape, 3)), np.zeros(shape), np.random.default_rng(seed))

    def window(self, bounds: tuple[float, float, float, float]) -> tuple[slice, slice]:
        """Rows and columns that cover (x0, y0, x1, y1), cut at the canvas; empty if it lies outside."""
        rows, cols = self.height.shape
        x0, y0, x1, y1 = (edge / STEP for edge in bounds)
        top, left = max(0, int(np.floor(y0))), max(0, int(np.floor(x0)))
        bottom, right = min(rows, int(np.ceil(y1))), min(cols, int(np.ceil(x1)))
        return slice(top, max(top, bottom)), slice(left, max(left, right))

    def cover(self, shape: BaseGeometry) -> tuple[tuple[slice, slice], Mask]:
        """The window around a shape and, within it, the pixels whose centre the shape covers."""
        window = self.window(shape.bounds)
        size = (window[0].stop - window[0].start, window[1].stop - window[1].start)
        if shape.is_empty or 0 in size:
            return window, np.zeros(size, bool)
        transform = Affine.scale(STEP) * Affine.translation(window[1].start, window[0].start)
        return window, rasterize([shape], out_shape=size, transform=transform, dtype="uint8").astype(bool)

    def positions(self, window: tuple[slice, slice]) -> tuple[Array, Array]:
        """Metres to the right and downward of every pixel centre in a window."""
        rows, cols = np.mgrid[window].astype(np.float64)
        return (cols + 0.5) * STEP, (rows + 0.5) * STEP

    def noise(self, window: tuple[slice, slice], grain: float) -> Array:
        """Smooth random values of unit deviation, with lumps of about `grain` metres."""
        rows, cols = window[0].stop - window[0].start, window[1].stop - window[1].start
        cells = max(1.0, grain / STEP)
        coarse = self.rng.standard_normal((int(rows / cells) + 4, int(cols / cells) + 4))
        y, x = np.mgrid[0:rows, 0:cols] / cells + 1.0
        values: Array = ndimage.map_coordinates(coarse, [y, x], order=3, mode="nearest")
        return values * 1.35

    def speckle(self, window: tuple[slice, slice], *grains: float) -> Array:
        """The mean of noises of several grains, brought back to about unit deviation."""
        total: Array = sum((self.noise(window, grain) for grain in grains), start=np.zeros(()))
        mean: Array = total / np.sqrt(len(grains))
        return mean

    def paint(
        self,
        shape: BaseGeometry,
        colour: Colour,
        *,
        rough: float = 0.03,
        grain: float = 0.6,
        opacity: float = 1,
    ) -> None:
        """Lay a colour over a shape, unevenly: `rough` is the relative deviation of its brightness."""
        window, mask = self.cover(shape)
        if mask.any():
            lumps = 1 + rough * self.speckle(window, grain, 6 * grain)
            self.blend(window, mask * opacity, np.multiply.outer(lumps, np.array(colour)))

    def blend(self, window: tuple[slice, slice], opacity: Array, colour: Array) -> None:
        """Mix colours into a window, by the opacity (0 to 1) of each pixel."""
        below = self.colour[window]
        self.colour[window] = below + opacity[..., None] * (colour - below)

    def raise_to(self, window: tuple[slice, slice], mask: Mask, height: Array | float) -> None:
        """Lift the masked pixels of a window to a height, unless they already stand higher."""
        below = self.height[window]
        self.height[window] = np.where(mask, np.maximum(below, height), below)


EVERYWHERE = box(0, 0, WIDTH * PIXEL, HEIGHT * PIXEL)


def curve(points: tuple[tuple[float, float], ...]) -> LineString:
    """A smooth line through points."""
    knots = np.array(points, float)
    at = np.concatenate([[0], np.hypot(*np.diff(knots, axis=0).T).cumsum()])
    return LineString(CubicSpline(at, knots)(np.linspace(0, at[-1], 200)))


def rectangle(x: float, y: float, length: float, width: float, angle: float = 0) -> Polygon:
    """A rectangle around a centre; `angle` turns its long side from the x axis, in degrees."""
    return rotate(box(x - length / 2, y - width / 2, x + length / 2, y + width / 2), angle, origin=(x, y))


def paint_meadow(canvas: Canvas) -> None:
    """Grass everywhere: large patches, small tufts, some of it dry."""
    window, _ = canvas.cover(EVERYWHERE)
    light = 1 + 0.06 * canvas.speckle(window, 30, 8) + 0.05 * canvas.speckle(window, 0.4, 1.2)
    dry = np.clip(0.25 + 0.25 * canvas.speckle(window, 22, 5), 0, 1)[..., None]
    canvas.colour[:] = light[..., None] * ((1 - dry) * np.array(MEADOW) + dry * np.array((142, 138, 88)))


def paint_field(
    canvas: Canvas, shape: Polygon, colour: Colour, rows: float, depth: float, angle: float
) -> None:
    """A field with rows `rows` metres apart, `depth` deep in brightness, running at `angle` degrees."""
    canvas.paint(shape.buffer(1.2), (120, 118, 74), rough=0.1)  # the strip of weeds along its edge
    window, mask = canvas.cover(shape)
    x, y = canvas.positions(window)
    turn = np.deg2rad(angle)
    across = y * np.cos(turn) - x * np.sin(turn) + 0.10 * canvas.noise(window, 7)
    stripes = np.sin(2 * np.pi * across / rows)
    tracks = np.abs((across % 18) - 9) % 7.2 < 0.35  # where the tractor drove
    light = 1 + depth * stripes * (1 + 0.3 * canvas.noise(window, 1.5)) - 0.16 * tracks
    light += 0.05 * canvas.speckle(window, 25, 6) + 0.05 * canvas.speckle(window, 0.3, 0.9)
    canvas.blend(window, mask.astype(float), np.multiply.outer(light, np.array(colour)))


def paint_fields(canvas: Canvas) -> None:
    """The farmland beyond the river and south of the village."""
    paint_field(
        canvas, Polygon([(218, -9), (300, -9), (300, 52), (237, 66), (229, 44)]), SOIL, 1.9, 0.13, -12
    )
    paint_field(canvas, Polygon([(240, 71), (300, 57), (300, 104), (256, 111)]), CROP, 1.5, 0.10, -12)
    paint_field(
        canvas,
        Polygon([(254, 127), (300, 120), (300, 250), (244, 250), (240, 208), (251, 166)]),
        STUBBLE,
        2.6,
        0.07,
        74,
    )
    paint_field(
        canvas, Polygon([(112, 207), (176, 203), (206, 211), (212, 250), (112, 250)]), SOIL, 1.7, 0.12, 8
    )
    paint_field(canvas, Polygon([(-9, -9), (26, -9), (29, 60), (24, 128), (-9, 126)]), CROP, 1.4, 0.09, 86)


def paint_river(canvas: Canvas) -> None:
    """Water between sandy banks and reeds, darker where it is deep, with a few streaks of current."""
    line = curve(RIVER)
    canvas.paint(line.buffer(14.5), REED, rough=0.14, grain=0.9)
    canvas.paint(line.buffer(10.8), SAND, rough=0.08)
    for bar_x, bar_y, radius in ((196.0, 46.0, 6.0), (247.0, 128.0, 5.0), (221.0, 176.0, 6.0)):
        canvas.paint(Point(bar_x, bar_y).buffer(radius), SAND, rough=0.10)
    window, mask = canvas.cover(line.buffer(9.4))
    x, y = canvas.positions(window)
    inside = ndimage.distance_transform_edt(mask) * STEP + 0.8 * canvas.noise(window, 6)
    depth = np.clip(inside / 6.0, 0, 1)
    bed = np.multiply.outer(1 - depth, np.array((108, 114, 92))) + np.multiply.outer(depth, np.array(WATER))
    streaks = (
        1
        + 0.03 * canvas.noise(window, 3.5)
        + 0.025 * np.sin(y * 0.8 + x * 0.15 + 2 * canvas.noise(window, 5))
    )
    canvas.blend(window, mask & (inside > 0.35), bed * streaks[..., None])


def dashes(line: LineString, dash: float, gap: float) -> BaseGeometry:
    """Every stroke of a broken line, as one geometry without width."""
    starts = np.arange(0, line.length, dash + gap)
    return unary_union([substring(line, start, start + dash) for start in starts])


def paint_road(canvas: Canvas, line: LineString, width: float, *, marked: bool) -> None:
    """Asphalt with worn wheel tracks; a marked road has edge lines and a broken centre line."""
    road = line.buffer(width / 2, cap_style="flat")
    canvas.paint(road, ASPHALT, rough=0.035, grain=0.5)
    for side in (-1, 1):
        for track in (0.32, 0.68):
            wheel = line.parallel_offset(track * width / 2, "left" if side > 0 else "right")
            canvas.paint(wheel.buffer(0.35), (92, 92, 96), opacity=0.5)
    if marked:
        canvas.paint(dashes(line, 3.0, 4.5).buffer(0.11, cap_style="flat"), PAINT)
        for side_name in ("left", "right"):
            canvas.paint(line.parallel_offset(width / 2 - 0.35, side_name).buffer(0.09), PAINT, opacity=0.85)


def paint_bridge(canvas: Canvas, line: LineString, start: float, stop: float, width: float) -> None:
    """The part of a road that crosses the river: a concrete deck with parapets."""
    part = substring(line, start, stop)
    deck = part.buffer(width / 2 + 1.1, cap_style="flat")
    canvas.paint(deck, PAVEMENT)
    window, mask = canvas.cover(deck)
    canvas.raise_to(window, mask, 2.6)
    for side in ("left", "right"):
        window, mask = canvas.cover(part.parallel_offset(width / 2 + 0.95, side).buffer(0.18))
        canvas.raise_to(window, mask, 3.5)
        canvas.blend(window, mask.astype(float), np.full((*mask.shape, 3), 200.0))


def paint_crossing(canvas: Canvas, line: LineString, at: float, width: float) -> None:
    """A zebra crossing: bars along the road, side by side across it."""
    here, ahead = line.interpolate(at), line.interpolate(at + 1)
    angle = np.rad2deg(np.arctan2(ahead.y - here.y, ahead.x - here.x))
    for offset in np.arange(-width / 2 + 0.6, width / 2, 1.0):
        bar = rotate(rectangle(here.x, here.y + offset, 3.0, 0.5), angle, origin=here)
        canvas.paint(bar, PAINT)


def paint_roads(canvas: Canvas) -> None:
    """The main road with pavements and a bridge, two streets and a lane."""
    main, west, east, lane = (curve(points) for points in (MAIN_ROAD, WEST_STREET, EAST_STREET, LANE))
    village = substring(main, 0, 190)
    paint_bridge(canvas, main, 232, 264, 8.0)
    for line, width in ((village, 11.5), (west, 8.4), (east, 8.4), (lane, 6.4)):
        canvas.paint(line.buffer(width / 2, cap_style="flat"), PAVEMENT, rough=0.03)
    for line, width in ((west, 5.4), (east, 5.4), (lane, 4.2)):
        paint_road(canvas, line, width, marked=False)
    paint_road(canvas, main, 7.4, marked=True)
    for street in (west, east):  # the mouth of a side street breaks the edge line
        canvas.paint(substring(street, 1.5, 8).buffer(2.7, cap_style="flat"), ASPHALT)
        canvas.paint(
            dashes(substring(street, 14, street.length - 8), 2.0, 4.0).buffer(0.08), PAINT, opacity=0.7
        )
        paint_crossing(canvas, street, 9.0, 5.0)
    paint_crossing(canvas, main, 108.0, 7.0)
    track = curve(((254, 114), (262, 90), (250, 62), (240, 30), (236, -8)))
    for side in ("left", "right"):
        canvas.paint(track.parallel_offset(0.8, side).buffer(0.45), GRAVEL, rough=0.08, opacity=0.9)


@dataclass(frozen=True)
class House:
    """A building by its centre, size (length along the ridge), turn in degrees and looks."""

    x: float
    y: float
    length: float
    width: float
    angle: float
    colour: Colour
    eaves: float = 3.6
    rise: float = 2.9
    hipped: bool = False


def along_and_across(canvas: Canvas, window: tuple[slice, slice], house: House) -> tuple[Array, Array]:
    """Metres of each pixel from a house's centre, along its ridge and across it."""
    x, y = canvas.positions(window)
    turn = np.deg2rad(house.angle)
    dx, dy = x - house.x, y - house.y
    return dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)


def paint_house(canvas: Canvas, house: House) -> None:
    """A roof with courses of tiles, a pale ridge, a gutter, and a chimney."""
    outline = rectangle(house.x, house.y, house.length, house.width, house.angle)
    window, mask = canvas.cover(outline)
    if not mask.any():
        return
    along, across = along_and_across(canvas, window, house)
    to_eaves = 1 - np.abs(across) / (house.width / 2)
    if house.hipped:
        to_eaves = np.minimum(to_eaves, (house.length / 2 - np.abs(along)) / (house.width / 2))
    canvas.raise_to(window, mask, house.eaves + house.rise * np.clip(to_eaves, 0, 1))
    light = 1 + 0.04 * np.sin(2 * np.pi * across / 0.7) + 0.05 * canvas.speckle(window, 0.5, 3)
    light = light + 0.12 * ((np.abs(across) < 0.16) & (to_eaves > 0.9)) - 0.18 * (to_eaves < 0.05)
    canvas.blend(window, mask.astype(float), np.multiply.outer(light, np.array(house.colour)))
    paint_chimney(canvas, house)


def paint_chimney(canvas: Canvas, house: House) -> None:
    """A chimney beside the ridge, high enough to throw a shadow on the roof."""
    spot = rotate(Point(house.x + 0.22 * house.length, house.y + 0.6), house.angle, origin=(house.x, house.y))
    window, mask = canvas.cover(rectangle(spot.x, spot.y, 0.9, 0.8, house.angle))
    canvas.raise_to(window, mask, house.eaves + house.rise + 0.9)
    canvas.blend(window, mask.astype(float), np.full((*mask.shape, 3), (150.0, 118.0, 104.0)))


def paint_panels(canvas: Canvas, house: House) -> None:
    """Solar panels on the side of the roof that looks to the sun."""
    side = 1 if np.cos(np.deg2rad(house.angle)) > 0 else -1
    for column in range(4):
        for row in range(2):
            offset = (-0.34 * house.length + 1.25 * column, side * (0.8 + 1.75 * row))
            panel = rectangle(house.x + offset[0], house.y + offset[1], 1.1, 1.6)
            turned = rotate(panel, house.angle, origin=(house.x, house.y))
            canvas.paint(turned, (40, 50, 82), rough=0.02)


def paint_flat_roof(canvas: Canvas, x: float, y: float, length: float, width: float, angle: float) -> None:
    """A hall: a grey roof with a parapet, seams of its sheets, skylights and ventilators."""
    outline = rectangle(x, y, length, width, angle)
    window, mask = canvas.cover(outline)
    canvas.raise_to(window, mask, 6.0)
    canvas.paint(outline, (178, 180, 182), rough=0.025, grain=2)
    window, mask = canvas.cover(outline.difference(outline.buffer(-0.5)))
    canvas.raise_to(window, mask, 6.7)
    canvas.paint(outline.difference(outline.buffer(-0.5)), (208, 206, 200))
    for at in np.arange(-length / 2 + 3, length / 2 - 1, 3.0):
        canvas.paint(rotate(rectangle(x + at, y, 0.14, width - 1.2), angle, origin=(x, y)), (146, 148, 152))
    for at in np.arange(-length / 2 + 6, length / 2 - 4, 9.0):
        for side in (-1, 1):
            light = rotate(rectangle(x + at, y + side * width / 4, 3.2, 1.5), angle, origin=(x, y))
            window, mask = canvas.cover(light)
            canvas.raise_to(window, mask, 6.5)
            canvas.paint(light, (112, 138, 156))


def paint_car(canvas: Canvas, x: float, y: float, angle: float) -> None:
    """A car: body, dark windscreens before and behind the roof."""
    colour = CARS[canvas.rng.integers(len(CARS))]
    body = rectangle(x, y, 3.7, 1.2, angle).buffer(0.3)
    window, mask = canvas.cover(body)
    canvas.raise_to(window, mask, 0.9)
    canvas.paint(body, colour, rough=0.01)
    cabin = rotate(rectangle(x - 0.25, y, 2.5, 1.45), angle, origin=(x, y))
    window, mask = canvas.cover(cabin)
    canvas.raise_to(window, mask, 1.4)
    canvas.paint(cabin, (34, 40, 48), rough=0.01)
    canvas.paint(rotate(rectangle(x - 0.3, y, 1.35, 1.4), angle, origin=(x, y)), colour, rough=0.01)


def paint_tree(canvas: Canvas, x: float, y: float, radius: float, colour: Colour) -> None:
    """A crown: a dome of clumps of leaves, ragged at its rim."""
    window = canvas.window(Point(x, y).buffer(radius * 1.25).bounds)
    if window[0].stop - window[0].start < 2 or window[1].stop - window[1].start < 2:
        return
    px, py = canvas.positions(window)
    clumps = canvas.speckle(window, 1.3, 0.6)
    distance = np.hypot(px - x, py - y) / radius * (1 + 0.07 * canvas.noise(window, 1.4))
    crown = distance < 1
    dome = np.sqrt(np.clip(1 - distance**2, 0, 1))
    canvas.raise_to(window, crown, radius * (0.9 + 1.1 * dome) + 0.22 * clumps)
    light = 0.78 + 0.28 * dome + 0.11 * clumps
    canvas.blend(window, crown.astype(float), np.multiply.outer(light, np.array(colour)))


def leaves(canvas: Canvas) -> Colour:
    """The colour of one tree: some darker, some yellower than others."""
    base = np.array((70, 98, 48)) * canvas.rng.uniform(0.78, 1.18)
    red, green, blue = base * np.array((canvas.rng.uniform(0.88, 1.22), 1.0, canvas.rng.uniform(0.85, 1.1)))
    return float(red), float(green), float(blue)


def plant_row(canvas: Canvas, line: LineString, spacing: float, radius: float, jitter: float) -> None:
    """Trees along a line, at uneven distances, and none where the main road passes."""
    road = curve(MAIN_ROAD).buffer(9)
    for at in np.arange(spacing / 2, line.length, spacing):
        spot = line.interpolate(at + canvas.rng.uniform(-0.3, 0.3) * spacing)
        dx, dy = canvas.rng.uniform(-jitter, jitter, 2)
        if not road.contains(spot):
            paint_tree(
                canvas, spot.x + dx, spot.y + dy, radius * canvas.rng.uniform(0.7, 1.25), leaves(canvas)
            )


def plant_wood(canvas: Canvas, shape: Polygon, spacing: float, radius: float) -> None:
    """Trees all over a shape, close enough to touch."""
    x0, y0, x1, y1 = shape.bounds
    for y in np.arange(y0, y1, spacing):
        for x in np.arange(x0, x1, spacing):
            dx, dy = canvas.rng.uniform(-0.4, 0.4, 2) * spacing
            if shape.contains(Point(x + dx, y + dy)):
                paint_tree(canvas, x + dx, y + dy, radius * canvas.rng.uniform(0.65, 1.2), leaves(canvas))


def paint_hedge(canvas: Canvas, line: LineString) -> None:
    """A clipped hedge, a metre and a half high."""
    hedge = line.buffer(0.55, cap_style="flat")
    window, mask = canvas.cover(hedge)
    canvas.raise_to(window, mask, 1.5)
    canvas.paint(hedge, (66, 90, 46), rough=0.14, grain=0.5)


def paint_plot(canvas: Canvas, street: LineString, at: float, side: int, index: int) -> None:
    """One garden on one side of a street: lawn, hedges, house, drive, car, shed or pool, trees.

    Args:
        canvas: The ground.
        street: The street's middle line.
        at: Metres along the street.
        side: 1 for its right-hand side (seen along the line, y downward), -1 for its left.
        index: Number of the plot, which decides what stands there.
    """
    rng = canvas.rng
    here, ahead = street.interpolate(at), street.interpolate(at + 1)
    along = np.array([ahead.x - here.x, ahead.y - here.y])
    outward = side * np.array([-along[1], along[0]])
    angle = float(np.rad2deg(np.arctan2(along[1], along[0])))
    origin = np.array([here.x, here.y])

    def spot(forward: float, out: float) -> tuple[float, float]:
        x, y = origin + forward * along + out * outward
        return float(x), float(y)

    lawn = Polygon([spot(-8.6, 4.4), spot(8.6, 4.4), spot(8.6, 31), spot(-8.6, 31)])
    canvas.paint(lawn, LAWN, rough=0.06, grain=0.8, opacity=float(rng.uniform(0.6, 1.0)))
    for corners in (((-8.8, 4.6), (-8.8, 31)), ((-8.8, 31), (8.8, 31)), ((-8.8, 4.7), (4.0, 4.7))):
        paint_hedge(canvas, LineString([spot(*corner) for corner in corners]))
    canvas.paint(Polygon([spot(4.6, 2.6), spot(8.0, 2.6), spot(8.0, 15), spot(4.6, 15)]), GRAVEL, rough=0.05)
    canvas.paint(rectangle(*spot(-1.0, 21.0), 8.0, 3.4, angle), PAVEMENT, rough=0.05)
    length, width = rng.uniform(11.0, 13.5), rng.uniform(8.0, 9.4)
    gable_to_street = index % 3 == 1
    house = House(
        *spot(-2.2, 14.0 if gable_to_street else 13.0),
        length,
        width,
        angle + (90 if gable_to_street else 0) + rng.uniform(-2, 2),
        ROOFS[(index * 5 + index // 3) % len(ROOFS)],
        hipped=index % 4 == 2,
    )
    paint_house(canvas, house)
    if index % 4 == 1:
        paint_panels(canvas, house)
    if index % 3 != 2:
        paint_car(canvas, *spot(6.3, 8.2 + rng.uniform(-1, 1)), angle + 90)
    paint_garden(canvas, spot(5.2, 26.5), spot(-5.6, 26.0), angle, index)
    paint_tree(canvas, *spot(rng.uniform(-1, 3), 27.5), rng.uniform(1.6, 2.8), leaves(canvas))
    paint_tree(canvas, *spot(-7.0, 6.6), rng.uniform(1.0, 1.7), leaves(canvas))


def paint_garden(
    canvas: Canvas, right: tuple[float, float], left: tuple[float, float], angle: float, index: int
) -> None:
    """What stands behind a house: a shed, and a pool or a bed or a tree."""
    paint_house(canvas, House(*right, 4.2, 3.2, angle, ROOFS[(index + 3) % len(ROOFS)], eaves=2.2, rise=0.7))
    if index % 5 == 0:
        canvas.paint(rectangle(*left, 6.4, 3.6, angle).buffer(0.6), (214, 206, 190))
        canvas.paint(rectangle(*left, 6.0, 3.2, angle).buffer(0.2), (96, 168, 184), rough=0.04)
    elif index % 5 == 2:
        for bed in range(3):
            canvas.paint(rectangle(left[0], left[1] - 2 + 2 * bed, 4.5, 1.2, 0), (112, 86, 62), rough=0.1)
    else:
        paint_tree(canvas, *left, float(canvas.rng.uniform(2.0, 3.2)), leaves(canvas))


def paint_village(canvas: Canvas) -> None:
    """Plots along both streets, leaving room for the main road and the lane."""
    index = 0
    for points, sides in ((WEST_STREET, (-1, 1)), (EAST_STREET, (-1, 1))):
        street = curve(points)
        for side in sides:
            for at in np.arange(22, street.length - 2, 18.2):
                y = street.interpolate(at).y
                towards_lane = (points is WEST_STREET) == (side == 1)
                if towards_lane and 68 < y < 94:
                    continue
                paint_plot(canvas, street, at, side, index)
                index += 1


def paint_square(canvas: Canvas) -> None:
    """A green with paths and a chapel, where the lane meets the streets."""
    canvas.paint(Polygon([(92, 62), (107, 62), (108, 76), (91, 78)]), LAWN, rough=0.05)
    for path in (((91, 77), (108, 62)), ((92, 62), (108, 77))):
        canvas.paint(LineString(path).buffer(0.8), GRAVEL)
    canvas.paint(Point(99.8, 69.6).buffer(2.2), GRAVEL)
    canvas.paint(Point(99.8, 69.6).buffer(1.1), (96, 150, 160))


def paint_pitch(canvas: Canvas, x: float, y: float, length: float, width: float, angle: float) -> None:
    """A football field: mown stripes and white lines, goals with worn grass before them."""
    centre = (x, y)

    def place(shape: BaseGeometry) -> BaseGeometry:
        return rotate(translate(shape, x, y), angle, origin=centre)

    canvas.paint(
        place(box(-length / 2 - 4, -width / 2 - 4, length / 2 + 4, width / 2 + 4)), PITCH, rough=0.05
    )
    for stripe, left in enumerate(np.linspace(-length / 2, length / 2, 13)[:-1]):
        tint: Colour = (86, 122, 66) if stripe % 2 else (103, 138, 80)
        canvas.paint(place(box(left, -width / 2, left + length / 12, width / 2)), tint, rough=0.03)
    for end in (-1, 1):
        canvas.paint(
            place(Point(end * (length / 2 - 2.5), 0).buffer(3.2)), (136, 134, 86), opacity=0.55, rough=0.08
        )
    canvas.paint(place(unary_union(pitch_lines(length, width)).buffer(0.10)), (232, 236, 228), rough=0.01)


def pitch_lines(length: float, width: float) -> list[BaseGeometry]:
    """The lines of a football field around the origin, without width."""
    lines: list[BaseGeometry] = [
        box(-length / 2, -width / 2, length / 2, width / 2).exterior,
        LineString([(0, -width / 2), (0, width / 2)]),
        Point(0, 0).buffer(6.5).exterior,
        Point(0, 0).buffer(0.2),
    ]
    for end in (-1, 1):
        for depth, reach in ((10.5, 13.0), (3.6, 6.0), (-1.6, 3.0)):
            lines.append(box(*sorted_box(end * length / 2, end * (length / 2 - depth), reach)).exterior)
    return lines


def sorted_box(x0: float, x1: float, reach: float) -> tuple[float, float, float, float]:
    """Bounds of a box between two x, `reach` to both sides of the x axis."""
    return min(x0, x1), -reach, max(x0, x1), reach


def paint_courts(canvas: Canvas) -> None:
    """A tennis court of red clay and the club's house beside the pitch."""
    canvas.paint(rectangle(101, 175, 17, 32, 2), (160, 106, 84), rough=0.03)
    lines = [box(-4.1, -11.9, 4.1, 11.9).exterior, box(-5.5, -11.9, 5.5, 11.9).exterior]
    strokes = [LineString([(-4.1, y), (4.1, y)]) for y in (-6.4, 6.4)] + [LineString([(0, -6.4), (0, 6.4)])]
    drawn = unary_union([*lines, *strokes]).buffer(0.07)
    canvas.paint(rotate(translate(drawn, 101, 175), 2, origin=(101, 175)), PAINT)
    window, mask = canvas.cover(rectangle(101, 175, 12.8, 0.2, 2))
    canvas.raise_to(window, mask, 1.0)
    paint_house(canvas, House(99, 201, 13, 8, 2, (126, 122, 118), hipped=True))


def paint_market(canvas: Canvas) -> None:
    """A hall with a car park: bays between white lines, cars in most of them."""
    canvas.paint(rectangle(153, 178, 68, 46, -2), (118, 117, 118), rough=0.035)
    canvas.paint(Polygon([(146, 148), (154, 147.5), (155, 158), (145, 158)]), (118, 117, 118), rough=0.03)
    paint_flat_roof(canvas, 160, 189, 44, 20, -2)
    for row, facing in ((161.0, -90), (173.5, 90)):
        for bay in range(20):
            x = 126.0 + 2.7 * bay
            y = row - 0.035 * (x - 153)
            if row < 165 and 142 < x < 157:  # the way in
                continue
            canvas.paint(rectangle(x - 1.35, y, 0.14, 4.8, -2), PAINT, rough=0.01)
            if canvas.rng.random() < 0.62:
                paint_car(
                    canvas, x, y + canvas.rng.uniform(-0.3, 0.3), facing - 2 + canvas.rng.uniform(-2, 2)
                )
    plant_row(canvas, LineString([(121.5, 160), (122, 199)]), 7, 1.9, 0.3)


def park_along(canvas: Canvas, line: LineString, offset: float, share: float) -> None:
    """Cars along a kerb, in a share of the places."""
    kerb = line.parallel_offset(abs(offset), "left" if offset < 0 else "right")
    for at in np.arange(24, kerb.length - 6, 6.4):
        if canvas.rng.random() < share:
            here, ahead = kerb.interpolate(at), kerb.interpolate(at + 1)
            angle = np.rad2deg(np.arctan2(ahead.y - here.y, ahead.x - here.x))
            paint_car(canvas, here.x, here.y, float(angle) + canvas.rng.uniform(-2, 2))


def paint_traffic(canvas: Canvas) -> None:
    """Cars parked in the streets and a few on the main road."""
    for points in (WEST_STREET, EAST_STREET):
        park_along(canvas, curve(points), 1.75, 0.3)
    main = curve(MAIN_ROAD)
    for at, offset in ((34.0, 1.8), (88.0, -1.8), (176.0, 1.8), (210.0, -1.8), (276.0, 1.8)):
        lane = main.parallel_offset(abs(offset), "left" if offset < 0 else "right")
        here, ahead = lane.interpolate(at), lane.interpolate(at + 1)
        paint_car(canvas, here.x, here.y, float(np.rad2deg(np.arctan2(ahead.y - here.y, ahead.x - here.x))))


def plant_trees(canvas: Canvas) -> None:
    """Trees along the river, round the pitch and between the fields, orchards, a small wood."""
    river = curve(RIVER)
    for side, spacing in (("left", 11.0), ("right", 8.5)):
        plant_row(canvas, river.parallel_offset(14, side), spacing, 2.9, 1.8)
    plant_row(canvas, LineString([(10, 230), (92, 233)]), 6.5, 3.0, 0.8)
    plant_row(canvas, LineString([(6, 166), (7, 226)]), 6.5, 2.8, 0.8)
    plant_row(canvas, LineString([(242, 69), (292, 56)]), 4.6, 2.0, 0.6)
    plant_row(canvas, LineString([(30, -4), (32, 60), (27, 124)]), 9, 1.8, 1.0)
    plant_wood(canvas, Polygon([(182, 160), (212, 152), (216, 186), (200, 203), (190, 198)]), 4.6, 3.2)
    plant_wood(canvas, Polygon([(176, -4), (182, -4), (190, 40), (206, 80), (200, 84), (182, 44)]), 5.2, 3.0)
    plant_wood(canvas, Polygon([(90, 101), (110, 99), (111, 106), (92, 107)]), 4.6, 2.6)
    for row in range(5):  # two orchards
        plant_row(canvas, LineString([(94 + 4.6 * row, 111), (94.5 + 4.6 * row, 139)]), 4.8, 1.5, 0.3)
        plant_row(canvas, LineString([(178 + 5.4 * row, 96), (182 + 5.4 * row, 124)]), 5.6, 1.7, 0.3)
    for x, y, radius in ((94, 64, 2.6), (106, 66, 2.9), (106, 75, 2.3), (20, 136, 3.0), (216, 142, 2.5)):
        paint_tree(canvas, x, y, radius, leaves(canvas))


def shifted(values: Array, rows: int, cols: int) -> Array:
    """What lies `rows` down and `cols` right of each pixel; the border repeats."""
    down = np.clip(np.arange(values.shape[0]) + rows, 0, values.shape[0] - 1)
    right = np.clip(np.arange(values.shape[1]) + cols, 0, values.shape[1] - 1)
    return values[down][:, right]


def cast_shadows(height: Array) -> Array:
    """How much of the sun each pixel loses to something higher that stands towards it (0 to 1)."""
    dark = np.zeros(height.shape, bool)
    reach = float(height.max()) / SUN_SLOPE
    for distance in np.arange(STEP, reach, STEP):
        rows, cols = round(SUN[1] * distance / STEP), round(SUN[0] * distance / STEP)
        dark |= shifted(height, rows, cols) > height + distance * SUN_SLOPE + 0.05
    soft: Array = ndimage.gaussian_filter(dark.astype(np.float64), 1.2)
    return soft


def slope_light(height: Array) -> Array:
    """Brightness of each pixel's slope against level ground: above 1 if it faces the sun."""
    down, right = np.gradient(ndimage.gaussian_filter(height, 0.8), STEP)
    facing = -(right * SUN[0] + down * SUN[1])  # rises away from the sun: faces it
    steepness = np.sqrt(1 + right**2 + down**2)
    light: Array = np.clip((SUN_SLOPE + facing) / (SUN_SLOPE * steepness), 0.35, 1.35)
    softened: Array = 0.35 + 0.65 * light
    return softened


def light_ground(canvas: Canvas) -> Array:
    """The painted ground in the sun, float64, shape (rows, columns, 3), 0 to 255 and a little beyond."""
    shadow = cast_shadows(canvas.height)[..., None]
    lit = canvas.colour * slope_light(canvas.height)[..., None]
    ground: Array = lit * (1 - shadow) + canvas.colour * SHADE * shadow
    return ground


def paint_ground() -> Array:
    """Paint and light the whole scene; float64, shape (4 * HEIGHT, 4 * WIDTH, 3)."""
    canvas = Canvas.blank(SEED)
    for layer in (
        paint_meadow,
        paint_fields,
        paint_river,
        paint_roads,
        paint_square,
        paint_courts,
        paint_market,
        paint_village,
        paint_traffic,
    ):
        layer(canvas)
    paint_pitch(canvas, 50, 196, 72, 46, 2)
    plant_trees(canvas)
    ground = light_ground(canvas)
    softened: Array = ndimage.gaussian_filter(ground, (0.6, 0.6, 0))
    return softened


def outside_swath() -> Mask:
    """Pixels of the scene that the sensor did not see: a slanted corner; bool, shape (HEIGHT, WIDTH)."""
    corner = Polygon([(WIDTH + 1, 170), (WIDTH + 1, HEIGHT + 1), (WIDTH - 74, HEIGHT + 1)])
    outside: Mask = rasterize([corner], out_shape=(HEIGHT, WIDTH), dtype="uint8").astype(bool)
    return outside


def expose(ground: Array, unseen: Mask, noise: float, seed: int) -> NDArray[np.uint8]:
    """What a sensor records: haze, a little noise, whole numbers; 0 where it saw nothing and nowhere else.

    Args:
        ground: float64, shape (rows, columns, 3), 0 to 255.
        unseen: bool, shape (rows, columns).
        noise: Standard deviation of the noise, in DN.
        seed: Of the noise.

    Returns:
        uint8, shape (3, rows, columns).
    """
    rng = np.random.default_rng(seed)
    hazy = 12 + 0.98 * ground + noise * rng.standard_normal(ground.shape)
    seen = np.clip(np.rint(hazy), 1, 255).astype(np.uint8)
    seen[unseen] = 0
    return np.ascontiguousarray(np.moveaxis(seen, 2, 0))


def average(ground: Array, factor: int) -> Array:
    """Means over squares of `factor` by `factor` pixels."""
    rows, cols, bands = ground.shape
    means: Array = ground.reshape(rows // factor, factor, cols // factor, factor, bands).mean(axis=(1, 3))
    return means


def write(path: Path, pixels: NDArray[np.uint8], pixel: float) -> None:
    """Write red, green, blue as a tiled GeoTIFF on the scene's ground, with pixels of `pixel` metres."""
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=3,
        height=pixels.shape[1],
        width=pixels.shape[2],
        dtype="uint8",
        crs="EPSG:32633",
        transform=from_origin(*CORNER, pixel, pixel),
        nodata=0,
        tiled=True,
        blockxsize=256,
        blockysize=256,
        interleave="pixel",
        compress="deflate",
        predictor=2,
        zlevel=9,
        photometric="rgb",
    ) as target:
        target.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        target.descriptions = ("red", "green", "blue")
        target.update_tags(NOTE="painted, not photographed; see paint_scene.py")
        target.write(pixels)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Paint the sample scene.")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).with_name("scene.tif"), help="the scene, 0.6 m"
    )
    parser.add_argument("--truth", type=Path, help="also write the same ground at 0.15 m to this file")
    return parser.parse_args()


def main() -> None:
    """Paint, expose at both pixel sizes, write."""
    arguments = parse_arguments()
    ground = paint_ground()
    unseen = outside_swath()
    write(arguments.out, expose(average(ground, FINE), unseen, 1.0, SEED), PIXEL)
    print(f"{arguments.out}: {WIDTH} x {HEIGHT} pixels of {PIXEL} m")
    if arguments.truth:
        fine = np.repeat(np.repeat(unseen, FINE, axis=0), FINE, axis=1)
        write(arguments.truth, expose(ground, fine, 1.0, SEED + 1), STEP)
        print(f"{arguments.truth}: {WIDTH * FINE} x {HEIGHT * FINE} pixels of {STEP} m")


if __name__ == "__main__":
    main()
