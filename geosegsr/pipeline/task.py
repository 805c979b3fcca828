"""One scene's way to a COG, planned and not begun; and what a call asks of every scene."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from geosegsr.errors import ConfigError
from geosegsr.files import exists
from geosegsr.models.contract import Upscaler
from geosegsr.notices import kept_notices
from geosegsr.pipeline.cell import Cell, cut_into_cells
from geosegsr.pipeline.job import Job
from geosegsr.pipeline.job_folder import IMAGE, UNCERTAINTY, band_kind, job_key
from geosegsr.pipeline.options import PlanOptions
from geosegsr.pipeline.plan import Plan, plan
from geosegsr.pipeline.staging import Staging
from geosegsr.pipeline.targets import (
    check_acquired,
    check_item,
    check_not_read,
    check_target,
    check_uncertainty_target,
)
from geosegsr.raster.cog_block import TiledFormat
from geosegsr.raster.cog_options import creation_options
from geosegsr.raster.metadata import BandMetadata, Metadata
from geosegsr.raster.scene import AlphaPolicy
from geosegsr.stores.address import Address

RESULT_KEY_TAG = "GEOSEGSR_RESULT"
"""The result's tag that holds its key."""
_NOT_IN_NAMES = re.compile(r"[^\w.-]+")


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
    staging: Staging | None = None
    """Where results are made that go to an object store."""
    kept: Address | None = None
    """Of a run whose results are sent to a store later: where its state lies until then, if that is in a store, too."""

    @property
    def recompute(self) -> bool:
        """Whether even a finished result of this request is made again."""
        return self.overwrite and not self.resume

    def address(self, path: Path) -> Address | None:
        """Where a result goes from its path; None for one that stays there."""
        return None if self.staging is None else self.staging.address(path)

    def shown(self, path: Path) -> str:
        """What messages and reports call a file of the request."""
        return str(self.address(path) or path)

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
        new_folder = new_folder or self.address(target) is not None
        check_target(target, src, new_folder=new_folder)
        check_acquired(self.acquired, stac=self.stac)
        creation = creation_options(self.creation or {})
        if uncertainty is not None:
            self._check_same_place(uncertainty, target)
            check_uncertainty_target(uncertainty, target, src, new_folder=new_folder)
        began = time.perf_counter()
        with kept_notices() as assumed:
            planned = plan(
                src, self.scale, self.model,
                uncertainty=uncertainty is not None, elsewhere=self.elsewhere, creation=creation, **self.options,
            )  # fmt: skip
        seconds = time.perf_counter() - began
        if planned.holds_classes and "OVERVIEW_RESAMPLING" not in {
            key.upper() for key in self.creation or {}
        }:
            creation["OVERVIEW_RESAMPLING"] = "NEAREST"  # a mean of classes is another class
        task = Task(src, planned, target, uncertainty, self, creation, tuple(assumed), seconds)
        if planned.separate:
            for product in task.products:
                check_target(product.target, src, new_folder=new_folder)
        check_not_read(task.targets, planned.scene.files)
        if self.stac:
            check_item(target, src, task.assets, self.acquired, planned.metadata.tags)
        return task

    def _check_same_place(self, uncertainty: Path, target: Path) -> None:
        one, other = self.address(uncertainty), self.address(target)
        if (one and one.root) != (other and other.root):
            raise ConfigError(
                f"Cannot write '{one or uncertainty}': it is in another place than '{other or target}'. "
                "Pass --uncertainty in the same bucket or folder."
            )


@dataclass(frozen=True)
class Product:
    """A COG that a run writes."""

    kind: str
    """IMAGE, UNCERTAINTY, or that of a band."""
    asset: str
    """Its name in a STAC item."""
    target: Path
    """Where it goes."""
    key: str
    """Identifies its finished file, whichever version and block size made it."""
    metadata: Metadata
    """Provenance and key included, without statistics."""
    dtype: np.dtype[Any]
    creation: Mapping[str, str]
    """All creation options."""
    has_mask: bool
    alpha: AlphaPolicy
    """What a band tagged alpha is."""
    published: Address | None = None
    """Where it goes from `target`: an object in a store."""

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.published or self.target)


