"""The manifest, the journal and the blocks of a run in a job's folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geosegsr.files import sha256_of, whole_file
from geosegsr.pipeline.job_folder import (
    BLOCKS,
    JOURNAL,
    MANIFEST,
    JobFolder,
    block_path,
    write_block,
)
from geosegsr.pipeline.records import BlockRecord, FileRecord


@dataclass(frozen=True)
class FolderKeeper:
    """Keeps blocks in a job's folder, which all workers must share."""

    folder: Path

    @property
    def name(self) -> str:
        return str(self.folder)

    @property
    def is_distant(self) -> bool:
        return False

    def check(self) -> None:
        """The cluster itself checks that its workers share the folder."""

    def write(self, index: int, kind: str, data: bytes) -> str:
        write_block(self.folder, index, kind, data)
        return ""

    def finish(self, record: BlockRecord, versions: Mapping[str, str]) -> None:
        """The client notes it in the journal."""


class FolderState:
    """What is kept inside an opened folder; see `JobState`."""

    def __init__(self, folder: JobFolder) -> None:
        self._folder = folder

    @property
    def name(self) -> str:
        return str(self._folder.path)

    @property
    def begun(self) -> bool:
        return (self._folder.inside / MANIFEST).exists()

    @property
    def has_blocks(self) -> bool:
        return any((self._folder.inside / BLOCKS).glob("*.tif"))

    @property
    def manifest(self) -> dict[str, Any]:
        return self._folder.manifest

    def open(self) -> None:
        """The job has opened and locked the folder."""

    def close(self) -> None:
        """The job closes the folder."""

    def check_same(self) -> None:
        """The job checks the folder."""

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        with whole_file(self._folder.inside / MANIFEST, sync=True) as file:
            file.write(json.dumps(manifest, indent=1).encode())

    def journal(self) -> list[str]:
        path = self._folder.inside / JOURNAL
        return path.read_text(errors="replace").splitlines() if path.exists() else []

    def note(self, line: str) -> None:
        with (self._folder.inside / JOURNAL).open("a") as journal:
            journal.write(f"{line}\n")

    def keep_only(self, lines: Mapping[int, str], files: Collection[str]) -> None:
        self._folder.clear_all_but(files)
        with whole_file(self._folder.inside / JOURNAL) as file:
            file.write("".join(f"{line}\n" for line in lines.values()).encode())

    def is_whole(self, index: int, kind: str, file: FileRecord) -> bool:
        path = block_path(self._folder.inside, index, kind)
        return path.exists() and path.stat().st_size == file.size and sha256_of(path) == file.sha256

    def fetch(self, blocks: Iterable[BlockRecord], path_of: Callable[[int, str], Path]) -> list[int]:
        """They are here; whoever reads them compares their checksums."""
        return []

    def keeper(self, seal_key: str) -> FolderKeeper:
        return FolderKeeper(self._folder.path.absolute())

    def clear(self) -> None:
        self._folder.clear()

    def remove(self) -> None:
        self._folder.remove()
