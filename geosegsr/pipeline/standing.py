"""What exists at a run's target, and what the run may do about it: decided here alone.

A single scene, a batch and --dry-run all ask `needs_run`:

    standing     run         --overwrite   --no-resume   both
    absent       compute     compute       compute       compute
    unfinished   resume      resume        start anew    start anew
    ours         skip        skip          skip          compute
    another's    refuse      replace       refuse        replace

An unfinished run of another source, model or options is refused without --no-resume.
"""

from __future__ import annotations

from enum import StrEnum
from os.path import lexists

from geosegsr.errors import JobError
from geosegsr.pipeline.job_folder import UNCERTAINTY
from geosegsr.pipeline.targets import check_beside
from geosegsr.pipeline.task import RESULT_KEY_TAG, Product, Task
from geosegsr.raster.cog_gdal import try_creation_options
from geosegsr.raster.cog_published import read_published_tag
from geosegsr.raster.gdal import read_tag
from geosegsr.stores.opening import open_store


class Standing(StrEnum):
    """What exists at the target of a task."""

    ABSENT = "absent"
    """Nothing, or only some of the bands that become files of their own."""
    UNFINISHED = "unfinished"
    """A job folder with a run that was interrupted, be it this one or another."""
    OURS = "ours"
    """Finished results of this very source, model and options, at all targets of the task."""
    ANOTHERS = "another's"
    """A file that this task did not make."""


def standing(task: Task) -> Standing:
    """What exists at the target of a task.

    A finished result is recognised by the key in its tags, which says what made it. A job folder beside it is what an
    interrupted run did not clear away.
    """
    existing = [product for product in task.products if is_there(product)]
    ours = [product for product in existing if is_result(product)]
    if len(ours) == len(task.products):
        return Standing.OURS
    # An image without the uncertainty that belongs to it is not all that was asked for, and is not replaced unasked.
    alone = existing and any(p.kind == UNCERTAINTY and p not in existing for p in task.products)
    if len(ours) < len(existing) or alone:
        return Standing.ANOTHERS
    return Standing.UNFINISHED if task.job().begun else Standing.ABSENT


def needs_run(task: Task) -> bool:
    """Whether there is anything to compute; all that the run would refuse is refused here, and nothing is written.

    Raises:
        JobError: The run would replace a file that it may not, cannot resume the run in the job folder, or finds there a
            folder that is no job's.
        GeoSegSRError: GDAL refuses the creation options.
    """
    request, found = task.request, standing(task)
    if found is Standing.OURS and not request.recompute:
        return False
    if found is Standing.ANOTHERS and not request.overwrite:
        raise _exists(task)
    task.job().check_folder()
    if request.resume:
        task.job().check_identity(task.identity)
    for product in task.products:
        try_creation_options(
            product.creation, product.metadata, product.dtype,
            has_mask=product.has_mask, alpha=product.alpha,
        )  # fmt: skip
        check_beside(product.published or product.target)
    return True


def is_there(product: Product) -> bool:
    """Whether anything has the name of a product, where that goes."""
    if product.published is None:
        return lexists(product.target)
    return open_store(product.published).head(product.published.key) is not None


def is_result(product: Product) -> bool:
    """Whether what has the name of a product is what its task makes, by the key in its tags."""
    return _key_of(product) == product.key


def size_of(product: Product) -> int:
    """Bytes of a finished product, wherever it is; 0 where there is none."""
    if product.published is None:
        return product.target.stat().st_size
    found = open_store(product.published).head(product.published.key)
    return 0 if found is None else found.size


def _key_of(product: Product) -> str | None:
    if product.published is None:
        return read_tag(product.target, RESULT_KEY_TAG)
    needs = open_store(product.published).gdal_options()
    return read_published_tag(product.published.gdal, RESULT_KEY_TAG, needs)


def _exists(task: Task) -> JobError:
    there = [product for product in task.products if is_there(product)]
    foreign = next((product for product in there if not is_result(product)), None)
    if foreign is None:
        missing = next(product for product in task.products if product not in there)
        return JobError(
            f"Cannot write '{missing.name}': the image that it belongs to exists already, at '{there[0].name}'. Pass --overwrite to make both, or another -o."
        )
    path, other = foreign.name, f"another {'--uncertainty' if foreign.kind == UNCERTAINTY else '-o'}"
    found = "it exists"
    if _key_of(foreign) is not None:
        found += ", and was made from another source, with another model or with other options"
    return JobError(f"Cannot write '{path}': {found}. Pass --overwrite to replace it, or {other}.")
