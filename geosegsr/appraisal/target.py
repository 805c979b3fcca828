"""Where a report may be written. It loads neither torch nor rasterio, so that it can be asked before any work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geosegsr.errors import JobError, SceneError
from geosegsr.files import is_folder, is_same

GENERATOR = '<meta name="generator" content="geosegsr report">'
"""By this line a page of ours is known."""


def check_report_path(path: Path, read: Sequence[str | Path], *, overwrite: bool = False) -> None:
    """Refuse a report that would replace what is no report, or one of the rasters.

    Raises:
        JobError: It would.
        SceneError: There is no folder for it.
    """
    if any(is_same(path, file) for file in read):
        raise JobError(
            f"Cannot write the report '{path}': it is one of the rasters. Pass another name, such as report.html."
        )
    if is_folder(path) or not is_folder(path.parent):
        raise SceneError(
            f"Cannot write the report '{path}': it is a folder, or its folder does not exist. Pass a file's name."
        )
    if path.exists() and not overwrite and not is_ours(path):
        raise JobError(
            f"Cannot write the report '{path}': another file has that name. Pass --overwrite, or another name."
        )


def is_ours(path: Path) -> bool:
    """Whether a file is a report that this module made."""
    try:
        with path.open("rb") as file:
            return GENERATOR.encode() in file.read(1000)
    except OSError:
        return False
