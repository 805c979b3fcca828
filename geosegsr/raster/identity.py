"""What tells one version of a raster from another."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from geosegsr.errors import redacted
from geosegsr.files import exists, is_file, is_remote
from geosegsr.raster.network import gdal_name, version_of

_PAGE = 4096  # bytes of a source's content sampled in one place
_SAMPLED_PAGES = 64  # of all its files together
_ASKED_FILES = 64  # of the remote files of a raster, one request each
_ARCHIVE = re.compile(
    r"/vsi(?:zip|tar|gzip|7z|rar)/\{?(.+?\.(?:zip|kmz|tar\.gz|tgz|tar|gz|7z|rar))(?=[/}?]|$)"
)


def source_identity(path: str, files: Sequence[str] = ()) -> dict[str, Any]:
    """What identifies a raster.

    A local raster is identified by path, size, modification time, and a digest of these and of some content of all its
    files (mask, overviews, the rasters of a VRT). The content tells apart copies of equal size that kept their times.
    A remote raster is identified by its address and by what the server says of its files: size, time of change, ETag.
    The query of an address counts only if the server gives neither time nor ETag, so that a run can be resumed with a
    new signature.

    Args:
        path: The raster.
        files: All files that it consists of, itself included.

    Raises:
        SceneError: A server does not answer.
    """
    places = sorted({_container(part) for part in (path, *files)})
    local = [Path(place) for place in places if is_file(place)]
    remote = sorted({gdal_name(place) for place in places if is_remote(place)})
    if not exists(path):
        own: dict[str, Any] = {"path": redacted(path)}
    else:
        status = Path(path).stat()
        own = {"path": str(Path(path).resolve()), "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    return own | _content(local) | _versions(remote)


def _container(part: str) -> str:
    """The archive that a file lies in, or else the file itself."""
    found = _ARCHIVE.match(part)
    return part if found is None else found[1]


def _content(parts: Sequence[Path]) -> dict[str, Any]:
    if not parts:
        return {}
    digest = hashlib.sha256()
    for part in parts:
        digest.update(_sample(part, max(2, _SAMPLED_PAGES // len(parts))))
    return {"content": digest.hexdigest()}


def _sample(path: Path, pages: int) -> bytes:
    """Name, size, modification time and evenly spaced pages of a file, the first and the last included."""
    status = path.stat()
    last = max(0, status.st_size - _PAGE)
    with path.open("rb") as file:
        found = [f"{path} {status.st_size} {status.st_mtime_ns}".encode()]
        for start in sorted({last * n // (pages - 1) for n in range(pages)}):
            file.seek(start)
            found.append(file.read(_PAGE))
    return b"".join(found)


def _versions(names: Sequence[str]) -> dict[str, Any]:
    """What servers say of files: of one file as it is, of several a digest."""
    asked = names[:: -(-len(names) // _ASKED_FILES)] if names else ()
    found = [_version(name) for name in asked]
    if len(found) < 2:
        return found[0] if found else {}
    return {
        "versions": _digest(f"{redacted(name)} {version}" for name, version in zip(asked, found, strict=True))
    }


def _version(name: str) -> dict[str, str]:
    found = version_of(name)
    return found if found.keys() & {"modified", "etag"} else found | {"address": _digest([name])}


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode(errors="replace")).hexdigest()
