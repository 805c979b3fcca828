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

import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from geosegsr.context import begin
from geosegsr.errors import GeoSegSRError, JobError, SceneError, StoreError
from geosegsr.files import JOB_SUFFIX, has_locks, move_new
from geosegsr.notices import warn
from geosegsr.pipeline.folder_state import FolderState
from geosegsr.pipeline.job_folder import BLOCKS, IMAGE, LOCK, JobFolder, block_path, job_key, suffix_of
from geosegsr.pipeline.job_state import BlockKeeper, JobState, check_same_run
from geosegsr.pipeline.prefix_state import PrefixState
from geosegsr.pipeline.records import BlockRecord, sealed, unsealed
from geosegsr.stores.address import Address


class Job:
    """The folder of one run; as a context manager it holds the lock."""

    def __init__(
        self,
        target: Path,
        targets: Mapping[str, Path] | None = None,
        prefix: Address | None = None,
        *,
        until_sent: bool = False,
    ) -> None:
        """Name a job; no file is touched yet.

        Args:
            target: After which the folder is named.
            targets: The files that the job makes, by their kind; by default `target`, of the kind IMAGE.
            prefix: In an object store, below which manifest, journal and blocks lie; by default they lie in the folder.
            until_sent: Whether a state that lies elsewhere outlives `commit`, because the files are to be sent to a store.
        """
        self.target = target
        self.targets = {IMAGE: target} if targets is None else dict(targets)
        self.folder = target.with_name(target.name + JOB_SUFFIX)
        self._opened = JobFolder(self.folder)
        self._local = FolderState(self._opened)
        self._state: JobState = self._local
        if prefix is not None:
            self._state = PrefixState(prefix)
        self._until_sent = until_sent
        self._token = uuid.uuid4().hex[:8]
        self.done: dict[int, BlockRecord] = {}
        self._seal_key = ""

    def __enter__(self) -> Job:
        try:
            self._enter()
            self._enter_state()
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

    def _enter_state(self) -> None:
        try:
            self._state.open()
        except BaseException as error:
            self._remove_here()
            if not isinstance(error, BlockingIOError):
                raise
            raise JobError(
                f"Cannot use '{self._state.name}': another run of this target is using it now. Wait for it, or pass "
                "another --scratch."
            ) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                self._clean_up()
        finally:
            self._state.close()
            self._opened.close()

    @property
    def shared_folder(self) -> Path | None:
        """What workers must share; None where they write elsewhere."""
        return None if self._is_elsewhere else self.folder

    @property
    def _is_elsewhere(self) -> bool:
        return self._state is not self._local

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

    @property
    def keeper(self) -> BlockKeeper:
        """For whoever computes the blocks."""
        return self._state.keeper(self._seal_key)

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
            if self._is_elsewhere:
                self._begin_here(wanted)
            if not (resume and self.begun):
                self._state.clear()  # without its manifest, nobody knows what a block shows
            self._seal_key = job_key(wanted)
            self.blocks.mkdir(exist_ok=True)
            if self.begun:
                begin("checking the blocks of an earlier run")
                self._resume()
                return
            self._state.write_manifest({**wanted, "key": self._seal_key})

    def check_identity(self, identity: Mapping[str, Any]) -> None:
        """Refuse to resume a run of another source, model or options; nothing is written.

        Raises:
            JobError: The folder holds a run of another identity.
        """
        check_same_run(self._state, identity)
        if self._is_elsewhere:
            check_same_run(self._local, self._here(identity))

    def _here(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """What the manifest in the folder says of a run whose blocks lie elsewhere."""
        return {**identity, "scratch": self._state.name}

    def _begin_here(self, identity: Mapping[str, Any]) -> None:
        """Make the folder one of this run; what it holds can be fetched again."""
        self._opened.clear()
        here = self._here(identity)
        self._local.write_manifest({**here, "key": job_key(here)})

    def check_free(self) -> None:
        """Refuse a target that another process is writing; nothing is written.

        Raises:
            JobError: It is so.
        """
        if self.exists() and (self.folder / LOCK).exists():
            with Job(self.target):
                pass

    def exists(self) -> bool:
        """Whether there is a folder that is a job's, whatever run it holds."""
        try:
            self.check_folder()
        except (GeoSegSRError, OSError):
            return False
        return os.path.lexists(self.folder) or (self._is_elsewhere and self.begun)

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
        if not self.begun or self._state.manifest.get("key") == job_key(identity):
            self.remove()

    def forget(self, identity: Mapping[str, Any]) -> None:
        """Delete a state that lies elsewhere, unless it is of another run or in use; the folder is not touched."""
        if not self._is_elsewhere or self._state.manifest.get("key") != job_key(identity):
            return
        try:
            with suppress(BlockingIOError):
                self._state.open()
                self._state.remove()
        finally:
            self._state.close()

    @property
    def begun(self) -> bool:
        """Whether the folder holds a run, finished or not."""
        return self._state.begun

    def record(self, record: BlockRecord) -> None:
        """Add a finished block to the journal."""
        with self._writing():
            self._state.note(sealed(record, self._seal_key))
        self.done[record.index] = record

    def is_in_cells(self, index: int, kind: str) -> bool:
        """Whether all cells that a file of a block is part of are finished, so that it is not needed any more."""
        others = [other for other, _ in self.done[index].files[kind].pieces]
        return bool(others) and all(other > index and other in self.done for other in others)

    def discard(self, index: int, kind: str) -> None:
        """Delete a file that is not needed any more."""
        with self._writing():
            self.block_path(index, kind).unlink(missing_ok=True)

    def fetch(self) -> bool:
        """Bring all finished blocks into the folder, where they lie elsewhere.

        Returns:
            False if some are missing or damaged; these are to be computed again.
        """
        with self._writing():
            damaged = self._state.fetch(self.done.values(), self.block_path)
        for index in damaged:
            warn(f"block {index} is missing or damaged in '{self._state.name}', and is computed again")
            del self.done[index]
        return not damaged

    def commit(self, may_replace: Callable[[Path], bool], then: Callable[[], object] | None = None) -> None:
        """Move the verified files into place, from the last to the first, call `then`, and delete the folder.

        Args:
            may_replace: Whether a file that exists at a target by now may be replaced.
            then: Called when all files are in place.

        Raises:
            JobError: A file has appeared at a target that may not be replaced, or the folder was replaced by another.
        """
        self._opened.check_same()
        self._state.check_same()
        for kind, target in reversed(self.targets.items()):
            with self._writing():
                self._place(self.part(kind), target, may_replace)
                _sync_folder(target.parent)
        if then is not None:
            then()
        if self._until_sent:
            self._remove_here()
        else:
            self.remove()

    def remove(self) -> None:
        """Delete the run's files, and the folder if nothing else is in it."""
        self._state.remove()
        self._remove_here()

    def _clean_up(self) -> None:
        """Leave nothing of a run that failed but what can be resumed."""
        self._remove_here()
        with suppress(StoreError):
            if not self._state.has_blocks:
                self._state.remove()

    def _remove_here(self) -> None:
        """Delete the folder of a run whose blocks lie elsewhere, but none that holds a run of its own."""
        here = self._local
        is_ours = here.manifest.get("scratch") == self._state.name or not (here.begun or here.has_blocks)
        if self._is_elsewhere and is_ours:
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
        except StoreError:
            raise
        except OSError as error:
            raise SceneError(
                f"Cannot write to '{self._state.name}': {error.strerror or error}. The finished blocks are kept. Free "
                "some space or fix the cause, and repeat the same command."
            ) from error

    def _resume(self) -> None:
        """Load the journal, without the blocks whose files are missing or damaged."""
        for line in self._state.journal():
            record = unsealed(line, self._seal_key)
            if record is not None:
                self.done[record.index] = record
        for index, record in sorted(
            self.done.items(), reverse=True
        ):  # cells before the blocks they are made of
            if not all(
                self._state.is_whole(index, kind, file) or self.is_in_cells(index, kind)
                for kind, file in record.files.items()
            ):
                warn(f"block {index} of the earlier run is missing or damaged, and is computed again")
                del self.done[index]
        files = {
            self.block_path(index, kind).name for index, block in self.done.items() for kind in block.files
        }
        lines = {index: sealed(record, self._seal_key) for index, record in self.done.items()}
        self._state.keep_only(lines, files)


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
