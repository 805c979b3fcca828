"""A run on disk: its identity, its finished blocks, and its lock.

out.tif.geosegsr/           beside the target, removed once the target is in place; job_folder.py guards it
    lock                    held by the running process; the system releases it however that ends
    manifest.json           identity of the run: source, model, options
    done.jsonl              one line per finished block: file, size, checksum, and a seal that only this run can make
    blocks/000000.tif ...   written under another name, then moved into place; the uncertainty as 000000.uncertainty.tif,
                            and bands that become files of their own as 000000.band1.tif ...
    blocks/result.vrt       the blocks as one raster, of which the COG is made
    result-1a2b3c4d.tif     the COG while it is written and verified, under a name of this process
    run-1a2b3c4d5e6f        lets workers on a cluster check that they see this folder
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from geosegsr.context import begin
from geosegsr.errors import GeoSegSRError, JobError, SceneError
from geosegsr.files import JOB_SUFFIX, has_locks, move_new, sha256_of, whole_file
from geosegsr.notices import warn
from geosegsr.pipeline.job_folder import (
    BLOCKS,
    IMAGE,
    JOURNAL,
    LOCK,
    MANIFEST,
    JobFolder,
    block_path,
    job_key,
    suffix_of,
)
from geosegsr.pipeline.records import BlockRecord, FileRecord


class Job:
    """The folder of one run; as a context manager it holds the lock."""

    def __init__(self, target: Path, targets: Mapping[str, Path] | None = None) -> None:
        """Name a job; no file is touched yet.

        Args:
            target: After which the folder is named.
            targets: The files that the job makes, by their kind; by default `target`, of the kind IMAGE.
        """
        self.target = target
        self.targets = {IMAGE: target} if targets is None else dict(targets)
        self.folder = target.with_name(target.name + JOB_SUFFIX)
        self._opened = JobFolder(self.folder)
        self._token = uuid.uuid4().hex[:8]
        self.done: dict[int, BlockRecord] = {}
        self._seal_key = ""

    def __enter__(self) -> Job:
        try:
            self._enter()
        except BaseException:
            self._opened.close()
            raise
        return self

    def _enter(self) -> None:
        try:
            if not has_locks(self.target.parent):
                raise JobError(
                    f"Cannot write '{self.target}': the file system of its folder has no locks, which keep two runs "
                    "apart. Pass -o on another file system, and move the result."
                )
            self._opened.open(create=True)
            self._opened.check_content()
            self._opened.lock()
            self._opened.check_same()  # a run that has just finished removes its folder
        except BlockingIOError as error:
            raise JobError(
                f"Cannot write '{self.target}': another run is writing it now. Wait for it, or pass another -o."
            ) from error
        except OSError as error:
            raise SceneError(
                f"Cannot write '{self.target}': its folder cannot be written ({error.strerror or error}). "
                "Pass -o in a folder that you may write."
            ) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not any(self.blocks.glob("*.tif")):
            self.remove()  # there is nothing to resume
        self._opened.close()

    @property
    def blocks(self) -> Path:
        """Folder of the block files."""
        return self._inside / BLOCKS

    def block_path(self, index: int, kind: str = IMAGE) -> Path:
        return block_path(self._inside, index, kind)

    @property
    def _inside(self) -> Path:
        """The folder itself while it is open; see `JobFolder.inside`."""
        return self._opened.inside

    def named(self) -> AbstractContextManager[None]:
        """Have errors say the folder's name; see `JobFolder.named`."""
        return self._opened.named()

    def part(self, kind: str = IMAGE) -> Path:
        """The file in which a target is written and verified."""
        return self._inside / f"result-{self._token}{suffix_of(kind)}"

    def start(self, identity: Mapping[str, Any], *, resume: bool) -> None:
        """Resume the run in the folder, or begin one.

        Args:
            identity: JSON of all that decides the pixels: source, model, options.
            resume: Whether to keep finished blocks; if not, they are discarded.

        Raises:
            JobError: The folder holds a run of another identity.
        """
        if resume:
            self.check_identity(identity)
        wanted = json.loads(json.dumps(identity))
        with self._writing():
            if not (resume and self.begun):
                self._opened.clear()  # without its manifest, nobody knows what a block shows
            self._seal_key = job_key(wanted)
            self.blocks.mkdir(exist_ok=True)
            if self.begun:
                begin("checking the blocks of an earlier run")
                self._resume()
                return
            with whole_file(self._inside / MANIFEST, sync=True) as file:
                file.write(json.dumps({**wanted, "key": self._seal_key}, indent=1).encode())

    def check_identity(self, identity: Mapping[str, Any]) -> None:
        """Refuse to resume a run of another source, model or options; nothing is written.

        Raises:
            JobError: The folder holds a run of another identity.
        """
        found = self._opened.manifest
        if not self.begun or found.get("key") == job_key(identity):
            return
        wanted = json.loads(json.dumps(identity))
        keys = sorted(k for k in {*found, *wanted} - {"key"} if found.get(k) != wanted.get(k))
        changes = [f"{k} was {_short(found.get(k))}, now {_short(wanted.get(k))}" for k in keys]
        changed = "; ".join(changes) if "key" in found else ""
        raise JobError(
            f"Cannot resume the unfinished run in '{self.folder}': {changed or 'its manifest is damaged'}. "
            "Repeat the command that began it, or pass --no-resume to discard it and start anew."
        )

    def check_free(self) -> None:
        """Refuse a target that another process is writing; nothing is written.

        Raises:
            JobError: It is so.
        """
        if self.exists() and (self.folder / LOCK).exists():
            with self:
                pass

    def exists(self) -> bool:
        """Whether there is a folder that is a job's, whatever run it holds."""
        try:
            self.check_folder()
        except (GeoSegSRError, OSError):
            return False
        return os.path.lexists(self.folder)

    def check_folder(self) -> None:
        """Refuse what exists under the folder's name and is no job's folder; nothing is written.

        Raises:
            JobError: As `JobFolder.open` and `JobFolder.check_content`.
        """
        if not os.path.lexists(self.folder):
            return
        found = JobFolder(self.folder)
        try:
            found.open()
            found.check_content()
        except FileNotFoundError:
            return  # the run that it belonged to has just ended
        finally:
            found.close()

    def remove_own(self, identity: Mapping[str, Any]) -> None:
        """Delete the folder, unless it holds an unfinished run of another identity."""
        if not self.begun or self._opened.manifest.get("key") == job_key(identity):
            self.remove()

    @property
    def begun(self) -> bool:
        """Whether the folder holds a run, finished or not."""
        return (self._inside / MANIFEST).exists()

    def record(self, record: BlockRecord) -> None:
        """Add a finished block to the journal."""
        with self._writing(), (self._inside / JOURNAL).open("a") as journal:
            journal.write(self._line(record))
        self.done[record.index] = record

    def is_in_cells(self, index: int, kind: str) -> bool:
        """Whether all cells that a file of a block is part of are finished, so that it is not needed any more."""
        others = [other for other, _ in self.done[index].files[kind].pieces]
        return bool(others) and all(other > index and other in self.done for other in others)

    def discard(self, index: int, kind: str) -> None:
        """Delete a file that is not needed any more."""
        with self._writing():
            self.block_path(index, kind).unlink(missing_ok=True)

    def commit(self, may_replace: Callable[[Path], bool], then: Callable[[], object] | None = None) -> None:
        """Move the verified files into place, from the last to the first, call `then`, and delete the folder.

        Args:
            may_replace: Whether a file that exists at a target by now may be replaced.
            then: Called when all files are in place.

        Raises:
            JobError: A file has appeared at a target that may not be replaced, or the folder was replaced by another.
        """
        self._opened.check_same()
        for kind, target in reversed(self.targets.items()):
            with self._writing():
                self._place(self.part(kind), target, may_replace)
                _sync_folder(target.parent)
        if then is not None:
            then()
        self.remove()

    def remove(self) -> None:
        """Delete the run's files, and the folder if nothing else is in it."""
        self._opened.remove()

    def _place(self, part: Path, target: Path, may_replace: Callable[[Path], bool]) -> None:
        if os.path.lexists(target) and may_replace(target):
            os.replace(part, target)
            return
        try:
            move_new(part, target)
        except FileExistsError as error:
            raise JobError(
                f"Cannot write '{target}': a file of that name has appeared since the run began. The finished blocks "
                "are kept. Move that file away, or pass --overwrite to replace it, and repeat the same command."
            ) from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SceneError(
                f"Cannot write to '{self.folder}': {error.strerror or error}. The finished blocks are kept. Free "
                "some space or fix the cause, and repeat the same command."
            ) from error

    def _resume(self) -> None:
        """Load the journal, without the blocks whose files are missing or damaged."""
        for line in _lines(self._inside / JOURNAL):
            record = self._record(line)
            if record is not None:
                self.done[record.index] = record
        for index, record in sorted(
            self.done.items(), reverse=True
        ):  # cells before the blocks they are made of
            files = record.files.items()
            if not all(
                _is_whole(self.block_path(index, kind), file) or self.is_in_cells(index, kind)
                for kind, file in files
            ):
                warn(f"block {index} of the earlier run is missing or damaged, and is computed again")
                del self.done[index]
        kept_files = [
            self.block_path(index, kind).name for index, block in self.done.items() for kind in block.files
        ]
        self._opened.clear_all_but(set(kept_files))
        kept = "".join(self._line(record) for record in self.done.values())
        with whole_file(self._inside / JOURNAL) as file:
            file.write(kept.encode())

    def _line(self, record: BlockRecord) -> str:
        """A line of the journal: the record, and its seal."""
        text = json.dumps(asdict(record))
        return json.dumps({"seal": self._seal(text), "block": text}) + "\n"

    def _record(self, line: str) -> BlockRecord | None:
        """The record on a line of the journal; None if the line is torn or from another run."""
        try:
            entry = json.loads(line)
            if entry["seal"] != self._seal(entry["block"]):
                return None
            raw = json.loads(entry["block"])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        return BlockRecord.from_dict(raw)

    def _seal(self, text: str) -> str:
        return hashlib.sha256(f"{self._seal_key}\n{text}".encode(errors="replace")).hexdigest()[:16]


def _is_whole(path: Path, record: FileRecord) -> bool:
    if not path.exists() or path.stat().st_size != record.size:
        return False
    return sha256_of(path) == record.sha256


def _lines(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines() if path.exists() else []


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _sync_folder(folder: Path) -> None:
    """Make the rename survive a power cut, where the system can open folders."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
