"""One scene's way to a COG, planned and not begun; and what a call asks of every scene."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from geosegsr.models.contract import Upscaler
from geosegsr.notices import kept_notices
from geosegsr.pipeline.job_folder import IMAGE, UNCERTAINTY, job_key
from geosegsr.pipeline.options import PlanOptions
from geosegsr.pipeline.plan import Plan, plan
from geosegsr.pipeline.targets import check_not_read, check_target, check_uncertainty_target, wanted_item
from geosegsr.raster.cog_options import creation_options
from geosegsr.raster.metadata import Metadata
from geosegsr.raster.scene import AlphaPolicy

RESULT_KEY_TAG = "GEOSEGSR_RESULT"
"""The result's tag that holds its key."""


@dataclass(frozen=True)
class Request:
    """What a call asks of every scene; a single scene is a batch of one."""

    scale: int
    """Output pixels per input pixel along each side."""
    model: str | Path | Upscaler
    """A name, a checkpoint file or an Upscaler."""
    options: PlanOptions
    """How it is upscaled."""
    creation: Mapping[str, str] | None = None
    """Creation options of GDAL's COG driver, over the defaults."""
    stac: bool = False
    """Whether each result gets a STAC item."""
    acquired: str | None = None
    """The scenes' acquisition time, for the item."""
    overwrite: bool = False
    """Whether a file that this request did not make may be replaced."""
    resume: bool = True
    """Whether an unfinished run is resumed; if not, it is discarded."""
    elsewhere: bool = False
    """Whether other machines compute the blocks."""

    @property
    def recompute(self) -> bool:
        """Whether even a finished result of this request is made again."""
        return self.overwrite and not self.resume

    def prepare(
        self, src: str, target: Path, uncertainty: Path | None = None, *, new_folder: bool = False
    ) -> Task:
        """Check the paths of one scene and plan it; nothing is written.

        Args:
            src: The scene: a local path or anything GDAL opens.
            target: The COG to write.
            uncertainty: A second COG, for the standard deviation over an ensemble.
            new_folder: Whether the target's folder may still have to be created.

        Raises:
            GeoSegSRError: What cannot be done, and what to do about it.
        """
        check_target(target, src, new_folder=new_folder)
        item = wanted_item(target, src, stac=self.stac, acquired=self.acquired, uncertainty=uncertainty)
        creation = creation_options(self.creation or {})
        if uncertainty is not None:
            check_uncertainty_target(uncertainty, target, src)
        began = time.perf_counter()
        with kept_notices() as assumed:
            planned = plan(
                src, self.scale, self.model,
                uncertainty=uncertainty is not None, elsewhere=self.elsewhere, **self.options,
            )  # fmt: skip
        check_not_read([target] if uncertainty is None else [target, uncertainty], planned.scene.files)
        seconds = time.perf_counter() - began
        if planned.holds_classes and "OVERVIEW_RESAMPLING" not in {
            key.upper() for key in self.creation or {}
        }:
            creation["OVERVIEW_RESAMPLING"] = "NEAREST"  # a mean of classes is another class
        return Task(planned, target, uncertainty, self, item, creation, tuple(assumed), seconds)


@dataclass(frozen=True)
class Product:
    """A COG that a run writes."""

    kind: str
    """IMAGE or UNCERTAINTY."""
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
    uncertainty_target: Path | None
    """The COG for the standard deviation over an ensemble."""
    request: Request
    """What was asked for."""
    write_item: Callable[[], Path] | None
    """Writes the STAC item of the finished result and returns its path; None if none was asked for."""
    creation: dict[str, str]
    """All creation options of the target."""
    assumed: tuple[str, ...]
    """What was assumed in planning."""
    seconds: float
    """What planning took."""

    @property
    def targets(self) -> tuple[Path, ...]:
        """The files that the run makes: the image, and its uncertainty where that is asked for."""
        return (self.target,) if self.uncertainty_target is None else (self.target, self.uncertainty_target)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Of the run: what Plan.identity says, and where the uncertainty goes."""
        beside = self.uncertainty_target
        where = {} if beside is None else {"uncertainty": str(beside.absolute())}
        return {**self.planned.identity(), **where}

    @cached_property
    def result_key(self) -> str:
        """Of the result: identifies a finished one, whichever version and block size made it."""
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
        """What is to be written: the image, and its uncertainty where that is asked for."""
        planned = self.planned
        image = Product(
            IMAGE, self.metadata, planned.scene.dtype, self.creation, planned.has_mask, planned.alpha
        )
        if self.uncertainty_target is None:
            return (image,)
        metadata = planned.uncertainty_metadata
        tagged = replace(metadata, tags={**metadata.tags, RESULT_KEY_TAG: self.result_key})
        return image, Product(UNCERTAINTY, tagged, np.dtype(np.float32), creation_options({}), False, "auto")
