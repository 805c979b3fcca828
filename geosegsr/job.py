"""A run on disk: what it is, which blocks are done, and who is at work on it.

result.tif.geosegsr/        beside the target, gone when the target stands
lock                    held by the running process; the system lets go of it however that ends
manifest.json           what this run is: source, model, options
done.jsonl              one line a finished block: file, size, checksum
blocks/000000.tif ...   written under another name and moved into place
verified                the target was complete and about to be moved into place
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from geosegsr.atomic import whole_file
from geosegsr.bandstats import BandStatistics
from geosegsr.errors import JobError, SceneError

log = logging.getLogger("geosegsr")


@dataclass(frozen=True)
class BlockRecord:
    """What is known of a finished block."""

    index: int
    """Its position in the grid."""
    size: int
    """Bytes of its file."""
    sha256: str
    """Of its file."""
    checksum: int
    """Of its pixels; see cog.pixel_checksum."""
    valid: tuple[int, ...]
    """Valid output pixels of each image band."""
    statistics: tuple[BandStatistics, ...]
    """Of each image band's output pixels."""
    tiles: int
    """Tiles computed for it."""
    empty: int
    """Tiles skipped for it."""
    seconds: dict[str, float]
    """Time by stage: read, model, blend, write."""


class Job:
    """The folder of one run. Use it as a context manager: it holds the lock while open."""

    def __init__(self, target: Path) -> None:
        """Name the job of a target; nothing is touched yet."""
        self.target = target
        self.folder = target.with_name(target.name + ".geosegsr")
        self.part = self.folder / "result.tif"
        self.done: dict[int, BlockRecord] = {}
        self._lock = FileLock(self.folder / "lock")

    def __enter__(self) -> Job:
        try:
            self.folder.mkdir(exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise JobError(
                f"Cannot write '{self.target}': another run is writing it now. Wait for it, or pass another -o."
            ) from error
        except OSError as error:
            raise SceneError(
                f"Cannot write '{self.target}': its folder cannot be written ({error.strerror or error}). "
                "Pass -o in a folder that you may write."
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not any(self.blocks.glob("*.tif")):
            self.remove()  # nothing in it is worth going on with
        self._lock.release()

    @property
    def blocks(self) -> Path:
        """Folder of the block files."""
        return self.folder / "blocks"

    def block_path(self, index: int) -> Path:
        return block_path(self.folder, index)

    def start(self, identity: Mapping[str, Any], *, resume: bool) -> None:
        """Take up the run that is there, or begin one.

        Args:
            identity: JSON of all that decides the pixels: source, model, options.
            resume: Whether to go on with finished blocks; if not, they are discarded.

        Raises:
            JobError: The folder holds a run of another identity.
        """
        manifest = self.folder / "manifest.json"
        wanted = json.loads(json.dumps(identity))
        with self._writing():
            if not resume:
                self._discard()
            elif manifest.exists():
                self._refuse_other(_read_json(manifest), wanted)
                self._take_up()
            self.blocks.mkdir(exist_ok=True)
            if not manifest.exists():
                with whole_file(manifest) as file:
                    file.write(json.dumps({**wanted, "key": job_key(wanted)}, indent=1).encode())

    def finished_before(self, identity: Mapping[str, Any]) -> bool:
        """Whether an earlier run of the same identity put its target in place but could not clean up."""
        found = _read_json(self.folder / "manifest.json")
        same = found.get("key") == job_key(json.loads(json.dumps(identity)))
        return (
            same and (self.folder / "verified").exists() and not self.part.exists() and self.target.exists()
        )

    def record(self, record: BlockRecord) -> None:
        """Note that a block is done."""
        with self._writing(), (self.folder / "done.jsonl").open("a") as journal:
            journal.write(json.dumps(asdict(record)) + "\n")
        self.done[record.index] = record

    def commit(self) -> None:
        """Move the verified result into place and clear the job away."""
        with self._writing():
            (self.folder / "verified").touch()
            os.replace(self.part, self.target)
        _sync_folder(self.target.parent)
        self.remove()

    def remove(self) -> None:
        """Delete the folder; the lock is let go of first, for systems that delete no open file."""
        self._lock.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SceneError(
                f"Cannot write to '{self.folder}': {error.strerror or error}. The finished blocks are kept: make "
                "room or mend the cause, and give the same command again."
            ) from error

    def _discard(self) -> None:
        for entry in self.folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != "lock":
                entry.unlink()

    def _refuse_other(self, found: dict[str, Any], wanted: dict[str, Any]) -> None:
        if found.get("key") == job_key(wanted):
            return
        keys = sorted(k for k in {*found, *wanted} - {"key"} if found.get(k) != wanted.get(k))
        changes = [f"{k} was {_short(found.get(k))}, now {_short(wanted.get(k))}" for k in keys]
        changed = "; ".join(changes) if "key" in found else ""
        raise JobError(
            f"Cannot go on with the unfinished run in '{self.folder}': {changed or 'its manifest is damaged'}. "
            "Give the command as it was then, or pass --no-resume to discard it and start again."
        )

    def _take_up(self) -> None:
        """Find the blocks whose files are whole."""
        for line in _lines(self.folder / "done.jsonl"):
            try:
                raw = json.loads(line)
                statistics = tuple(BandStatistics(**band) for band in raw["statistics"])
                record = BlockRecord(**{**raw, "valid": tuple(raw["valid"]), "statistics": statistics})
            except (ValueError, TypeError, KeyError):
                continue  # the last line of a killed run may be torn; its block is computed again
            self.done[record.index] = record
        for index, record in list(self.done.items()):
            if not _is_whole(self.block_path(index), record):
                log.warning("block %d of the earlier run is missing or damaged: computed again", index)
                del self.done[index]
        kept = "".join(json.dumps(asdict(record)) + "\n" for record in self.done.values())
        with whole_file(self.folder / "done.jsonl") as file:
            file.write(kept.encode())


def block_path(folder: Path, index: int) -> Path:
    """Where a block's file lies in a job's folder."""
    return folder / "blocks" / f"{index:06d}.tif"


def job_key(identity: Mapping[str, Any]) -> str:
    """SHA-256 of what decides the pixels."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def source_identity(path: str) -> dict[str, Any]:
    """What a file is known by: its path and, for a local one, its size and time of change."""
    local = Path(path)
    if not local.exists():
        return {"path": path}
    status = local.stat()
    return {"path": str(local.resolve()), "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _is_whole(path: Path, record: BlockRecord) -> bool:
    if not path.exists() or path.stat().st_size != record.size:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == record.sha256


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


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
