"""Small files that are written beside a result, wherever that is: made here, and sent where they belong."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from geosegsr.errors import GeoSegSRError
from geosegsr.stores.address import Address, address_of
from geosegsr.stores.opening import open_store
from geosegsr.stores.transfer import send_file

_MEDIA = {".json": "application/geo+json", ".png": "image/png", ".html": "text/html; charset=utf-8"}
_LARGEST = 32_000_000


@contextmanager
def local_file(name: str | Path, *, sent: bool = True) -> Iterator[Path]:
    """The path under which to write a file; one for a store is sent there when the block succeeds.

    What the store has under that name is there when the block begins, so that it can be looked at before it is replaced.

    Args:
        name: A local path, or an address.
        sent: Whether anything is written; if not, the block only looks.

    Raises:
        StoreError: The store refuses, or gives no answer.
        GeoSegSRError: As the block raised it, with the address in place of the temporary path.
    """
    address = address_of(name)
    if address is None:
        yield Path(name)
        return
    with pulled({address.name: address}) as folder, named(folder, address):
        yield folder / address.name
        if sent:
            send_small(folder / address.name, address)


@contextmanager
def pulled(objects: Mapping[str, Address]) -> Iterator[Path]:
    """A temporary folder with those of some objects that there are, under the names that are given."""
    with tempfile.TemporaryDirectory(prefix="geosegsr-") as name:
        for file, address in objects.items():
            pull(address, Path(name) / file)
        yield Path(name)


def pull(address: Address, path: Path) -> None:
    """Copy a small object to a file, if there is one; of a large one, that there is one."""
    store = open_store(address)
    found = store.head(address.key)
    if found is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.get(address.key) if found.size <= _LARGEST else b"")


@contextmanager
def named(folder: Path, address: Address) -> Iterator[None]:
    """Have errors name the place of an address in place of a folder."""
    try:
        yield
    except GeoSegSRError as error:
        raise type(error)(str(error).replace(f"{folder}/", str(address.beside("")))) from error


def send_small(path: Path, address: Address) -> None:
    """Send a file; what has its name there was found to be ours before."""
    send_file(path, address, new=False, kind=_MEDIA.get(path.suffix, ""))
