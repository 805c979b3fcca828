"""Where a report may be written. It loads neither torch nor rasterio, so that it can be asked before any work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geosegsr.errors import JobError
from geosegsr.files import check_place, is_same

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
    check_place(path, "report")
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