@dataclass(frozen=True)
class Task:
    """One scene's way to a COG, planned and not begun."""

    src: str
    """The scene, as it was named."""
    planned: Plan
    target: Path
    """The COG to write; where each band becomes one, the name that theirs are made of."""
    uncertainty_target: Path | None
    """The COG for the standard deviation over an ensemble."""
    request: Request
    """What was asked for."""
    creation: dict[str, str]
    """All creation options of the target."""
    assumed: tuple[str, ...]
    """What was assumed in planning."""
    seconds: float
    """What planning took."""

    def job(self) -> Job:
        """What is kept of the run until it is finished."""
        targets = {product.kind: product.target for product in self.products}
        return Job(self.target, targets, self.prefix, until_sent=self.request.kept is not None)

    @property
    def targets(self) -> tuple[Path, ...]:
        """The files that the run makes: the image or its bands, and the uncertainty where that is asked for."""
        return tuple(product.target for product in self.products)

    @property
    def published(self) -> Address | None:
        """Where the target goes from its path; None for one that stays there."""
        return self.request.address(self.target)

    @property
    def prefix(self) -> Address | None:
        """The prefix of a store below which the state of the run lies; None for a folder beside the target."""
        request = self.request
        if request.staging is None:
            return request.kept
        return request.staging.prefix(self.target, elsewhere=request.elsewhere)

    @property
    def local(self) -> Task:
        """The same without the way to a store: what is at the local paths is nobody else's.

        The source has a name that holds wherever the STAC item lies.
        """
        local = replace(self.request, staging=None, overwrite=True, kept=self.prefix)
        src = Path(self.src).absolute().as_uri() if exists(self.src) else self.src
        return replace(self, src=src, request=local)

    @property
    def assets(self) -> dict[str, Path]:
        """The same files, by their names in a STAC item."""
        return {product.asset: product.target for product in self.products}

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Of the run: what Plan.identity says, where the uncertainty goes, and what decides the bytes of the blocks."""
        beside = self.uncertainty_target
        where = {} if beside is None else {"uncertainty": str(beside.absolute())}
        tiles = {kind: form.key for kind, form in self.forms.items()}
        return {**self.planned.identity(), **where, **({"tiles": tiles} if tiles else {})}

    @cached_property
    def result_key(self) -> str:
        """Of the result: identifies a finished one, whichever version and block size made it."""
        decides = {
            key: value for key, value in self.planned.identity().items() if key not in ("version", "block")
        }
        return job_key({**decides, "creation": self.creation})

    @cached_property
    def metadata(self) -> Metadata:
        """Of the result, provenance included, without statistics."""
        planned = self.planned
        tags = {**planned.metadata.tags, **planned.tags(), RESULT_KEY_TAG: self.result_key}
        return replace(planned.metadata, tags=tags)

    @cached_property
    def forms(self) -> dict[str, TiledFormat]:
        """How the blocks are written of those products whose COG is made of their tiles."""
        windows = self.planned.block_windows
        forms = {
            product.kind: TiledFormat.of(
                product.metadata, product.dtype, product.creation, windows, has_mask=product.has_mask
            )
            for product in self.products
        }
        return {kind: form for kind, form in forms.items() if form is not None}

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Those of all products whose blocks do not hold the tiles of the COG."""
        return cut_into_cells(self.planned.block_windows, self.forms)

    @cached_property
    def products(self) -> tuple[Product, ...]:
        """What is to be written: the image or its bands, and the uncertainty where that is asked for."""
        planned = self.planned
        image = Product(
            IMAGE, "data", self.target, self.result_key,
            self.metadata, planned.scene.dtype, self.creation, planned.has_mask, planned.alpha,
        )  # fmt: skip
        images = one_a_band(image) if planned.separate else (image,)
        made = (
            images
            if self.uncertainty_target is None
            else (*images, self._uncertainty(self.uncertainty_target))
        )
        return tuple(replace(product, published=self.request.address(product.target)) for product in made)

    def _uncertainty(self, target: Path) -> Product:
        planned = self.planned
        metadata = planned.uncertainty_metadata
        tagged = replace(metadata, tags={**metadata.tags, RESULT_KEY_TAG: self.result_key})
        return Product(
            UNCERTAINTY, UNCERTAINTY, target, self.result_key,
            tagged, np.dtype(np.float32), creation_options({}), False, "auto",
        )  # fmt: skip


def one_a_band(image: Product) -> tuple[Product, ...]:
    """The same as a COG for each band: out.tif becomes out_B02.tif, out_B03.tif and so on."""
    made, bands = [], image.metadata.bands
    for number, (band, name) in enumerate(zip(bands, file_names(bands), strict=True), 1):
        key = job_key({"result": image.key, "band": name})
        tags = {**image.metadata.tags, RESULT_KEY_TAG: key}
        metadata = replace(image.metadata, bands=(band,), tags=tags)
        target = image.target.with_stem(f"{image.target.stem}_{name}")
        made.append(
            replace(image, kind=band_kind(number), asset=name, target=target, key=key, metadata=metadata)
        )
    return tuple(made)


def file_names(bands: Sequence[BandMetadata]) -> list[str]:
    """What tells the files of some bands apart: their names, or b1, b2, ... where one has none or two have the same."""
    names = [_NOT_IN_NAMES.sub("_", band.description or "").strip("_") for band in bands]
    if all(names) and len({name.casefold() for name in names}) == len(names):
        return names
    return [f"b{band.index}" for band in bands]
