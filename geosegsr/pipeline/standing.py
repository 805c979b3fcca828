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
from geosegsr.pipeline.job import Job
from geosegsr.pipeline.job_folder import UNCERTAINTY
from geosegsr.pipeline.targets import check_beside
from geosegsr.pipeline.task import RESULT_KEY_TAG, Product, Task
from geosegsr.raster.cog_gdal import try_creation_options
from geosegsr.raster.gdal import read_tag


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
    existing = [product for product in task.products if lexists(product.target)]
    ours = [product for product in existing if is_result(product)]
    if len(ours) == len(task.products):
        return Standing.OURS
    # An image without the uncertainty that belongs to it is not all that was asked for, and is not replaced unasked.
    beside = task.uncertainty_target
    if len(ours) < len(existing) or (existing and beside is not None and not lexists(beside)):
        return Standing.ANOTHERS
    return Standing.UNFINISHED if Job(task.target).begun else Standing.ABSENT


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
    Job(task.target).check_folder()
    if request.resume:
        Job(task.target).check_identity(task.identity)
    for product in task.products:
        try_creation_options(
            product.creation, product.metadata, product.dtype,
            has_mask=product.has_mask, alpha=product.alpha,
        )  # fmt: skip
    for path in task.targets:
        check_beside(path)
    return True


def is_result(product: Product) -> bool:
    """Whether the file at a product's target is what its task makes, by the key in its tags."""
    return read_tag(product.target, RESULT_KEY_TAG) == product.key


def _exists(task: Task) -> JobError:
    there = [product for product in task.products if lexists(product.target)]
    foreign = next((product for product in there if not is_result(product)), None)
    if foreign is None:
        return JobError(
            f"Cannot write '{task.uncertainty_target}': the image that it belongs to exists already, at "
            f"'{there[0].target}'. Pass --overwrite to make both, or another -o."
        )
    path, other = foreign.target, f"another {'--uncertainty' if foreign.kind == UNCERTAINTY else '-o'}"
    found = "it exists"
    if read_tag(path, RESULT_KEY_TAG) is not None:
        found += ", and was made from another source, with another model or with other options"
    return JobError(f"Cannot write '{path}': {found}. Pass --overwrite to replace it, or {other}.")
