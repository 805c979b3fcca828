"""Where images lie, so that validation uses other ground than training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rasterio.errors import RasterioError
from rasterio.warp import transform as transform_points
from shapely import Polygon, STRtree

from geosegsr.errors import ConfigError
from geosegsr.raster.scene import Scene
from geosegsr.raster.window import Window

_TOUCHING = (
    0.01  # neighbours of a mosaic share a sliver; less than this share of the smaller one is no overlap
)


@dataclass(frozen=True)
class Part:
    """A part of an image that patches or validation tiles may be cut from."""

    image: int
    """Position of the image in its list."""
    window: Window
    """The part, in pixels of the image."""


def footprint(scene: Scene) -> Polygon | None:
    """The ground that a scene covers.

    Returns:
        Its four corners in degrees (longitude, latitude), in the order upper left, upper right, lower
        right, lower left; None if the scene has no georeference.
    """
    if scene.crs is None or scene.transform is None:
        return None
    corners = [(0, 0), (scene.width, 0), (scene.width, scene.height), (0, scene.height)]
    xs, ys = zip(*(scene.transform @ corner for corner in corners), strict=True)
    try:
        lon, lat = transform_points(scene.crs, "EPSG:4326", xs, ys)
    except RasterioError:
        return None
    if not np.isfinite([*lon, *lat]).all():
        return None
    outline = Polygon(zip(lon, lat, strict=True))
    return outline if outline.is_valid and outline.area > 0 else None


def find_overlaps(first: Sequence[Scene], second: Sequence[Scene]) -> list[tuple[int, int]]:
    """Pairs of scenes that show the same ground, one from each list.

    A scene without georeference overlaps only with the same file.
    """
    here, there = [footprint(s) for s in first], [footprint(s) for s in second]
    paths = {scene.path: index for index, scene in enumerate(first)}
    found = {(paths[s.path], j) for j, s in enumerate(second) if s.path in paths}
    known = [i for i, outline in enumerate(here) if outline is not None]
    tree = STRtree([here[i] for i in known])
    for j, outline in enumerate(there):
        if outline is None:
            continue
        for k in tree.query(outline, predicate="intersects"):
            other = here[known[k]]
            assert other is not None
            if other.intersection(outline).area > _TOUCHING * min(other.area, outline.area):
                found.add((known[k], j))
    return sorted(found)


def group_by_place(scenes: Sequence[Scene]) -> list[list[int]]:
    """Positions of scenes, in groups that overlap directly or through others."""
    leader = list(range(len(scenes)))

    def root(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    for i, j in find_overlaps(scenes, scenes):
        leader[root(i)] = root(j)
    groups: dict[int, list[int]] = {}
    for i in range(len(scenes)):
        groups.setdefault(root(i), []).append(i)
    return list(groups.values())


def split_by_place(
    scenes: Sequence[Scene], share: float, scale: int, patch: int, seed: int
) -> tuple[list[Part], list[Part]]:
    """Set ground aside for validation.

    If there are enough places, whole places are set aside. Otherwise each place is cut along a line of latitude: its
    north is for training, its south for validation, and a strip between them for neither.

    Args:
        scenes: All images.
        share: Share of the ground for validation, 0 to 1; 0 for none.
        scale: hr pixels per lr pixel; parts begin and end at multiples of it.
        patch: Side of a patch, in hr pixels; every part is at least as high.
        seed: Which places are chosen.

    Returns:
        Parts for training and parts for validation.

    Raises:
        ConfigError: The images are too small to be cut.
    """
    if not share:
        return [Part(i, whole(scene, scale)) for i, scene in enumerate(scenes)], []
    groups = group_by_place(scenes)
    if len(groups) * share >= 1:
        return _whole_places(scenes, groups, share, scale, seed)
    cut = [part for group in groups for part in _cut_place(scenes, group, share, scale, patch)]
    return [train for train, _ in cut if train], [val for _, val in cut if val]


def whole(scene: Scene, scale: int) -> Window:
    """All of a scene, without the pixels at its lower and right edge that fill no lr pixel."""
    return Window(0, 0, scene.height // scale * scale, scene.width // scale * scale)


def _whole_places(
    scenes: Sequence[Scene], groups: list[list[int]], share: float, scale: int, seed: int
) -> tuple[list[Part], list[Part]]:
    wanted = share * sum(scene.height * scene.width for scene in scenes)
    parts: tuple[list[Part], list[Part]] = ([], [])
    aside = 0
    for position, g in enumerate(np.random.default_rng(seed).permutation(len(groups))):
        pixels = sum(scenes[i].height * scenes[i].width for i in groups[g])
        fits = aside + pixels / 2 <= wanted or not aside
        to_val = fits and position < len(groups) - 1
        for i in groups[g]:
            parts[to_val].append(Part(i, whole(scenes[i], scale)))
        aside += to_val * pixels
    return parts


def _cut_place(
    scenes: Sequence[Scene], group: list[int], share: float, scale: int, patch: int
) -> list[tuple[Part | None, Part | None]]:
    outlines = [footprint(scenes[i]) for i in group]
    latitudes = [outline.bounds[1::2] for outline in outlines if outline is not None]
    south, north = (
        (min(low for low, _ in latitudes), max(high for _, high in latitudes)) if latitudes else (0.0, 1.0)
    )
    gap = 8 * scale
    needed = patch / min(scenes[i].height for i in group)
    line = south + max(share, min(needed, 0.4)) * (north - south)
    cut = []
    for i, outline in zip(group, outlines, strict=True):
        first, last = _rows_at(scenes[i], outline, line)
        upper = _band_of_rows(scenes[i], 0, first - gap // 2, scale)
        lower = _band_of_rows(scenes[i], last + gap // 2, scenes[i].height, scale)
        if outline is not None and _upside_down(outline):
            upper, lower = lower, upper
        cut.append((Part(i, upper) if upper else None, Part(i, lower) if lower else None))
    if not any(t and t.window.height >= patch for t, _ in cut) or not any(v for _, v in cut):
        tallest = max(scenes[i].height for i in group)
        raise ConfigError(
            f"Cannot set a part of '{scenes[group[0]].path}' aside for validation: its {tallest} rows are "
            f"too few for patches of {patch} pixels in both parts. Pass --val with other images, or a "
            "smaller --patch."
        )
    return cut


def _rows_at(scene: Scene, outline: Polygon | None, line: float) -> tuple[int, int]:
    """First and last row that a line of latitude crosses; a share of the rows if there is no georeference."""
    if outline is None:
        row = round(scene.height * (1 - line))
        return row, row
    lat = [y for _, y in outline.exterior.coords[:4]]
    rows = []
    for top, bottom in ((lat[0], lat[3]), (lat[1], lat[2])):
        down = (line - top) / (bottom - top) if bottom != top else 0.5
        rows.append(round(scene.height * min(max(down, 0.0), 1.0)))
    return min(rows), max(rows)


def _upside_down(outline: Polygon) -> bool:
    lat = [y for _, y in outline.exterior.coords[:4]]
    return bool(lat[0] + lat[1] < lat[2] + lat[3])


def _band_of_rows(scene: Scene, start: int, stop: int, scale: int) -> Window | None:
    start, stop = -(-max(start, 0) // scale) * scale, min(stop, scene.height) // scale * scale
    if stop <= start:
        return None
    return Window(start, 0, stop - start, scene.width // scale * scale)
