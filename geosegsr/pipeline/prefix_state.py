"""The manifest, the journal and the blocks of a run under a prefix of an object store.

s3://bucket/out.tif.geosegsr/
    lock.json            renewed by the run that holds it; see store_lock
    manifest.json        identity of the run
    done/000000.json     a line of the journal, put by the worker after the files of its block
    blocks/000000.tif    a block, put whole; other kinds as in a job's folder
    run-1a2b3c4d5e6f     a worker's trial, deleted at once
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from geosegsr.errors import JobError, ObjectMissingError, StoreError
from geosegsr.files import JOB_SUFFIX, whole_file
from geosegsr.notices import warn
from geosegsr.pipeline.job_folder import BLOCKS, MANIFEST, job_key, suffix_of
from geosegsr.pipeline.records import BlockRecord, FileRecord, sealed
from geosegsr.pipeline.store_lock import StoreLock
from geosegsr.raster.cog_block import MARK_WITHIN, is_marked
from geosegsr.stores.address import Address
from geosegsr.stores.contract import Entry, Store
from geosegsr.stores.opening import open_store

T = TypeVar("T")

_LOCK, _DONE = "lock.json", "done"
_TRIAL = "run-"
_BLOCK_NAMES = re.compile(rf"{BLOCKS}/\d{{6,}}(\.uncertainty|\.band\d+)?\.tif")
_DONE_NAMES = re.compile(rf"{_DONE}/(\d{{6,}})\.json")
_NAMES = re.compile(
    rf"{re.escape(_LOCK)}|{re.escape(MANIFEST)}|{_TRIAL}[0-9a-f]{{12}}|{_BLOCK_NAMES.pattern}|{_DONE_NAMES.pattern}"
)
_AT_A_TIME = 8  # requests for small objects
_BLOCKS_AT_A_TIME = 4  # each is in memory for a moment
_SHOWN = 3


def prefix_of(scratch: Address, target: str) -> Address:
    """The prefix of a target's job, under the one that the user named.

    Args:
        scratch: That one.
        target: A path or a URL. Results of one name in two folders get two prefixes.
    """
    digest = hashlib.sha256(target.encode(errors="replace")).hexdigest()[:8]
    return scratch / f"{target.rpartition('/')[2]}-{digest}{JOB_SUFFIX}/"


def prefix_beside(target: Address) -> Address:
    """The prefix of the job of an object, beside it."""
    return target.beside(f"{target.name}{JOB_SUFFIX}/")


@dataclass(frozen=True)
class PrefixKeeper:
    """Keeps blocks under a prefix, from anywhere."""

    place: Address
    seal_key: str

    @property
    def name(self) -> str:
        return str(self.place)

    @property
    def is_distant(self) -> bool:
        return True

    def check(self) -> None:
        store, key = open_store(self.place), (self.place / f"{_TRIAL}{uuid.uuid4().hex[:12]}").key
        said = key.encode()
        store.put(key, said)
        try:
            if store.get(key) != said:
                raise StoreError(
                    f"Cannot use '{self.name}': an object that was just written reads otherwise."
                )
        finally:
            store.delete(key)

    def write(self, index: int, kind: str, data: bytes) -> str:
        return open_store(self.place).put((self.place / block_name(index, kind)).key, data, kind="image/tiff")

    def finish(self, record: BlockRecord, versions: Mapping[str, str]) -> None:
        line = {**json.loads(sealed(record, self.seal_key)), "versions": dict(versions)}
        key = (self.place / f"{_DONE}/{record.index:06d}.json").key
        open_store(self.place).put(key, json.dumps(line).encode(), kind="application/json")


class PrefixState:
    """What is kept under a prefix; see `JobState`."""

    def __init__(self, place: Address) -> None:
        self._place = place
        self._lock: StoreLock | None = None
        self._versions: dict[int, dict[str, str]] = {}  # by block and kind, as the journal says
        self._blocks: dict[str, Entry] = {}

    @property
    def name(self) -> str:
        return str(self._place)

    @property
    def begun(self) -> bool:
        return self._store.head(self._key(MANIFEST)) is not None

    @property
    def has_blocks(self) -> bool:
        return next(iter(self._store.list(self._key(f"{BLOCKS}/"))), None) is not None

    @property
    def manifest(self) -> dict[str, Any]:
        try:
            found = json.loads(self._store.get(self._key(MANIFEST)))
        except (ObjectMissingError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def open(self) -> None:
        self._check_content()
        self._lock = StoreLock(self._store, self._key(_LOCK))
        self._lock.acquire()

    def close(self) -> None:
        if self._lock is not None:
            self._lock.release()
        self._lock = None

    def check_same(self) -> None:
        if self._lock is not None:
            self._lock.confirm()

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        self._store.put(self._key(MANIFEST), json.dumps(manifest, indent=1).encode(), kind="application/json")

    def journal(self) -> list[str]:
        numbers = {
            int(found[1]): name
            for name in self._entries(f"{_DONE}/")
            if (found := _DONE_NAMES.fullmatch(name))
        }
        lines = [data.decode(errors="replace") for data in _together(self._get, numbers.values())]
        self._versions = {index: _versions(line) for index, line in zip(numbers, lines, strict=True)}
        self._blocks = self._entries(f"{BLOCKS}/")
        return lines

    def note(self, line: str) -> None:
        """The worker has put it; this is the moment to notice a lost lock."""
        if self._lock is not None:
            self._lock.check()

    def keep_only(self, lines: Mapping[int, str], files: Collection[str]) -> None:
        kept = {f"{_DONE}/{index:06d}.json" for index in lines} | {f"{BLOCKS}/{name}" for name in files}
        self._delete(name for name in self._entries() if _is_of_block(name) and name not in kept)

    def is_whole(self, index: int, kind: str, file: FileRecord) -> bool:
        """By size and version, as the store lists them; the checksum follows when the block is fetched."""
        found = self._blocks.get(block_name(index, kind))
        version = self._versions.get(index, {}).get(kind)
        return found is not None and (found.size, found.etag) == (file.size, version)

    def keeper(self, seal_key: str) -> PrefixKeeper:
        return PrefixKeeper(self._place, seal_key)

    def fetch(self, blocks: Iterable[BlockRecord], path_of: Callable[[int, str], Path]) -> list[int]:
        def fetched(record: BlockRecord) -> bool:
            return all(self._fetch(record.index, kind, file, path_of) for kind, file in record.files.items())

        wanted = list(blocks)
        whole = _together(fetched, wanted, _BLOCKS_AT_A_TIME)
        damaged = [record.index for record, good in zip(wanted, whole, strict=True) if not good]
        self._delete(f"{_DONE}/{index:06d}.json" for index in damaged)
        return damaged

    def clear(self) -> None:
        names = [name for name in self._entries() if _NAMES.fullmatch(name)]
        self._delete(name for name in names if _DONE_NAMES.fullmatch(name))
        self._delete(
            name for name in names if not _DONE_NAMES.fullmatch(name) and name not in (_LOCK, MANIFEST)
        )
        self._delete([MANIFEST])

    def remove(self) -> None:
        try:
            self.clear()
        except StoreError as error:
            warn(f"some objects of the run are left under '{self.name}': {error}")
            return
        self.close()

    @property
    def _store(self) -> Store:
        return open_store(self._place)

    def _key(self, name: str) -> str:
        return (self._place / name).key

    def _get(self, name: str) -> bytes:
        try:
            return self._store.get(self._key(name))
        except ObjectMissingError:
            return b""

    def _entries(self, under: str = "") -> dict[str, Entry]:
        """All objects below the prefix, by the part of their keys that follows it."""
        base = len(self._place.key)
        return {entry.key[base:]: entry for entry in self._store.list(self._key(under))}

    def _delete(self, names: Iterable[str]) -> None:
        _together(lambda name: self._store.delete(self._key(name)), names)

    def _fetch(self, index: int, kind: str, file: FileRecord, path_of: Callable[[int, str], Path]) -> bool:
        data = self._get(block_name(index, kind))
        if len(data) != file.size or hashlib.sha256(data).hexdigest() != file.sha256:
            return False
        with whole_file(path_of(index, kind)) as target:
            target.write(data)
        return True

    def _check_content(self) -> None:
        """Refuse a prefix that holds anything but the objects of a run.

        Raises:
            JobError: It does. Nothing was touched.
        """
        names = self._entries()
        strangers = sorted(name for name in names if not _NAMES.fullmatch(name))
        found = self.manifest
        if not strangers and found.pop("key", None) != job_key(found):
            strangers = sorted(name for name in names if _is_of_block(name) and not self._is_ours(name))
        if strangers:
            more = f" and {len(strangers) - _SHOWN} more" if len(strangers) > _SHOWN else ""
            shown = ", ".join(f"'{name}'" for name in strangers[:_SHOWN]) + more
            raise JobError(
                f"Cannot use the job's prefix '{self.name}': it holds {shown}, which no run wrote. Nothing in it was "
                "touched. Move that elsewhere, or pass another --scratch."
            )

    def _is_ours(self, name: str) -> bool:
        """Whether an object that no manifest vouches for is a run's by its content."""
        if _DONE_NAMES.fullmatch(name):
            return b'"seal"' in self._get(name)
        return is_marked(self._store.get(self._key(name), 0, MARK_WITHIN))


def block_name(index: int, kind: str) -> str:
    """The name of a block's object below the prefix."""
    return f"{BLOCKS}/{index:06d}{suffix_of(kind)}"


def _is_of_block(name: str) -> bool:
    return bool(_BLOCK_NAMES.fullmatch(name) or _DONE_NAMES.fullmatch(name))


def _versions(line: str) -> dict[str, str]:
    try:
        return dict(json.loads(line)["versions"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}


def _together(do: Callable[[Any], T], things: Iterable[Any], at_a_time: int = _AT_A_TIME) -> list[T]:
    """What a function returns for each of some things, several at a time, in their order."""
    with ThreadPoolExecutor(at_a_time, "geosegsr-store") as pool:
        return list(pool.map(do, things))
