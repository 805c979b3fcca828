"""A run on disk: its identity, its finished blocks, and its lock.

out.tif.geosegsr/           beside the target, removed once the target is in place
    lock                    held by the running process; the system releases it however that ends
    manifest.json           identity of the run: source, model, options
    done.jsonl              one line per finished block: file, size, checksum, and a seal that only this run can make
    blocks/000000.tif ...   written under another name, then moved into place; the uncertainty as 000000.uncertainty.tif
    blocks/result.vrt       the blocks as one raster, of which the COG is made
    result-1a2b3c4d.tif     the COG while it is written and verified, under a name of this process
    run-1a2b3c4d5e6f        lets workers on a cluster check that they see this folder
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from geosegsr.errors import JobError, SceneError
from geosegsr.files import JOB_SUFFIX, exists, has_locks, is_file, whole_file
from geosegsr.notices import warn
from geosegsr.raster.statistics import BandStatistics
from geosegsr.sensor.consistency import Residual

_PAGE = 4096  # bytes of a source's content sampled in one place
_SAMPLED_PAGES = 64  # of all its files together
IMAGE, UNCERTAINTY = "image", "uncertainty"
"""Kinds of files: the upscaled scene, or the standard deviation over an ensemble."""


@dataclass(frozen=True)
class FileRecord:
    """What is known about a block's file."""

    size: int
    """Its bytes."""
    sha256: str
    """Of all of it."""
    checksum: int
    """Of its pixels; see cog.pixel_checksum."""
    valid: tuple[int, ...]
    """Valid output pixels of each image band."""
    statistics: tuple[BandStatistics, ...]
    """Of each image band's output pixels."""

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> FileRecord:
        """The inverse of `dataclasses.asdict`, after a round trip through JSON."""
        statistics = tuple(BandStatistics(**band) for band in raw["statistics"])
        return cls(**{**raw, "valid": tuple(raw["valid"]), "statistics": statistics})


@dataclass(frozen=True)
class BlockRecord:
    """What is known about a finished block."""

    index: int
    """Its position in the grid."""
    files: dict[str, FileRecord]
    """Of the image, and of the uncertainty where that is asked for."""
    residuals: tuple[Residual, ...]
    """Difference of each image band, downsampled, from the input; empty where the sensor is unknown."""
    tiles: int
    """Tiles computed for it."""
    empty: int
    """Tiles skipped for it."""
    seconds: dict[str, float]
    """Time by stage: read, model, blend, consistency, write."""

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> BlockRecord:
        """The inverse of `dataclasses.asdict`, after a round trip through JSON."""
        files = {kind: FileRecord.from_dict(file) for kind, file in raw["files"].items()}
        residuals = tuple(Residual(**band) for band in raw["residuals"])
        return cls(**{**raw, "files": files, "residuals": residuals})


