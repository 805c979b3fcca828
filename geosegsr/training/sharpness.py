"""Images that hold no detail to learn from are named before the first step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from geosegsr.errors import SceneError
from geosegsr.imagery.ground import Part
from geosegsr.imagery.softness import LEAST_DETAIL, detail_share
from geosegsr.imagery.sources import Source
from geosegsr.notices import warn
from geosegsr.raster.window import Window

_SIDE = 256  # hr pixels
_MOST = 200  # images; of more, as many are drawn evenly


def report_soft_images(sources: Sequence[Source], parts: Sequence[Part], scale: int) -> None:
    """Warn of images that look enlarged: at their pixel size they hold little detail that lr lacks.

    Args:
        sources: Images or pairs.
        parts: The ground that is trained on.
        scale: hr pixels per lr pixel.
    """
    chosen = np.unique(np.linspace(0, len(parts) - 1, min(len(parts), _MOST)).round().astype(int))
    soft = [
        sources[parts[i].image].name
        for i in chosen
        if _is_soft(sources[parts[i].image], parts[i].window, scale)
    ]
    if soft:
        warn(
            f"{len(soft)} of {len(chosen)} images are soft, such as '{soft[0]}': at their pixel size they hold little detail that "
            f"images of {scale} times as large pixels lack, as if they had been enlarged. A model learns little from them: "
            "leave them out, or reduce them first"
        )


def _is_soft(source: Source, area: Window, scale: int) -> bool:
    side = min(_SIDE, area.height, area.width) // (2 * scale) * 2 * scale
    if side < 8 * scale:
        return False
    row = area.row + (area.height - side) // 2 // scale * scale
    col = area.col + (area.width - side) // 2 // scale * scale
    try:
        valid, values = source.validity(Window(row, col, side, side))
    except SceneError:
        return False  # named when patches are looked for
    return bool(valid.mean() > 0.9) and detail_share(np.asarray(values, np.float32), scale) < LEAST_DETAIL
