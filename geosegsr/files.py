"""Paths as users give them, files that are written completely or not at all, and a temporary folder.

pathlib raises an error where a path is too long, contains a loop of links or a folder without permission; which ones
depends on the version of Python. The functions of os.path return False instead, and `check_path` gives the reason.
"""

from __future__ import annotations

import codecs
import errno
import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os.path import exists as exists
from os.path import isdir as is_folder
from os.path import isfile as is_file
from pathlib import Path
from typing import IO, Any

from geosegsr.errors import SceneError

__all__ = [
    "JOB_SUFFIX", "check_path", "decoded", "exists", "has_locks", "is_file", "is_folder", "is_remote", "is_same", "move_new",
    "read_json", "real_path", "temporary_folder", "whole_file",
]  # fmt: skip

JOB_SUFFIX = ".geosegsr"
"""Of the folder beside a target that holds the blocks of an unfinished run."""


def is_remote(path: str) -> bool:
    """Whether a path is a URL or belongs to one of GDAL's virtual file systems."""
    return "://" in path or path.startswith("/vsi")


def real_path(path: str | Path) -> str:
    """The path with all links resolved, as far as possible."""
    return str(path) if "\0" in str(path) else os.path.realpath(path)


def is_same(one: str | Path, other: str | Path) -> bool:
    """Whether two paths name the same file, whether or not it exists."""
    return real_path(one) == real_path(other)


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        OSError: It cannot be read.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_place(path: Path, what: str) -> None:
    """Refuse a place where no file can be written.

    Args:
        path: Of the file.
        what: What it is, for the message: "report", "preview".

    Raises:
        SceneError: It is a folder, or there is no folder for it.
    """
    # Path.is_dir raises where a folder may not be entered.
    if is_folder(path) or not is_folder(path.parent):  # noqa: PTH112
        raise SceneError(
            f"Cannot write the {what} '{path}': it is a folder, or its folder does not exist. Pass a file's name."
        )


def check_path(path: str | Path, verb: str = "open") -> None:
    """Refuse a path that cannot be resolved, or that GDAL cannot receive; the file need not exist.

    Args:
        path: A local path or anything GDAL opens.
        verb: What the caller wants to do with it, for the message.

    Raises:
        SceneError: A name is too long, not UTF-8 or begins with ~, it is that of a pipe, links form a loop, or a folder
            may not be entered.
    """
    name = str(path)
    _check_encoding(name, verb)
    home = os.path.expanduser(name)  # noqa: PTH111 - a name that is no path stays as it is
    if home != name and not exists(name.partition("/")[0]):  # noqa: PTH110
        raise SceneError(f"Cannot {verb} '{name}': nothing has replaced its '~'. Pass '{home}'.")
    if "\0" not in name and (is_remote(name) or name.startswith("<")):  # a whole VRT in place of its path
        return
    try:
        mode = os.stat(name).st_mode  # noqa: PTH116 - to Path, '' is this folder
    except (FileNotFoundError, NotADirectoryError):
        return  # reported where the file is needed
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        too_long = getattr(error, "errno", None) == errno.ENAMETOOLONG
        needed = "Pass a shorter name" if too_long else "Check the path"
        raise SceneError(f"Cannot {verb} '{name}': {reason}. {needed}.") from error
    if verb == "open" and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        raise SceneError(
            f"Cannot open '{name}': it is a pipe, and rasters are read in any order. Write it to a file first."
        )


def _check_encoding(name: str, verb: str) -> None:
    """Refuse a path that GDAL, which takes UTF-8 only, would look for under another name."""
    of_python = sys.getfilesystemencoding()
    if name.isascii():
        return
    try:
        os.fsencode(name).decode()
    except UnicodeError as error:
        shown = name.encode(errors="backslashreplace").decode()
        raise SceneError(f"Cannot {verb} '{shown}': its path is not UTF-8. Rename it.") from error
    if codecs.lookup(of_python).name != "utf-8":
        shown = os.fsencode(name).decode()
        raise SceneError(
            f"Cannot {verb} '{shown}': its path is UTF-8, but the locale of this process says {of_python}. "
            "Set the environment variable PYTHONUTF8=1, and repeat the command."
        )


def decoded(content: bytes) -> str:
    """Text of a file in UTF-8, or in UTF-16 with its mark, as editors on Windows write it.

    Raises:
        UnicodeDecodeError: It is neither.
    """
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_wide else "utf-8-sig")


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
def whole_file(path: Path, *, sync: bool = False, replace: bool = True) -> Iterator[IO[bytes]]:
    """Open a file for writing under a temporary name; rename it when the block succeeds, and delete it otherwise.

    Args:
        path: Final name.
        sync: Whether to flush the bytes to the disk before renaming, so that the file survives a power cut.
        replace: Whether to replace an existing file.

    Raises:
        OSError: The file could not be written; an existing one is unchanged.
    """
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    made = part.open("xb")  # a file of that name is not ours, and is neither written nor deleted
    try:
        with made as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        if replace:
            part.replace(path)
        else:
            move_new(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def move_new(part: Path, target: Path) -> None:
    """Move a file to a name that is free, whoever else creates a file of that name meanwhile.

    Raises:
        FileExistsError: The name is taken; both files are unchanged.
        OSError: The file cannot be moved.
    """
    try:
        os.link(part, target)
    except FileExistsError:
        if not os.path.samestat(part.stat(), target.lstat()):  # NFS can report its own success so
            raise
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        os.replace(part, target)
        return
    part.unlink()


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where there is none."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def temporary_folder(beside: Path | None = None) -> Iterator[None]:
    """Ensure that this process, and those it starts, have a temporary folder.

    Usually this is TMPDIR or /tmp, as Python finds it. In a container that can write only to the folder of its results, it
    is a folder in there, deleted at the end.

    Args:
        beside: Folder of the results.

    Raises:
        SceneError: No temporary folder is writable, and `beside` is None.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        if beside is None:
            raise SceneError(
                "Cannot write temporary files: none of the system's temporary folders is writable. "
                "Set TMPDIR to a folder that is."
            ) from error
    else:
        yield
        return
    if not os.access(beside, os.W_OK):
        yield  # results cannot be written there either; whoever writes them reports it
        return
    with _folder_in(beside) as folder:
        kept = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = folder
        try:
            yield
        finally:
            os.environ.pop("TMPDIR")
            if kept is not None:
                os.environ["TMPDIR"] = kept
            tempfile.tempdir = None  # what Python found is about to go


@contextmanager
def _folder_in(parent: Path) -> Iterator[str]:
    """A new folder of this user alone. What it holds is deleted at the end, but nothing that has taken its name."""
    folder = tempfile.mkdtemp(prefix="geosegsr-tmp-", dir=parent)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield folder
    finally:
        for name in os.listdir(descriptor):  # noqa: PTH208 - of the folder itself, not of what has its name
            shutil.rmtree(name, ignore_errors=True, dir_fd=descriptor)
            with suppress(OSError):
                os.unlink(name, dir_fd=descriptor)
        os.close(descriptor)
        with suppress(OSError):
            Path(folder).rmdir()  # only if it is empty