class Job:
    """The folder of one run; as a context manager it holds the lock."""

    def __init__(self, target: Path, uncertainty_target: Path | None = None) -> None:
        """Name the job of a target and its uncertainty; no file is touched yet."""
        self.target = target
        self.targets = {IMAGE: target} | (
            {} if uncertainty_target is None else {UNCERTAINTY: uncertainty_target}
        )
        self.folder = target.with_name(target.name + JOB_SUFFIX)
        self._token = uuid.uuid4().hex[:8]
        self.done: dict[int, BlockRecord] = {}
        self._seal_key = ""
        self._lock = FileLock(self.folder / "lock")

    def __enter__(self) -> Job:
        try:
            if not has_locks(self.target.parent):
                raise JobError(
                    f"Cannot write '{self.target}': the file system of its folder has no locks, which keep two runs "
                    "apart. Pass -o on another file system, and move the result."
                )
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
            self.remove()  # there is nothing to resume
        self._lock.release()

    @property
    def blocks(self) -> Path:
        """Folder of the block files."""
        return self.folder / "blocks"

    def block_path(self, index: int, kind: str = IMAGE) -> Path:
        return block_path(self.folder, index, kind)

    def part(self, kind: str = IMAGE) -> Path:
        """The file in which a target is written and verified."""
        return self.folder / f"result-{self._token}{_suffix(kind)}"

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
        manifest = self.folder / "manifest.json"
        wanted = json.loads(json.dumps(identity))
        with self._writing():
            if not (resume and self.begun):
                self._discard()  # without its manifest, nobody knows what a block shows
            self._seal_key = job_key(wanted)
            self.blocks.mkdir(exist_ok=True)
            if self.begun:
                self._resume()
                return
            with whole_file(manifest, sync=True) as file:
                file.write(json.dumps({**wanted, "key": self._seal_key}, indent=1).encode())

    def check_identity(self, identity: Mapping[str, Any]) -> None:
        """Refuse to resume a run of another source, model or options; nothing is written.

        Raises:
            JobError: The folder holds a run of another identity.
        """
        found = self._manifest()
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
        if (self.folder / "lock").exists():
            with self:
                pass

    def remove_own(self, identity: Mapping[str, Any]) -> None:
        """Delete the folder, unless it holds an unfinished run of another identity."""
        if not self.begun or self._manifest().get("key") == job_key(identity):
            self.remove()

    @property
    def begun(self) -> bool:
        """Whether the folder holds a run, finished or not."""
        return (self.folder / "manifest.json").exists()

    def record(self, record: BlockRecord) -> None:
        """Add a finished block to the journal."""
        with self._writing(), (self.folder / "done.jsonl").open("a") as journal:
            journal.write(self._line(record))
        self.done[record.index] = record

    def commit(self, then: Callable[[], object] | None = None) -> None:
        """Move the verified files into place, the image last, call `then`, and delete the folder."""
        with self._writing():
            for kind, target in reversed(self.targets.items()):
                os.replace(self.part(kind), target)
                _sync_folder(target.parent)
        if then is not None:
            then()
        self.remove()

    def remove(self) -> None:
        """Delete the folder. The lock is released first, because some systems cannot delete open files."""
        self._lock.release()
        with suppress(OSError):
            (self.folder / "manifest.json").unlink()  # without it, the rest is no run
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SceneError(
                f"Cannot write to '{self.folder}': {error.strerror or error}. The finished blocks are kept. Free "
                "some space or fix the cause, and repeat the same command."
            ) from error

    def _discard(self) -> None:
        for entry in self.folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != "lock":
                entry.unlink()

    def _manifest(self) -> dict[str, Any]:
        return _read_json(self.folder / "manifest.json")

    def _resume(self) -> None:
        """Load the journal, without the blocks whose files are missing or damaged."""
        for leftover in self.folder.glob("result*"):
            leftover.unlink()
        for line in _lines(self.folder / "done.jsonl"):
            record = self._record(line)
            if record is not None:
                self.done[record.index] = record
        for index, record in list(self.done.items()):
            files = record.files.items()
            if not all(_is_whole(self.block_path(index, kind), file) for kind, file in files):
                warn(f"block {index} of the earlier run is missing or damaged, and is computed again")
                del self.done[index]
        kept = "".join(self._line(record) for record in self.done.values())
        with whole_file(self.folder / "done.jsonl") as file:
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


def block_path(folder: Path, index: int, kind: str = IMAGE) -> Path:
    """The path of a block's file in a job's folder."""
    return folder / "blocks" / f"{index:06d}{_suffix(kind)}"


def _suffix(kind: str) -> str:
    return ".tif" if kind == IMAGE else f".{kind}.tif"


def job_key(identity: Mapping[str, Any]) -> str:
    """SHA-256 of everything that decides the pixels."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def source_identity(path: str, files: Sequence[str] = ()) -> dict[str, Any]:
    """What identifies a raster.

    A local raster is identified by path, size, modification time, and a digest of these and of some content of all its
    files (mask, overviews, the rasters of a VRT). The content tells apart copies of equal size that kept their times.
    A remote raster is identified by its name alone.

    Args:
        path: The raster.
        files: All files that it consists of, itself included.
    """
    local = Path(path)
    if not exists(path):  # a remote raster, or a part of a local file
        inside = {file: source_identity(file, []) for file in sorted(files) if is_file(file)}
        return {"path": path, **({"files": inside} if inside else {})}
    status = local.stat()
    parts = [part for part in map(Path, sorted({path, *files})) if is_file(part)]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(_sample(part, max(2, _SAMPLED_PAGES // len(parts))))
    return {
        "path": str(local.resolve()),
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "content": digest.hexdigest(),
    }


def _sample(path: Path, pages: int) -> bytes:
    """Name, size, modification time and evenly spaced pages of a file, the first and the last included."""
    status = path.stat()
    last = max(0, status.st_size - _PAGE)
    with path.open("rb") as file:
        found = [f"{path} {status.st_size} {status.st_mtime_ns}".encode()]
        for start in sorted({last * n // (pages - 1) for n in range(pages)}):
            file.seek(start)
            found.append(file.read(_PAGE))
    return b"".join(found)


def _is_whole(path: Path, record: FileRecord) -> bool:
    if not path.exists() or path.stat().st_size != record.size:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == record.sha256


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
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
