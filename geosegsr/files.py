"""Paths as users give them, files that are written whole or not at all, and a temporary folder.

pathlib raises where a path is too long, leads in circles or through a closed folder (which differs between versions of
Python); of one scene among many, os.path's plain "no" is wanted, and `check_path` for the reason.
"""

from __future__ import annotations

import errno
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from os.path import exists as exists
from os.path import isdir as is_folder
from os.path import isfile as is_file
from pathlib import Path
from typing import IO

from geosegsr.errors import SceneError

__all__ = [
    "JOB_SUFFIX", "check_path", "exists", "has_locks", "is_file", "is_folder", "is_remote", "is_same", "real_path",
    "temporary_folder", "whole_file",
]  # fmt: skip

JOB_SUFFIX = ".geosegsr"
"""Of the folder beside a target that holds the blocks of an unfinished run."""


def is_remote(path: str) -> bool:
    """Whether a path means nothing to this machine's file system: an address, or one of GDAL's own file systems."""
    return "://" in path or path.startswith("/vsi")


def real_path(path: str | Path) -> str:
    """Where a path leads, as far as it can be followed."""
    return str(path) if "\0" in str(path) else os.path.realpath(path)


def is_same(one: str | Path, other: str | Path) -> bool:
    """Whether two paths are of one file, be it there or not."""
    return real_path(one) == real_path(other)


def check_path(path: str | Path, verb: str = "open") -> None:
    """Refuse a path that cannot be followed, or that GDAL cannot be told; there need not be a file.

    Args:
        path: A local path or anything GDAL opens.
        verb: What is to be done with it, for the message.

    Raises:
        SceneError: A name is too long, or not UTF-8; links go in circles; a folder on the way is closed.
    """
    name = str(path)
    try:
        name.encode()
    except UnicodeEncodeError as error:
        shown = name.encode(errors="backslashreplace").decode()
        raise SceneError(f"Cannot {verb} '{shown}': its path is not UTF-8. Rename it.") from error
    try:
        if "\0" in name or not (is_remote(name) or name.startswith("<")):  # a whole VRT in place of its path
            os.stat(name)  # noqa: PTH116 - to Path, '' is this folder
    except (FileNotFoundError, NotADirectoryError):
        pass  # said where the file is needed
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SceneError(
            f"Cannot {verb} '{name}': {reason}. Needed is a path that can be followed; check it."
        ) from error


def has_locks(folder: Path) -> bool:
    """Whether the file system of a folder has locks, which end with the process that holds them.

    A lock file in their place, as filelock falls back to, outlives a killed process on another host.

    Raises:
        OSError: No file can be created in the folder.
    """
    try:
        import fcntl
    except ImportError:  # Windows, where every file system has them
        return True
    with tempfile.TemporaryFile(dir=folder) as probe:
        try:
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
                return False
            raise
    return True


@contextmanager
def whole_file(path: Path, *, sync: bool = False) -> Iterator[IO[bytes]]:
    """A file to write to, moved to its name when the block ends well and deleted when it does not.

    Args:
        path: The name; a file that is there is replaced.
        sync: Whether its bytes must be on the disk before the move, so that it outlives a power cut.

    Raises:
        OSError: It could not be written; what was there is untouched.
    """
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


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
