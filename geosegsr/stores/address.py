"""Names of objects: s3://bucket/key, gs://bucket/key, az://container/key, and GDAL's names of the same."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from geosegsr.errors import ConfigError

_GDAL = {"s3": "/vsis3/", "gs": "/vsigs/", "az": "/vsiaz/"}
_URL = re.compile(r"(s3|gs|az)://([^/]+)(?:/(.*))?", re.DOTALL)
_SLASH_LOST = re.compile(r"(s3|gs|az):/(?!/)")
_FORBIDDEN = re.compile(r"[?#\x00-\x1f\x7f]|(^|/)\.{0,2}(/|$)")


@dataclass(frozen=True)
class Address:
    """The place of an object in a store, or of all objects whose keys begin alike."""

    scheme: str
    """"s3", "gs" or "az"."""
    bucket: str
    """Bucket, or container of Azure's account."""
    key: str
    """Without a slash at its begin; ends in one, or is empty, for a prefix."""

    @classmethod
    def parse(cls, text: str) -> Address:
        """An address from a URL or from GDAL's name: s3://bucket/key or /vsis3/bucket/key.

        Raises:
            ConfigError: It is no such name, or a store or GDAL would take its key for another one.
        """
        found = _URL.fullmatch(_as_url(text))
        if found is None:
            raise ConfigError(
                f"Cannot use '{text}' as a place in an object store. Pass s3://BUCKET/KEY, gs://BUCKET/KEY or az://CONTAINER/KEY."
            )
        scheme, bucket, key = found[1], found[2], found[3] or ""
        if _FORBIDDEN.search(key.removesuffix("/")) and key:
            raise ConfigError(
                f"Cannot use '{text}' as a place in an object store: a part of its key is empty or a dot, or it has '?', "
                "'#' or a control character. Pass another key."
            )
        return cls(scheme, bucket, key)

    @property
    def root(self) -> str:
        """The URL of the bucket."""
        return f"{self.scheme}://{self.bucket}"

    @property
    def gdal(self) -> str:
        """What GDAL calls it."""
        return f"{_GDAL[self.scheme]}{self.bucket}/{self.key}"

    @property
    def name(self) -> str:
        """The part of the key after its last slash."""
        return self.key.rpartition("/")[2]

    def __str__(self) -> str:
        return f"{self.root}/{self.key}"

    def beside(self, name: str) -> Address:
        """An object under the same prefix."""
        folder, slash, _ = self.key.rpartition("/")
        return Address(self.scheme, self.bucket, f"{folder}{slash}{name}")

    def __truediv__(self, name: str) -> Address:
        """An object below this prefix."""
        prefix = self.key if not self.key or self.key.endswith("/") else f"{self.key}/"
        return Address(self.scheme, self.bucket, prefix + name)


def address_of(target: str | Path) -> Address | None:
    """The place in a store that a target names; None for a local one.

    Raises:
        ConfigError: Its key cannot be used.
    """
    text = str(target)
    if not is_in_store(text) or (not text.startswith("/") and Path(Path(text).parts[0]).exists()):
        return None  # a local folder may be called "s3:"
    return Address.parse(text)


def is_in_store(text: str) -> bool:
    """Whether a name is that of a place in an object store, as a URL or as GDAL says it."""
    return _as_url(text).startswith(tuple(f"{scheme}://" for scheme in _GDAL))


def _as_url(text: str) -> str:
    """The URL of what may be GDAL's name; pathlib drops a slash, which is put back."""
    for scheme, name in _GDAL.items():
        if text.startswith(name):
            return f"{scheme}://{text.removeprefix(name)}"
    return _SLASH_LOST.sub(r"\1://", text, count=1)
