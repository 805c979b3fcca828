"""Which images of two folders are the two sides of a pair."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path

from shapely import Polygon

from geosegsr.imagery.ground import footprint
from geosegsr.raster.scene import Scene

_DATE = re.compile(r"(?<!\d)((?:19|20)\d{2}(?:[-_]?\d{2}[-_]?\d{2})?(?:T\d{6})?|t\d+)(?!\d)", re.IGNORECASE)
_SHARED = 0.2  # of the smaller outline


def match_images(hr: Sequence[Scene], lr: Sequence[Scene]) -> tuple[list[tuple[int, int]], list[str]]:
    """Find the lr images of each hr image: those of the same name, else one of the same ground.

    If several show the same ground (dates, bands), the one with the most similar name is taken, and with it those whose
    names differ from it in their date alone. An lr image of another date belongs to one hr image only.

    Returns:
        Positions (hr, lr), and a message for each hr image that has no counterpart.
    """
    by_name = defaultdict(list)
    for index, scene in enumerate(lr):
        by_name[Path(scene.path).stem].append(index)
    outlines = [footprint(scene) for scene in lr]
    best: dict[int, int] = {}
    candidates: dict[int, list[int]] = {}
    alone = []
    for i, scene in enumerate(hr):
        candidates[i] = by_name.get(Path(scene.path).stem) or _on_ground_of(scene, outlines)
        if candidates[i]:
            best[i] = max(candidates[i], key=lambda k: _similarity(scene, lr[k]))
        else:
            alone.append(f"'{scene.path}' has no lr image of its name or ground.")
    pairs = list(best.items())
    taken = set(best.values())
    for i, j in best.items():
        others = [k for k in candidates[i] if k not in taken and _undated(lr[k]) == _undated(lr[j])]
        taken.update(others)
        pairs += [(i, k) for k in others]
    return sorted(pairs), alone


def _on_ground_of(scene: Scene, outlines: Sequence[Polygon | None]) -> list[int]:
    outline = footprint(scene)
    if outline is None:
        return []
    return [
        k
        for k, other in enumerate(outlines)
        if other is not None and outline.intersection(other).area > _SHARED * min(outline.area, other.area)
    ]


def _similarity(a: Scene, b: Scene) -> tuple[float, float]:
    """Of the names, then of the whole paths."""
    names = SequenceMatcher(None, Path(a.path).stem, Path(b.path).stem).ratio()
    return names, SequenceMatcher(None, a.path, b.path).ratio()


def _undated(scene: Scene) -> str:
    """The name with its dates replaced."""
    return _DATE.sub("#", Path(scene.path).stem)
