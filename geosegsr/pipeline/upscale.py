"""upscale(): one scene in, one Cloud-Optimized GeoTIFF out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Unpack

from geosegsr.files import temporary_folder
from geosegsr.models.contract import DEFAULT_MODEL, Upscaler
from geosegsr.pipeline.options import PlanOptions, listed
from geosegsr.pipeline.report import Progress, Report, stages_told
from geosegsr.pipeline.run import carry_out
from geosegsr.pipeline.staging import Staging, check_scratch
from geosegsr.pipeline.targets import staged
from geosegsr.pipeline.task import Request
from geosegsr.workers.engine import open_engine
from geosegsr.workers.scheduler import Scheduler


@listed(PlanOptions)
def upscale(
    src: str | Path,
    dst: str | Path,
    scale: int = 4,
    model: str | Path | Upscaler = DEFAULT_MODEL,
    *,
    workers: int | None = None,
    scheduler: str | Scheduler | None = None,
    creation: Mapping[str, str] | None = None,
    stac: bool = False,
    acquired: str | None = None,
    overwrite: bool = False,
    resume: bool = True,
    progress: Callable[[Progress], None] | None = None,
    uncertainty: str | Path | None = None,
    scratch: str | Path | None = None,
    **options: Unpack[PlanOptions],
) -> Report:
    """Upscale a georeferenced raster into a Cloud-Optimized GeoTIFF on the same ground.

    The same call resumes a run that was interrupted at any moment, and ends with the same pixels. A finished result of
    the same source, model and options is left untouched; see `geosegsr.pipeline.standing`.

    Args:
        src: A local path or anything GDAL opens.
        dst: A local path, whose folder must exist; or s3://BUCKET/KEY, gs://BUCKET/KEY or az://CONTAINER/KEY, where it
            appears whole or not at all. Needs geosegsr[cloud].
        scale: Output pixels per input pixel along each side: 2, 3, 4 or 8; 1 to stop at the grid of a `guide`.
        model: A name, a checkpoint file or an Upscaler; see `geosegsr.models.catalogue.resolve_upscaler`.
        workers: Worker processes on this machine; by default threads of this process. Worker processes import the
            calling script, so the call must be under `if __name__ == "__main__":`.
        scheduler: A running Dask scheduler, or its address; its workers must share the output's folder, unless the state
            of the run is in an object store. Work travels as pickles, so a scheduler is trusted like a shell; a
            `Scheduler` brings certificates for TLS.
        creation: Creation options of GDAL's COG driver, over the defaults in `geosegsr.raster.cog_options`.
        stac: Whether to write a STAC item beside the result, under its name with .json.
        acquired: Acquisition time of the scene, for the item: RFC 3339, or two times with a slash between them; by
            default what its tags say.
        overwrite: Whether to replace a file that this call did not make, once the new one is verified. Together with
            `resume=False`, a finished result of this call is made anew, too.
        resume: Whether to resume an unfinished run of the same source, model and options; if not, it is discarded.
        progress: Called at the start of each stage, and after each tile and block, one call at a time, from any thread.
        uncertainty: A second COG to write: the standard deviation over the eight members of the ensemble, float32 in DN,
            NaN where there is no data. Needs `ensemble=True`.
        scratch: Folder in which a result for an object store is made, and found again by a call that resumes; by default
            one of this user in the system's temporary folder. Or a prefix of an object store, such as s3://BUCKET/PREFIX,
            for blocks and all that a run needs to be resumed; by default beside a result in a store if there is a
            scheduler, and otherwise in the folder.
        **options: See `geosegsr.pipeline.options.PlanOptions`.

    Returns:
        What was done, and where the result is.

    Raises:
        GeoSegSRError: What could not be done. No file is left under the target's name that looks finished.
    """
    request = Request(
        scale, model, options, creation, stac, acquired, overwrite, resume,
        elsewhere=scheduler is not None, staging=Staging.at(scratch),
    )  # fmt: skip
    check_scratch([Path(dst)], scratch)
    target = staged(dst, request.staging)
    beside = None if uncertainty is None else staged(uncertainty, request.staging)
    with (
        temporary_folder(target.parent),
        open_engine(workers, scheduler) as engine,
        stages_told(progress),
    ):
        task = request.prepare(str(src), target, beside)
        return carry_out(task, engine, progress)
