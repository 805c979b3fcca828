"""Where the manifest, the journal and the blocks of a run lie: a folder, or a prefix of an object store.

`job.Job` decides what is resumed, refused and computed again. `folder_state` and `prefix_state` know how it is kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from geosegsr.errors import JobError
from geosegsr.pipeline.job_folder import job_key
from geosegsr.pipeline.records import BlockRecord, FileRecord


class BlockKeeper(Protocol):
    """Keeps finished blocks, in any thread or process; it can be pickled."""

    @property
    def name(self) -> str:
        """Where it keeps them, for messages."""

    @property
    def is_distant(self) -> bool:
        """Whether sending bytes there costs more than compressing them."""

    def check(self) -> None:
        """Refuse a process that cannot keep blocks there.

        Raises:
            SceneError: It cannot.
        """

    def write(self, index: int, kind: str, data: bytes) -> str:
        """Write one file of a block, completely or not at all.

        Returns:
            What the store calls this version of it; empty in a folder.

        Raises:
            JobError: What has its name is no block, or other users could write there.
            OSError: It cannot be written.
        """

    def finish(self, record: BlockRecord, versions: Mapping[str, str]) -> None:
        """Note that all files of a block are written, where that is the worker's part.

        Args:
            record: Of the block.
            versions: What `write` returned for each kind.

        Raises:
            OSError: It cannot be written.
        """


class JobState(Protocol):
    """The manifest, the journal and the blocks of one run. All may raise OSError."""

    @property
    def name(self) -> str:
        """Where they lie, for messages."""

    @property
    def begun(self) -> bool:
        """Whether there is a run, finished or not."""

    @property
    def has_blocks(self) -> bool:
        """Whether there is any block."""

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest; empty where it is missing or damaged."""

    def open(self) -> None:
        """Lock it against other runs, and check what it holds.

        Raises:
            BlockingIOError: Another run holds it.
            JobError: It holds what no run wrote, or cannot be locked.
        """

    def close(self) -> None:
        """Unlock it."""

    def check_same(self) -> None:
        """Refuse to go on where another run has taken it over.

        Raises:
            JobError: It has.
        """

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Begin a run."""

    def journal(self) -> list[str]:
        """A line for each finished block."""

    def note(self, line: str) -> None:
        """Add a line to the journal, where that is not the worker's part."""

    def keep_only(self, lines: Mapping[int, str], files: Collection[str]) -> None:
        """Delete what an earlier run left, except for these lines of the journal and these block files."""

    def is_whole(self, index: int, kind: str, file: FileRecord) -> bool:
        """Whether a file of a block is that of its record."""

    def fetch(self, blocks: Iterable[BlockRecord], path_of: Callable[[int, str], Path]) -> list[int]:
        """Bring the files of blocks to local paths, where they lie elsewhere.

        Args:
            blocks: The finished blocks.
            path_of: The local path of a block's file, by its number and kind.

        Returns:
            Numbers of the blocks that are missing or damaged; they are no longer in the journal.
        """

    def keeper(self, seal_key: str) -> BlockKeeper:
        """For whoever computes blocks of the run with this key."""

    def clear(self) -> None:
        """Delete what a run wrote, except for the lock."""

    def remove(self) -> None:
        """Delete what a run wrote. Failures leave files behind."""


def check_same_run(state: JobState, identity: Mapping[str, Any]) -> None:
    """Refuse to resume a run of another identity.

    Raises:
        JobError: There is one.
    """
    found = state.manifest
    if not state.begun or found.get("key") == job_key(identity):
        return
    wanted = json.loads(json.dumps(identity))
    keys = sorted(k for k in {*found, *wanted} - {"key"} if found.get(k) != wanted.get(k))
    changes = [f"{k} was {_short(found.get(k))}, now {_short(wanted.get(k))}" for k in keys]
    changed = "; ".join(changes) if "key" in found else ""
    raise JobError(
        f"Cannot resume the unfinished run in '{state.name}': {changed or 'its manifest is damaged'}. "
        "Repeat the command that began it, or pass --no-resume to discard it and start anew."
    )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
