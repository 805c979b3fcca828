"""Google Cloud Storage and Azure Blob Storage, by obstore."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any, TypeVar, cast
from uuid import uuid4

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotModifiedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore

from geosegsr.errors import ConfigError, ObjectExistsError, ObjectMissingError, StoreError
from geosegsr.stores.contract import Entry
from geosegsr.stores.reasons import refused, unreachable

T = TypeVar("T")

_TIMEOUT = "300s"  # of one request; obstore repeats it by itself
_CODES: tuple[tuple[type[Exception], str], ...] = (
    (PermissionDeniedError, "AccessDenied"),
    (UnauthenticatedError, "ExpiredToken"),
)


def open_other(scheme: str, bucket: str) -> OtherStore:
    """A bucket of Google's or a container of Azure's, by the variables of the environment that their tools use.

    Raises:
        ConfigError: The settings do not fit together.
    """
    address = f"{scheme}://{bucket}"
    try:
        if scheme == "gs":
            return OtherStore(GCSStore(bucket, client_options={"timeout": _TIMEOUT}), address)
        settings = azure_settings(os.environ)
        plain = settings.get("endpoint", "").startswith("http://")
        client: Any = {"timeout": _TIMEOUT, "allow_http": plain}
        return OtherStore(AzureStore(bucket, client_options=client, **cast(Any, settings)), address)
    except (BaseError, ValueError):
        raise ConfigError(
            f"Cannot use '{address}': the environment does not say how to reach it. "
            "Set GOOGLE_APPLICATION_CREDENTIALS for gs://, or AZURE_STORAGE_ACCOUNT and a key or token of it for az://."
        ) from None


def azure_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Obstore's settings for those variables of Azure's tools that it does not read itself.

    Args:
        environment: The variables.
    """
    told = environment.get("AZURE_STORAGE_CONNECTION_STRING", "")
    parts = dict(part.split("=", 1) for part in told.split(";") if "=" in part)
    endpoint = parts.get("BlobEndpoint") or environment.get("AZURE_STORAGE_ENDPOINT") or ""
    found = {
        "account_name": parts.get("AccountName") or environment.get("AZURE_STORAGE_ACCOUNT"),
        "account_key": parts.get("AccountKey"),
        "sas_key": parts.get("SharedAccessSignature"),
        "endpoint": endpoint.rstrip("/"),
    }
    return {name: value for name, value in found.items() if value}


class OtherStore:
    """A bucket that obstore reaches; see `geosegsr.stores.contract.Store`."""

    def __init__(self, store: Any, address: str) -> None:
        self._store = store
        self.address = address

    def gdal_options(self) -> dict[str, str]:
        return {}  # GDAL reads the same variables

    def head(self, key: str) -> Entry | None:
        try:
            return _entry(self._do(lambda: obstore.head(self._store, key), key, "read"))
        except ObjectMissingError:
            return None

    def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        if stop is None:
            whole = self._do(lambda: bytes(obstore.get(self._store, key).bytes()), key, "read")
            return whole[start:]
        if stop <= start:
            return b""
        return self._do(
            lambda: bytes(obstore.get_range(self._store, key, start=start, end=stop)), key, "read"
        )

    def put(
        self, key: str, data: bytes, *, new: bool = False, replaces: str | None = None, kind: str = ""
    ) -> str:
        mode: Any = "create" if new else "overwrite" if replaces is None else _as_version(replaces)
        answer = self._do(
            lambda: obstore.put(
                self._store, key, data, mode=mode, attributes=_typed(kind), use_multipart=False
            ),
            key, "write",
        )  # fmt: skip
        return _version(answer)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        # obstore takes whole parts of a key only.
        folder = prefix.rpartition("/")[0] or None
        batches = self._do(lambda: list(obstore.list(self._store, folder)), prefix, "list")
        entries = (_entry(found) for batch in batches for found in batch)
        yield from sorted(
            (entry for entry in entries if entry.key.startswith(prefix)), key=lambda entry: entry.key
        )

    def delete(self, key: str) -> None:
        with suppress(ObjectMissingError):
            self._do(lambda: obstore.delete(self._store, key), key, "delete")

    @contextmanager
    def upload(self, key: str, *, kind: str = "") -> Iterator[OtherUpload]:
        upload = OtherUpload(self, key, kind)
        try:
            yield upload
        finally:
            upload.close()

    def discard(self, key: str, identity: str) -> None:
        self.delete(identity)

    def _do(self, request: Callable[[], T], key: str, verb: str) -> T:
        """Foreign errors become ours, without what they say."""
        address = f"{self.address}/{key}"
        try:
            return request()
        except FileNotFoundError:
            raise ObjectMissingError(f"Cannot {verb} '{address}': there is no such object.") from None
        except (AlreadyExistsError, PreconditionError, NotModifiedError):
            raise ObjectExistsError(
                f"Cannot write '{address}': another object has that name by now."
            ) from None
        except (BaseError, OSError, ValueError) as error:
            for kind, code in _CODES:
                if isinstance(error, kind):
                    raise refused(verb, address, code) from None
            raise unreachable(verb, address, type(error).__name__) from None


