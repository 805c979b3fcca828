"""What an object store can do, whichever it is.

Every method may raise `StoreError`: the store refuses, or gives no answer for minutes. Requests that fail for the moment
are repeated by then. Messages hold neither credentials nor what the store says about them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Entry:
    """An object, as the store lists it."""

    key: str
    size: int
    """Bytes."""
    etag: str
    """Tells versions of an object apart; what it looks like is the store's business."""


class Upload(Protocol):
    """An object in the making: it appears whole when `complete` returns, or not at all.

    Leaving its `with` block in any other way discards what was uploaded. Parts may be sent from several threads. All
    parts but the last have the same size, 5 MiB at least.
    """

    identity: str
    """By which `Store.discard` knows it, in this process or another."""

    def part(self, number: int, data: bytes) -> None:
        """Send a part; the store checks its bytes.

        Args:
            number: Place of the part, from 1 to 10,000. A part sent twice counts once.
            data: Its bytes.
        """

    def complete(self, *, new: bool = False) -> bool:
        """Make the object of the parts, in the order of their numbers.

        Args:
            new: Whether to refuse to replace an object.

        Returns:
            Whether the store's checksum of the whole is that of what was sent; if not, the store gives none.

        Raises:
            ObjectExistsError: There is an object under the key, and `new` is set.
        """


class Store(Protocol):
    """A bucket. Keys are relative to it, and begin with no slash."""

    address: str
    """Its URL, such as s3://bucket."""

    def gdal_options(self) -> dict[str, str]:
        """GDAL's options by which it reaches the store as this client does; they hold credentials."""

    def head(self, key: str) -> Entry | None:
        """An object's size and version; None where there is no object."""

    def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """The bytes of an object, or some of them.

        Raises:
            ObjectMissingError: There is no object.
        """

    def put(
        self, key: str, data: bytes, *, new: bool = False, replaces: str | None = None, kind: str = ""
    ) -> str:
        """Write a small object with one request.

        Args:
            key: Its key.
            data: Its bytes.
            new: Whether to refuse to replace an object; of several that try at a time, one succeeds.
            replaces: ETag of the object that is replaced; another one, or none, is refused.
            kind: Media type, such as "application/json".

        Returns:
            The object's ETag.

        Raises:
            ObjectExistsError: There is an object, and `new` is set, or it is another one than `replaces` says.
        """

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """All objects whose keys begin with `prefix`, in the order of their keys."""

    def delete(self, key: str) -> None:
        """Delete an object; nothing happens where there is none."""

    def upload(self, key: str, *, kind: str = "") -> AbstractContextManager[Upload]:
        """Begin an object that is sent in parts.

        Args:
            key: Its key.
            kind: Media type.
        """

    def discard(self, key: str, identity: str) -> None:
        """Give up an upload that another process has left behind; nothing happens where there is none.

        Args:
            key: As it was given to `upload`.
            identity: The upload's.
        """
