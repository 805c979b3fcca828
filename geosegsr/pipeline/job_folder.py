"""A job's folder on disk: created for its owner alone, recognised before it is used, and cleared of our files only.

Whoever may write beside a target can put a link or another folder under the job's name at any moment. So the folder is
opened once and checked, and everything after that happens inside the folder that was opened, wherever its name leads
by then. The threat model is in docs/reliability.md.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_IMODE, S_ISDIR, S_ISLNK, S_IWGRP, S_IWOTH, S_IXGRP, S_IXOTH
from typing import Any

from geosegsr.errors import GeoSegSRError, JobError
from geosegsr.files import read_json, whole_file
from geosegsr.notices import warn
from geosegsr.raster.cog_block import is_block

IMAGE, UNCERTAINTY = "image", "uncertainty"
"""Kinds of files: the upscaled scene, or the standard deviation over an ensemble; `band_kind` names those of one band."""
MANIFEST, JOURNAL, LOCK, BLOCKS = "manifest.json", "done.jsonl", "lock", "blocks"

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_OTHERS_WRITE, _OTHERS_ENTER = S_IWGRP | S_IWOTH, S_IXGRP | S_IXOTH
_PART = r"(\.[0-9a-f]+\.part)?"  # of files.whole_file
_RESULTS = r"result(-[0-9a-f]{8})?[._][a-z0-9._]+"  # and what GDAL writes beside a COG in the making
_NAMES = re.compile(
    rf"{LOCK}|({re.escape(MANIFEST)}|{re.escape(JOURNAL)}){_PART}|{_RESULTS}|run-[0-9a-f]{{12}}(-[0-9a-f]{{8}})?"
)
_BAND = "band"
_BLOCK_NAMES = re.compile(rf"\d{{6,}}(\.({UNCERTAINTY}|{_BAND}\d+))?\.tif{_PART}|result\.vrt")
_FILE_SYSTEMS_OWN = re.compile(r"\.nfs[0-9a-f]+")  # a deleted file that some process still has open
_SHOWN = 3


def block_path(folder: Path, index: int, kind: str = IMAGE) -> Path:
    """The path of a block's file in a job's folder."""
    return folder / BLOCKS / f"{index:06d}{suffix_of(kind)}"


def suffix_of(kind: str) -> str:
    """The end of the names of a kind of files."""
    return ".tif" if kind == IMAGE else f".{kind}.tif"


def band_kind(number: int) -> str:
    """The kind of files that hold one band, by its 1-based number in the output."""
    return f"{_BAND}{number}"


def job_key(identity: Mapping[str, Any]) -> str:
    """SHA-256 of everything that decides the pixels."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


