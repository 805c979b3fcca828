"""One scene's way to a COG, planned and not begun."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from geosegsr.models.contract import DEFAULT_MODEL, Upscaler
from geosegsr.notices import kept_assumptions
from geosegsr.pipeline.job import IMAGE, SPREAD, Job, job_key
from geosegsr.pipeline.plan import Plan, plan
from geosegsr.pipeline.targets import check_spread_target
from geosegsr.raster.cog_options import creation_options
from geosegsr.raster.gdal import read_tag
from geosegsr.raster.metadata import Metadata
from geosegsr.raster.scene import AlphaPolicy

RESULT_KEY_TAG = "GEOSEGSR_RESULT"
"""The result's tag that holds its key."""


@dataclass(frozen=True)
class Product:
    """A COG that a run writes."""

    kind: str
    """IMAGE or SPREAD."""
    metadata: Metadata
    """Provenance included, without statistics."""
    dtype: np.dtype[Any]
    creation: Mapping[str, str]
    """All creation options."""
    has_mask: bool
    alpha: AlphaPolicy
    """What a band tagged alpha is."""


@dataclass(frozen=True)
class Task:
    """One scene's way to a COG, planned and not begun."""

    planned: Plan
    target: Path
    spread_target: Path | None
    """The COG for the spread of an ensemble."""
    creation: dict[str, str]
    """All creation options of the target."""
    assumed: tuple[str, ...]
    """What was assumed in planning."""
    seconds: float
    """What planning took."""

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Of the run: what Plan.identity says, and where the spread goes."""
        spread = self.spread_target
        where = {} if spread is None else {"uncertainty": str(spread.absolute())}
        return {**self.planned.identity(), **where}

    @cached_property
    def result_key(self) -> str:
        """Of the result: how a finished one is known again, by whatever version and in whatever blocks it was made."""
        decides = {
            key: value
            for key, value in self.identity.items()
            if key not in ("version", "block", "uncertainty")
        }
        return job_key({**decides, "creation": self.creation})

    @cached_property
    def metadata(self) -> Metadata:
        """Of the result, provenance included, without statistics."""
        planned = self.planned
        tags = {**planned.metadata.tags, **planned.tags(), RESULT_KEY_TAG: self.result_key}
        return replace(planned.metadata, tags=tags)

    @property
    def products(self) -> tuple[Product, ...]:
        """What is to be written: the image, and the spread where it is wanted."""
        planned = self.planned
        image = Product(
            IMAGE, self.metadata, planned.scene.dtype, self.creation, planned.has_mask, planned.alpha
        )
        if self.spread_target is None:
            return (image,)
        spread = planned.spread_metadata
        tagged = replace(spread, tags={**spread.tags, RESULT_KEY_TAG: self.result_key})
        return image, Product(SPREAD, tagged, np.dtype(np.float32), creation_options({}), False, "auto")


def prepare(
    src: str | Path,
    target: Path,
    scale: int = 4,
    model: str | Path | Upscaler = DEFAULT_MODEL,
    *,
    creation: Mapping[str, str] | None = None,
    uncertainty: str | Path | None = None,
    **options: Any,
) -> Task:
    """Plan a run; nothing is written. Arguments and errors as in `upscale`."""
    cog_options = creation_options(creation or {})
    spread_target = None if uncertainty is None else Path(uncertainty)
    if spread_target is not None:
        check_spread_target(spread_target, target, str(src))
    began = time.perf_counter()
    with kept_assumptions() as assumed:
        planned = plan(src, scale, model, spread=spread_target is not None, **options)
    return Task(planned, target, spread_target, cog_options, tuple(assumed), time.perf_counter() - began)


def may_be_ours(target: Path) -> bool:
    """Whether a target may be that of this very command, which was stopped before or after it was through."""
    return Job(target).folder.exists() or read_tag(target, RESULT_KEY_TAG) is not None


def is_result(path: Path, task: Task) -> bool:
    """Whether a file is what this task makes, by the key in its tags."""
    return path.exists() and read_tag(path, RESULT_KEY_TAG) == task.result_key
