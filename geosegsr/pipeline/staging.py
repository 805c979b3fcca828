"""The local folder in which results for an object store are made.

ROOT/s3/bucket/key.tif              what becomes s3://bucket/key.tif; removed once it is there
ROOT/s3/bucket/key.tif.geosegsr/    its job folder, by which the same command resumes it
ROOT/s3/bucket/key.tif.upload       the upload that is under way, which the next run gives up
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_IWGRP, S_IWOTH

from geosegsr.errors import ConfigError, SceneError
from geosegsr.pipeline.prefix_state import prefix_beside, prefix_of
from geosegsr.stores.address import Address, address_of


@dataclass(frozen=True)
class Staging:
    """Local paths of the results that go to stores."""

    root: Path
    state: Address | None = None
    """The prefix of a store below which the state of runs lies; by default it lies beside each result."""

    @classmethod
    def at(cls, scratch: str | Path | None) -> Staging:
        """The folder that the user names, or one of this user in the system's temporary folder; nothing is created yet.

        Args:
            scratch: A folder, or a prefix of a store for the state of runs.

        Raises:
            ConfigError: It is a prefix that cannot be used.
        """
        state = None if scratch is None else address_of(scratch)
        if scratch is not None and state is None:
            return cls(Path(scratch).absolute())
        try:
            temporary = tempfile.gettempdir()
        except FileNotFoundError:  # none is writable; a local result needs none
            temporary = os.environ.get("TMPDIR") or "/tmp"
        return cls(Path(temporary).absolute() / f"geosegsr-{os.getuid()}", state)

    def path(self, address: Address) -> Path:
        """Where a result is made."""
        return self.root / address.scheme / address.bucket / address.key

    def address(self, path: Path) -> Address | None:
        """Where a result goes; None for one that stays where it is."""
        try:
            scheme, bucket, first, *rest = path.absolute().relative_to(self.root).parts
        except ValueError:
            return None
        return Address(scheme, bucket, "/".join((first, *rest)))

    def prefix(self, target: Path, *, elsewhere: bool) -> Address | None:
        """The prefix of a store below which the state of a run lies; None for a folder beside its target.

        Args:
            target: The local path of the result.
            elsewhere: Whether other machines compute the blocks. They may share no folder with this one.
        """
        address = self.address(target)
        if self.state is not None:
            return prefix_of(self.state, str(address or target.absolute()))
        return prefix_beside(address) if address is not None and elsewhere else None

    def shown(self, path: Path) -> str:
        """What messages and reports call a result."""
        return str(self.address(path) or path)

    def make(self, folder: Path) -> None:
        """Create a folder below the root.

        Raises:
            SceneError: It cannot be created, or another user could write to the root.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self.root.lstat()
            safe = S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
            if not safe or status.st_mode & (S_IWGRP | S_IWOTH):
                raise SceneError(
                    f"Cannot write results to '{self.root}' before they are sent: others may write there. "
                    "Pass --scratch with a folder of your own."
                )
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if isinstance(error, SceneError):
                raise
            raise SceneError(
                f"Cannot write results to '{folder}' before they are sent: {error.strerror or error}. "
                "Pass --scratch with a folder that you may write."
            ) from error

    def clear(self, folder: Path) -> None:
        """Remove a folder and those above it that are empty, below the root."""
        while folder != self.root and folder.is_relative_to(self.root):
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent


def check_scratch(targets: Iterable[Path], scratch: str | Path | None) -> None:
    """Refuse a folder for results on their way to a store where none goes to one.

    Raises:
        ConfigError: It is so.
    """
    if (
        scratch is not None
        and address_of(scratch) is None
        and not any(address_of(target) for target in targets)
    ):
        raise ConfigError(
            "Cannot use a folder for --scratch: the results are local. Leave it out, or pass -o s3://BUCKET/KEY."
        )