class JobFolder:
    """The folder of one run, by its name until it is opened, and by its descriptor after that."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.inside = path
        """Leads to the opened folder itself on Linux; elsewhere it is the folder's name, checked by `check_same`."""
        self._descriptor: int | None = None
        self._lock: int | None = None

    @property
    def manifest(self) -> dict[str, Any]:
        """What manifest.json holds; empty where it is missing or damaged."""
        return read_json(self.inside / MANIFEST)

    @property
    def has_manifest(self) -> bool:
        """Whether manifest.json is one that a run wrote."""
        found = self.manifest
        return bool(found.pop("key", None) == job_key(found))

    def open(self, *, create: bool = False) -> None:
        """Open the folder and refuse one in which other users could have written.

        Args:
            create: Whether to create it where there is none.

        Raises:
            JobError: It is a link or a file, or other users own it or may write in it.
            OSError: There is none, or it cannot be created.
        """
        if create:
            with suppress(FileExistsError):
                self.path.mkdir(mode=0o700)
        try:
            self._descriptor = os.open(self.path, _OPEN)
        except OSError as error:
            raise self._not_opened(error) from error
        through = Path(f"/proc/self/fd/{self._descriptor}")
        self.inside = through if through.exists() else self.path
        try:
            self._check_access(os.fstat(self._descriptor))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Unlock and close the folder; from now on it is what has its name."""
        for descriptor in (self._lock, self._descriptor):
            if descriptor is not None:
                os.close(descriptor)
        self._lock, self._descriptor, self.inside = None, None, self.path

    def lock(self) -> None:
        """Lock the opened folder until it is closed or the process ends, however that ends.

        Not by filelock, which resolves the path and creates missing folders.

        Raises:
            BlockingIOError: Another process has locked it.
            OSError: The lock cannot be created.
        """
        self._lock = os.open(self.inside / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):  # the former on some network drives
                raise BlockingIOError(error.errno, error.strerror) from error
            raise

    def check_content(self) -> None:
        """Refuse an opened folder that holds anything but the files of a run.

        Raises:
            JobError: It does. Nothing was touched.
        """
        strangers = self._strangers()
        if strangers:
            raise self._refused(
                f"it holds {_shown(strangers)}, which no run wrote",
                f"Move {'it' if len(strangers) == 1 else 'them'} elsewhere, or pass another -o.",
            )
        if not (self.has_manifest or self._is_bare() or self._has_blocks()):
            raise self._refused(
                "it holds no manifest of a run", "Move the folder elsewhere, or pass another -o."
            )

    def check_block(self, index: int, kind: str) -> None:
        """Refuse to write a block over a file that is none, or through a link.

        Raises:
            JobError: There is one.
        """
        file = block_path(self.inside, index, kind)
        if file.parent.is_symlink() or (os.path.lexists(file) and not is_block(file)):
            raise self._refused(
                f"'{BLOCKS}/{file.name}' in it is no block of a run", "Move it elsewhere, or pass another -o."
            )

    def check_same(self) -> None:
        """Refuse to go on where the folder's name has come to lead elsewhere.

        Raises:
            JobError: The folder was moved or replaced since it was opened.
        """
        if not self._is_same():
            raise self._refused(
                "it was moved or replaced while it was in use", "Move it back, and repeat the same command."
            )

    def clear(self) -> None:
        """Delete what a run wrote, except for the lock: the journal first and the manifest last.

        Until the end the folder can be recognised, and no record outlives its block.

        Raises:
            OSError: A file could not be deleted.
        """
        (self.inside / JOURNAL).unlink(missing_ok=True)
        for file in self._files(self.inside / BLOCKS, _BLOCK_NAMES):
            file.unlink()
        for file in self._files(self.inside, _NAMES):
            if file.name not in (LOCK, MANIFEST):
                file.unlink()
        (self.inside / MANIFEST).unlink(missing_ok=True)

    def remove(self) -> None:
        """Delete what a run wrote, and the folder if nothing else is in it. Failures leave files behind."""
        with suppress(OSError):
            self.clear()
            (self.inside / LOCK).unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                (self.inside / BLOCKS).rmdir()
            if self._is_same():
                self.path.rmdir()  # refused by the system unless it is empty
            return
        with suppress(OSError):
            if strangers := self._strangers():
                warn(f"'{self.path}' is kept: it holds {_shown(strangers)}, which no run wrote")

    def clear_all_but(self, blocks: Collection[str]) -> None:
        """Delete results in the making, and all block files but those with these names.

        Raises:
            OSError: A file could not be deleted.
        """
        for file in self._files(self.inside, re.compile(_RESULTS)):
            file.unlink()
        for file in self._files(self.inside / BLOCKS, _BLOCK_NAMES):
            if file.name not in blocks:
                file.unlink()

    @contextmanager
    def named(self) -> Iterator[None]:
        """Have errors say the folder's name instead of the path through its descriptor."""
        try:
            yield
        except GeoSegSRError as error:
            raise type(error)(str(error).replace(str(self.inside), str(self.path))) from error

    def _not_opened(self, error: OSError) -> Exception:
        """Why the folder could not be opened."""
        another = "Move it elsewhere, or pass another -o."
        try:
            status = self.path.lstat()
        except OSError:
            return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))
        if S_ISLNK(status.st_mode):
            return self._refused("it is a symbolic link", another)
        if not S_ISDIR(status.st_mode):
            return self._refused("it is no folder", another)
        return self._foreign(status) or self._refused(f"it cannot be opened ({error.strerror})", another)

    def _check_access(self, status: os.stat_result) -> None:
        refusal = self._foreign(status)
        if refusal is not None and not self._is_usual(status):
            raise refusal

    def _foreign(self, status: os.stat_result) -> JobError | None:
        """The refusal of a folder whose blocks other users could have forged."""
        if status.st_uid != os.geteuid():
            return self._refused(
                f"it belongs to another user, number {status.st_uid}",
                "Have that user remove it, or pass another -o.",
            )
        if status.st_mode & _OTHERS_WRITE:
            return self._refused(
                f"other users may write in it (mode {S_IMODE(status.st_mode):o}), and could have changed its blocks",
                f"Remove it, or type chmod 700 '{self.path}' if you trust them.",
            )
        return None

    def _is_usual(self, status: os.stat_result) -> bool:
        """Whether a new folder gets this owner and mode too, as on file systems that know neither."""
        try:
            probe = Path(tempfile.mkdtemp(prefix=".geosegsr-", dir=self.path.parent))
        except OSError:
            return False
        usual = probe.lstat()
        probe.rmdir()
        return (usual.st_uid, S_IMODE(usual.st_mode)) == (status.st_uid, S_IMODE(status.st_mode))

    def _is_same(self) -> bool:
        if self._descriptor is None:
            return True
        with suppress(OSError):
            return os.path.samestat(self.path.lstat(), os.fstat(self._descriptor))
        return False

    def _strangers(self) -> list[str]:
        """Names in the folder that no run gives its files, and files that other users could have written."""
        found = []
        for entry in _entries(self.inside):
            if entry.name == BLOCKS and entry.is_dir(follow_symlinks=False):
                inner = _entries(self.inside / BLOCKS)
                found += [f"{BLOCKS}/{block.name}" for block in inner if not self._fits(block, _BLOCK_NAMES)]
                found += [BLOCKS] if self._is_open_to_others(entry) else []
            elif not self._fits(entry, _NAMES):
                found.append(entry.name)
        return sorted(found)

    def _fits(self, entry: os.DirEntry[str], names: re.Pattern[str]) -> bool:
        if _FILE_SYSTEMS_OWN.fullmatch(entry.name):
            return True
        is_ours = entry.is_file(follow_symlinks=False) and names.fullmatch(entry.name) is not None
        return is_ours and not self._is_open_to_others(entry)

    def _is_open_to_others(self, entry: os.DirEntry[str]) -> bool:
        """Whether other users can come to an entry and write to it; in a folder of ours alone they cannot."""
        if self._descriptor is None or not os.fstat(self._descriptor).st_mode & _OTHERS_ENTER:
            return False
        with suppress(FileNotFoundError):  # another run has just deleted it
            return self._foreign(entry.stat(follow_symlinks=False)) is not None
        return False

    def _is_bare(self) -> bool:
        """Whether the folder is as a run leaves it that ended before it wrote its manifest."""
        begun = re.compile(rf"{LOCK}|{BLOCKS}|{re.escape(MANIFEST)}\.[0-9a-f]{{8}}\.part")
        lock = self.inside / LOCK
        return (
            all(begun.fullmatch(entry.name) for entry in _entries(self.inside))
            and not list(_entries(self.inside / BLOCKS))
            and (not lock.exists() or lock.stat().st_size == 0)
        )

    def _has_blocks(self) -> bool:
        """Whether there are block files, and all of them are a run's."""
        files = [file for file in self._files(self.inside / BLOCKS, _BLOCK_NAMES) if file.suffix == ".tif"]
        return bool(files) and all(map(is_block, files))

    def _files(self, folder: Path, names: re.Pattern[str]) -> list[Path]:
        return [
            folder / entry.name
            for entry in _entries(folder)
            if names.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
        ]

    def _refused(self, found: str, remedy: str) -> JobError:
        return JobError(
            f"Cannot use the job folder '{self.path}': {found}. Nothing in it was touched. {remedy}"
        )


def write_block(path: Path, index: int, kind: str, data: bytes) -> None:
    """Write a block's file in any process that sees the job's folder; the folder is opened and checked each time.

    Raises:
        JobError: Other users could write there, or what has the block's name is no block.
        OSError: There is no such folder, or it cannot be written.
    """
    folder = JobFolder(path)
    folder.open()
    try:
        folder.check_block(index, kind)
        with whole_file(block_path(folder.inside, index, kind)) as file:
            file.write(data)
    finally:
        folder.close()


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What is in a folder; nothing if there is none."""
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    with entries:
        yield from entries


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(f"'{name}'" for name in names[:_SHOWN]) + more
