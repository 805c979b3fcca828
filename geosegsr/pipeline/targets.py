"""What may be written where: checks of a run's targets, and the STAC item beside them."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from geosegsr.errors import ConfigError, JobError, SceneError
from geosegsr.files import check_path, exists, is_same
from geosegsr.pipeline.job import Job


def wanted_item(
    target: Path, src: str, *, stac: bool, taken: str | None, spread: str | Path | None = None
) -> Callable[[], Path] | None:
    """What writes the STAC item of a result that stands, and returns its path; None where none is wanted.

    Raises:
        ConfigError: The time is none.
        JobError: The item would replace what is not its own, or its name is too long.
    """
    if not stac:
        if taken is not None:
            raise ConfigError("Cannot use --datetime without an item to put it in: pass --stac as well.")
        return None
    from geosegsr.raster.stac import Taken, check_item_path, write_item

    check_item_path(target, src, None if spread is None else Path(spread))
    return partial(write_item, target, src, None if taken is None else Taken.parse(taken), spread)


def has_item(target: Path) -> bool:
    """Whether the item beside a result is that of this very file."""
    if not (target.exists() and target.with_suffix(".json").exists()):
        return False
    from geosegsr.raster.stac import describes

    return describes(target)


def check_target(target: Path, src: str) -> None:
    """Refuse a target that cannot be written, whatever the run.

    Raises:
        SceneError: A folder, or in a folder that does not exist or may not be written; a path that cannot be followed.
        JobError: The source itself.
    """
    check_paths(target, src)
    if target.is_dir():
        raise SceneError(f"Cannot write '{target}': it is a folder. Pass -o with a file's name in it.")
    if target.exists() and not target.is_file():
        raise SceneError(f"Cannot write '{target}': it is a device or a pipe. Pass -o with a file's name.")
    if not target.parent.is_dir():
        raise SceneError(
            f"Cannot write '{target}': its folder does not exist. Create it first: mkdir -p '{target.parent}'."
        )
    if exists(src) and target.exists() and target.samefile(src):
        raise JobError(f"Cannot write '{target}': it is the source itself. Pass another -o.")
    if not os.access(target.parent, os.W_OK):
        raise SceneError(
            f"Cannot write '{target}': its folder is read-only. Pass -o in a folder that you may write."
        )


def check_paths(target: Path, src: str) -> None:
    """Refuse what cannot be opened or written because of its name or the way to it.

    Raises:
        SceneError: It is so of the source, the target, or the job's folder, whose name is longer.
    """
    check_path(src)
    check_path(target, "write")
    check_path(Job(target).folder, "write")


def check_beside(target: Path) -> None:
    """Refuse to write beside what GDAL would take for the result's mask, overviews, nodata or place.

    Raises:
        JobError: There is such a file, of an earlier raster of that name.
    """
    for ending in (".aux.xml", ".msk", ".ovr"):
        beside = target.with_name(target.name + ending)
        if beside.exists():
            raise JobError(
                f"Cannot write '{target}': '{beside.name}' beside it belongs to an earlier file of that name, and GDAL "
                f"would take it for a part of this one. Remove it first: rm '{beside}'."
            )


def target_exists(target: Path) -> JobError:
    """The error of a target that is not to be replaced."""
    return JobError(f"Cannot write '{target}': it exists. Pass --overwrite to replace it, or another -o.")


def check_spread_target(spread: Path, target: Path, src: str) -> None:
    """As `check_target`, of the file for the uncertainty.

    Raises:
        ConfigError: It is the target itself, or on another file system.
    """
    check_target(spread, src)
    if is_same(spread, target):
        raise ConfigError(
            f"Cannot write the image and its uncertainty to one file '{target}': pass another --uncertainty."
        )
    if spread.parent.stat().st_dev != target.parent.stat().st_dev:
        raise ConfigError(
            f"Cannot write '{spread}': it is not on the file system of '{target}', so that the two could not appear "
            "together. Pass --uncertainty in the same folder."
        )
