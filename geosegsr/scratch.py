"""Where files go that are gone again before the run ends."""

from __future__ import annotations

import tempfile
from pathlib import Path

from geosegsr.errors import SceneError


def scratch_folder(beside: Path | None = None) -> Path:
    """The system's temporary folder (TMPDIR, else /tmp and its like), or `beside` where none can be written.

    A container often has no writable folder but the one for results.

    Raises:
        SceneError: No temporary folder can be written, and there is no `beside`.
    """
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        if beside is not None:
            return beside
        raise SceneError(
            "Cannot keep temporary files: none of the system's temporary folders can be written. "
            "Set TMPDIR to a folder that can."
        ) from error
