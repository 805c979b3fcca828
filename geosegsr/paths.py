"""Paths as users give them.

pathlib raises where a path is too long, leads in circles or through a closed folder (which differs between versions of
Python); of one scene among many, os.path's plain "no" is wanted, and `check_path` for the reason.
"""

from __future__ import annotations

import os
from os.path import exists as exists
from os.path import isdir as is_folder
from os.path import isfile as is_file
from pathlib import Path

from geosegsr.errors import SceneError

__all__ = ["check_path", "exists", "is_file", "is_folder", "is_remote", "is_same", "real_path"]


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
