"""Local files to objects and back: in parts, whole or not at all, and compared with what was sent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from geosegsr.errors import VerificationError
from geosegsr.files import whole_file
from geosegsr.stores.address import Address
from geosegsr.stores.contract import Store, Upload
from geosegsr.stores.opening import open_store

PART_BYTES = 8 << 20
"""Bytes of a part, unless that made too many; what fits into one part is sent by one request."""
_MOST_PARTS = 10_000
_SIDE_BY_SIDE = 4  # parts on their way; each is held in memory


def send_file(
    path: Path,
    address: Address,
    *,
    new: bool,
    kind: str = "",
    begun: Callable[[str], object] = lambda identity: None,
) -> None:
    """Send a file to a store, where it appears whole or not at all, and compare what arrived.

    Args:
        path: The file.
        address: Where it goes.
        new: Whether to refuse to replace an object.
        kind: Its media type.
        begun: Called with the identity of an upload in parts before the first; `Store.discard` takes it.

    Raises:
        ObjectExistsError: There is an object, and `new` is set.
        StoreError: The store refuses, or gives no answer.
        VerificationError: What arrived is not what was sent; it is deleted again.
    """
    store, size = open_store(address), path.stat().st_size
    if size <= PART_BYTES:
        data = path.read_bytes()
        etag = store.put(address.key, data, new=new, kind=kind)
        confirmed = etag == hashlib.md5(data, usedforsecurity=False).hexdigest()
    else:
        with store.upload(address.key, kind=kind) as upload:
            begun(upload.identity)
            _send_parts(path, size, upload)
            confirmed = upload.complete(new=new)
    _compare(store, address, path, size, confirmed=confirmed)


def fetch_file(address: Address, path: Path) -> None:
    """Write the bytes of an object to a file, whole or not at all.

    Raises:
        ObjectMissingError: There is no object.
        StoreError: The store refuses, or gives no answer.
        OSError: The file cannot be written.
    """
    store = open_store(address)
    found = store.head(address.key)
    size = 1 if found is None else found.size  # that it is missing, `get` will say
    with whole_file(path) as file:
        for piece in _pieces(store, address.key, size):
            file.write(piece)


def part_size(size: int) -> int:
    """Bytes of each part of an object of `size` bytes but the last."""
    least = -(-size // _MOST_PARTS)
    return PART_BYTES * max(1, -(-least // PART_BYTES))


def _send_parts(path: Path, size: int, upload: Upload) -> None:
    length = part_size(size)

    def send(number: int) -> None:
        upload.part(number, _read(path, (number - 1) * length, length))

    with ThreadPoolExecutor(_SIDE_BY_SIDE, "geosegsr-upload") as pool:
        for _ in pool.map(send, range(1, -(-size // length) + 1)):
            pass


def _compare(store: Store, address: Address, path: Path, size: int, *, confirmed: bool) -> None:
    """Compare size and, where the store's checksum does not say it, all bytes of an object with a file."""
    found = store.head(address.key)
    same = found is not None and found.size == size
    if same and not confirmed:
        start = 0
        for piece in _pieces(store, address.key, size):
            same = same and piece == _read(path, start, len(piece))
            start += len(piece)
        same = same and start == size
    if not same:
        store.delete(address.key)
        raise VerificationError(
            f"Cannot write '{address}': what the store holds is not what was sent. It was deleted. "
            "Repeat the same command, and report it if it fails again."
        )


def _pieces(store: Store, key: str, size: int) -> Iterator[bytes]:
    for start in range(0, size, PART_BYTES):
        yield store.get(key, start, min(start + PART_BYTES, size))


def _read(path: Path, start: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(length)