class OtherUpload:
    """An object sent in parts; see `geosegsr.stores.contract.Upload`.

    obstore cannot make the end of an upload conditional. So the parts go to an object of another name, which the store
    copies to the key if it is free, and which is deleted.
    """

    def __init__(self, store: OtherStore, key: str, kind: str) -> None:
        self._store, self._key, self._kind = store, key, kind
        self.identity = f"{key}.{uuid4().hex[:8]}.part"
        self._early: dict[int, bytes] = {}
        self._next = 1
        self._size = 0
        self._lock = Lock()
        self._writer: Any = None

    def part(self, number: int, data: bytes) -> None:
        with self._lock:
            self._early[number] = data  # of several threads, some are ahead
            while self._next in self._early:
                self._write(self._early.pop(self._next))
                self._next += 1

    def complete(self, *, new: bool = False) -> bool:
        if self._writer is None:
            self._write(b"")
        self._do(lambda: self._writer.__exit__(None, None, None))
        self._writer = None
        made, there = self._store.head(self.identity), self._store._store
        if made is None or made.size != self._size or self._early:
            raise StoreError(
                f"Cannot write '{self._store.address}/{self._key}': not all of it arrived. Repeat the same command."
            )
        self._do(lambda: obstore.copy(there, self.identity, self._key, overwrite=not new))
        return False

    def close(self) -> None:
        """Discard what is not complete."""
        if self._writer is not None:
            failed = StoreError("The upload was given up.")
            with suppress(Exception):
                self._writer.__exit__(type(failed), failed, None)
            self._writer = None
        elif self._next > 1 or self._size:
            with suppress(StoreError):
                self._store.delete(self.identity)

    def _write(self, data: bytes) -> None:
        if self._writer is None:
            self._writer = self._do(
                lambda: obstore.open_writer(
                    self._store._store,
                    self.identity,
                    attributes=_typed(self._kind),
                    buffer_size=8 << 20,
                    max_concurrency=4,
                )
            )
            self._writer.__enter__()
        self._do(lambda: self._writer.write(data))
        self._size += len(data)

    def _do(self, request: Callable[[], T]) -> T:
        return self._store._do(request, self._key, "write")


def _entry(found: Any) -> Entry:
    return Entry(found["path"], found["size"], _version(found))


def _version(found: Any) -> str:
    """ETag and version of an object in one: Azure tells objects apart by the one, Google by the other."""
    return f"{found['e_tag'] or ''}|{found['version'] or ''}"


def _as_version(text: str) -> dict[str, str]:
    etag, _, version = text.rpartition("|")
    return {name: value for name, value in (("e_tag", etag), ("version", version)) if value}


def _typed(kind: str) -> Any:
    return {"Content-Type": kind} if kind else None
