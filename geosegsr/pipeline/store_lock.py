"""A lock in an object store: an object that its owner renews, made and replaced by conditional puts.

    create      succeeds for one of several runs; the others find the object
    renew       every RENEW_S seconds, only over the version that this run wrote last
    take over   only over the very version that was not renewed for as long as it says

No clock is compared with another: whoever finds the object watches whether its version changes. The owner's time is
up at once where it ran on this machine and has ended.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from geosegsr.context import begin
from geosegsr.errors import JobError, ObjectExistsError, ObjectMissingError, StoreError
from geosegsr.stores.contract import Store

RENEW_S = 15.0
EXPIRES_S = 60.0
_POLL_S = 1.0


class StoreLock:
    """Held from `acquire` to `release`, and lost if it cannot be renewed for long and another run takes it over."""

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key
        self._name = f"{store.address}/{key}"
        self._token = uuid.uuid4().hex
        self._etag: str | None = None
        self._lost = False
        self._busy = threading.Lock()
        self._ended = threading.Event()

    def acquire(self) -> None:
        """Take the lock and begin to renew it.

        Raises:
            BlockingIOError: Another run holds it.
            JobError: The store cannot keep two runs apart.
            StoreError: It cannot be written or read.
        """
        try:
            self._etag = self._put(new=True)
        except ObjectExistsError:
            self._etag = self._taken_over()
        self._check_conditions()
        threading.Thread(target=self._renew_until_ended, name="geosegsr-lock", daemon=True).start()

    def check(self) -> None:
        """Refuse to go on where another run has taken the lock over; no request is sent.

        Raises:
            JobError: It has.
        """
        if self._lost:
            raise JobError(
                f"Cannot go on: another run has taken over the lock '{self._name}', which this run could not renew for "
                f"{EXPIRES_S:.0f} seconds. Repeat the same command when that run has ended."
            )

    def confirm(self) -> None:
        """As `check`, after renewing the lock.

        Raises:
            StoreError: The store does not answer.
        """
        self._renew()
        self.check()

    def release(self) -> None:
        """Stop renewing, and delete the object if it is still this run's."""
        self._ended.set()
        with self._busy:
            if self._etag is not None and not self._lost:
                with suppress(StoreError):
                    if self._is_ours(self._read()):
                        self._store.delete(self._key)
            self._etag = None

    def _put(self, *, new: bool = False, replaces: str | None = None) -> str:
        body = {"owner": self._token, "expires_after_s": EXPIRES_S, **this_process()}
        data = json.dumps({**body, "written": uuid.uuid4().hex}).encode()  # another version each time
        return self._store.put(self._key, data, new=new, replaces=replaces, kind="application/json")

    def _read(self) -> tuple[dict[str, Any], str] | None:
        """What the object holds, and its version; None where there is none."""
        entry = self._store.head(self._key)
        try:
            data = b"" if entry is None else self._store.get(self._key)
        except ObjectMissingError:
            return None
        if entry is None:
            return None
        try:
            found = json.loads(data)
        except ValueError:
            found = {}
        return (found if isinstance(found, dict) else {}), entry.etag

    def _is_ours(self, found: tuple[dict[str, Any], str] | None) -> bool:
        return found is not None and found[0].get("owner") == self._token

    def _taken_over(self) -> str:
        """The version that this run wrote over one that was not renewed.

        Raises:
            BlockingIOError: It is renewed.
        """
        found, began = self._read(), time.monotonic()
        begin("finding out whether the run that holds the lock has ended")
        while True:
            if found is not None and self._is_ours(found):
                return found[1]  # the store wrote it, and its answer was lost
            try:
                if found is None:
                    return self._put(new=True)
                if has_ended(found[0]) or time.monotonic() - began > _seconds(found[0]):
                    return self._put(replaces=found[1])
            except ObjectExistsError:  # another run was quicker
                found = self._read()
                if not self._is_ours(found):
                    raise BlockingIOError(self._name) from None
                continue
            time.sleep(_POLL_S)
            now = self._store.head(self._key)
            if now is None:
                found = None
            elif now.etag != found[1]:
                raise BlockingIOError(self._name)

    def _check_conditions(self) -> None:
        """Refuse a store that writes over an object whatever the condition."""
        before = self._etag
        self._etag = self._put(replaces=before)
        try:
            self._etag = self._put(replaces=before)
        except ObjectExistsError:
            return
        self.release()
        raise JobError(
            f"Cannot lock '{self._name}': the store replaces an object that it was told to keep, so it cannot keep two "
            "runs apart. Pass --scratch in a store with conditional puts, or leave it out."
        )

    def _renew_until_ended(self) -> None:
        while not self._ended.wait(RENEW_S):
            with suppress(StoreError):  # tried again at the next turn
                self._renew()

    def _renew(self) -> None:
        with self._busy:
            if self._etag is None or self._lost:
                return
            try:
                self._etag = self._put(replaces=self._etag)
            except (ObjectExistsError, ObjectMissingError):
                found = self._read()
                if found is not None and self._is_ours(found):  # the answer to an earlier renewal was lost
                    self._etag = found[1]
                else:
                    self._lost = True


def this_process() -> dict[str, Any]:
    """What identifies this process on its machine, as far as the system tells."""
    process = psutil.Process()
    found = {"host": platform.node(), "pid": process.pid, "born": process.create_time()}
    with suppress(OSError):
        found["boot"] = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        found["processes"] = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - it leads to no path
    return found


def has_ended(owner: dict[str, Any]) -> bool:
    """Whether a process that says this of itself ran on this machine and has ended; False where nobody knows."""
    here = this_process()
    if "processes" not in here or any(owner.get(k) != here[k] for k in ("host", "boot", "processes")):
        return False
    try:
        return bool(psutil.Process(int(owner["pid"])).create_time() != owner["born"])
    except psutil.NoSuchProcess:
        return True
    except (KeyError, TypeError, ValueError, psutil.Error):
        return False


def _seconds(owner: dict[str, Any]) -> float:
    """How long a lock holds without being renewed."""
    said = owner.get("expires_after_s")
    return float(said) if isinstance(said, int | float) and 0 < said <= EXPIRES_S else EXPIRES_S
