"""A temporary folder for what a run keeps for a while: Dask, torch and this package look for the system's."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geosegsr.errors import SceneError


@contextmanager
def temporary_folder(beside: Path | None = None) -> Iterator[None]:
    """See to it that this process, and those it starts, have a temporary folder.

    That is TMPDIR, /tmp or their like, as Python finds them. In a container that may write nowhere but where its
    results go, it is a folder there, gone at the end.

    Args:
        beside: Where results go.

    Raises:
        SceneError: No temporary folder can be written, and there is no `beside`.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        if beside is None:
            raise SceneError(
                "Cannot keep temporary files: none of the system's temporary folders can be written. "
                "Set TMPDIR to a folder that can."
            ) from error
    else:
        yield
        return
    if not os.access(beside, os.W_OK):
        yield  # no result can be written there either, which others say better
        return
    with tempfile.TemporaryDirectory(
        prefix="geosegsr-tmp-", dir=beside, ignore_cleanup_errors=True
    ) as folder:
        kept = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = folder
        try:
            yield
        finally:
            os.environ.pop("TMPDIR")
            if kept is not None:
                os.environ["TMPDIR"] = kept
            tempfile.tempdir = None  # what Python found is about to go
