"""The pairs of a run: aligned, described in a table, and shown in a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosegsr.errors import SceneError
from geosegsr.imagery.find import find_images
from geosegsr.imagery.images import open_images, radiometry_policy, report_left_out
from geosegsr.imagery.matching import match_images
from geosegsr.imagery.pairs import AlignedPair, align
from geosegsr.imagery.pictures import contact_sheet
from geosegsr.models.interpolation import repeat_pixels
from geosegsr.raster.scene import Scene
from geosegsr.sensor.degradation import Degradation
from geosegsr.training.config import TrainConfig

_MOST_ROWS = 20
_MOST_SHOWN = 6


@dataclass(frozen=True)
class Pairs:
    """All pairs of one list of images."""

    pairs: tuple[AlignedPair, ...]
    scenes: tuple[Scene, ...]
    """The hr scene of each pair."""
    example: Scene
    """An lr scene."""
    policy: dict[str, Any]
    """Radiometry."""

    @property
    def table(self) -> list[str]:
        """A line for each pair, with a heading."""
        head = f"{'overlap':>8}{'shift (rows, columns)':>23}{'rest':>6}{'tiles':>7}{'correlation':>13}{'left out':>10}{'MTF':>6}"
        rows = [_row(pair, scene) for pair, scene in zip(self.pairs, self.scenes, strict=True)]
        more = [f"... and {len(rows) - _MOST_ROWS} more"] if len(rows) > _MOST_ROWS else []
        return [f"{'pair':<36}{head}", *rows[:_MOST_ROWS], *more]

    @property
    def degradation(self) -> Degradation | None:
        """The blur between hr and lr, the mean of those that pairs show; None if none shows it."""
        known = [(p.degradation.mtf[0], int(p.same.sum())) for p in self.pairs if p.degradation is not None]
        if not known:
            return None
        mtf = round(float(np.average([m for m, _ in known], weights=[w for _, w in known])), 2)
        return Degradation(kernel=("mtf",), mtf=(mtf, mtf))

    def picture(self) -> NDArray[np.uint8]:
        """Some pairs below each other: lr, hr without the ground left out, and hr; uint8, shape (3, H, W)."""
        return contact_sheet([_shown(pair) for pair in self.pairs[:_MOST_SHOWN]])


def aligned_pairs(
    config: TrainConfig, hr: Sequence[str], lr: Sequence[str], policy: dict[str, Any] | None
) -> Pairs:
    """Open, match and align all images; a warning names those that do not make a pair.

    Args:
        config: The run.
        hr: Folders, patterns or files of the high-resolution side.
        lr: The same of the low-resolution side.
        policy: Radiometry; None to find it from the lr images.

    Raises:
        SceneError: No pair can be used.
        BandError: The images differ in their bands.
        ConfigError: The pixel sizes do not fit the scale.
    """
    data, scale = config.data, config.model.scale
    hr_scenes = open_images(find_images(hr), data)
    lr_scenes = open_images(find_images(lr), data)
    policy = policy or radiometry_policy(lr_scenes, data, config.seed)
    matched, reasons = match_images(hr_scenes, lr_scenes)
    pairs, scenes = [], []
    for i, j in matched:
        try:
            pair = align(
                hr_scenes[i],
                lr_scenes[j],
                scale,
                policy,
                max_shift=data.max_shift,
                match_levels=data.match_pairs,
            )
        except SceneError as error:
            reasons.append(str(error))
            continue
        pairs.append(pair)
        scenes.append(hr_scenes[i])
    report_left_out(reasons, len(reasons) + len(pairs), "do not make a pair")
    return Pairs(tuple(pairs), tuple(scenes), lr_scenes[0], policy)


def _row(pair: AlignedPair, scene: Scene) -> str:
    name = " + ".join(Path(path).name for path in pair.name.split(" + "))
    name = name if len(name) <= 35 else f"{name[:16]}...{name[-16:]}"
    shift = f"{pair.shift[0]:+.2f}, {pair.shift[1]:+.2f} lr px"
    rest = float(np.hypot(*pair.residual))
    mtf = "?" if pair.degradation is None else f"{pair.degradation.mtf[0]:.2f}"
    return (
        f"{name:<36}{pair.overlap:>8.0%}{shift:>23}{rest:>6.2f}{pair.local.good:>7.0%}"
        f"{pair.correlation:>13.2f}{pair.left_out:>10.0%}{mtf:>6}"
    )


def _shown(pair: AlignedPair) -> list[NDArray[np.float32]]:
    scale = pair.hr.shape[1] // pair.lr.shape[1]
    same = repeat_pixels(pair.same, scale)
    return [repeat_pixels(pair.lr, scale), np.where(same, pair.hr, pair.hr.min()), pair.hr]
