"""Rasters behind a network: how long GDAL waits and how often it tries, and what tells one version from another.

GDAL keeps what it has read of a remote file for the life of the process, and does not notice that the file changes. Its C
functions that say what the server has now, and that forget the rest, are not part of rasterio; they are called here.
"""

from __future__ import annotations

import ctypes
import logging
import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache, lru_cache
from http.client import HTTPException
from itertools import count
from urllib.request import Request, urlopen

import rasterio
from rasterio import _env as rasterio_env
from rasterio._path import _parse_path, _vsi_path
from rasterio.errors import RasterioError

from geosegsr.errors import GeoSegSRWarning, SceneError, redact_record
from geosegsr.files import is_remote
from geosegsr.notices import warn
from geosegsr.raster.signing import VARIABLE, expire, has_query, signed
from geosegsr.raster.store_options import store_options

NETWORK_DEFAULTS = {
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_TIMEOUT": "300",
    "GDAL_HTTP_LOW_SPEED_TIME": "20",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_RETRY_CODES": "408,429,500,502,503,504",
}
"""GDAL's options, in seconds and bytes per second, where the user has set none: GDAL itself waits for ever and never
tries again. Dropped connections are tried again, too; the delay doubles each time."""

_IDENTIFYING = {"content-length": "size", "last-modified": "modified", "etag": "etag"}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/")
_RANGE_PATIENCE_S = 10
_RETRY = re.compile(r"HTTP error code: (\d+) - (\S+)\. Retrying again")
_seen: dict[str, dict[str, str]] = {}
_seen_lock = threading.Lock()
_retried: set[str] = set()


def _watch(record: logging.LogRecord) -> bool:
    """A filter of rasterio's loggers, to which GDAL's messages go: redacts them, and warns once of each troubled file.

    No error may leave it: GDAL is on the way down.
    """
    redact_record(record)
    found = _RETRY.search(str(record.msg))
    if found is not None and found[2] not in _retried:
        _retried.add(found[2])
        trouble = f"HTTP status {found[1]}" if found[1] != "0" else "a broken connection"
        with suppress(GeoSegSRWarning):
            warn(f"'{found[2]}': {trouble}; GDAL tries again")
    return True


for _name in ("rasterio._env", "rasterio._err"):
    logging.getLogger(_name).addFilter(_watch)


def network_options(path: str = "") -> dict[str, str]:
    """NETWORK_DEFAULTS without those that the environment or GDAL's configuration sets.

    Args:
        path: What is read. Beside one that carries options or a query, such as /vsicurl?url=... or a signed address, no
            other files are looked for: GDAL would append their names to the last option, search without end, and ask
            other addresses with the signature. Python's other threads stand still until the server answers.
    """
    get = rasterio_env.get_gdal_config
    alone = path.startswith("/vsicurl?") or has_query(path)
    beside = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"} if alone else {}
    wanted = NETWORK_DEFAULTS | beside | store_options()
    return {name: value for name, value in wanted.items() if get(name) is None}


def version_of(path: str) -> dict[str, str]:
    """What the server says of a remote file now: its size, time of change and ETag.

    If they differ from what it said before, GDAL forgets what it has read of the file.

    Returns:
        "size", "modified" and "etag", as far as the server gives them; nothing for a file system without them.

    Raises:
        SceneError: The server does not answer.
    """
    library = _gdal()
    if library is None or not is_remote(path):
        return {}
    began = time.monotonic()
    name, lines, reason = _headers(library, path)
    if not lines and expire(path, began):
        name, lines, reason = _headers(library, path)
    if not lines and name.startswith("/vsicurl"):
        raise SceneError(f"Cannot read '{path}': {reason or 'the server gives no answer'}. {advice(reason)}")
    pairs = (line.partition("=") for line in lines)
    found = {
        _IDENTIFYING[key.lower()]: value for key, _, value in pairs if value and key.lower() in _IDENTIFYING
    }
    with _seen_lock:
        changed = _seen.get(name, found) != found
        _seen[name] = found
    if changed:
        forget(path)
    return found


def _headers(library: ctypes.CDLL, path: str) -> tuple[str, list[str], str]:
    """What GDAL calls a file, the headers of its answer, and why there are none."""
    name = gdal_name(path)
    with rasterio.Env(**network_options(path)):
        library.VSIErrorReset()
        lines = list(_lines(library, name))
        return name, lines, library.VSIGetLastErrorMsg().decode(errors="replace")


def last_version(path: str) -> tuple[str, ...]:
    """What `version_of` found last, without asking again."""
    return tuple(_seen.get(gdal_name(path), {}).values())


def forget(path: str) -> None:
    """Have GDAL forget what it has read of a remote file, so that it is read anew."""
    library = _gdal()
    if library is not None:
        with rasterio.Env(**network_options(path)):  # the endpoint is a part of what GDAL calls a file
            library.VSICurlPartialClearCache(gdal_name(path).encode())


def gdal_name(path: str) -> str:
    """A path as GDAL knows it: /vsicurl/https://... for https://..., with its present signature."""
    try:
        return str(_vsi_path(_parse_path(signed(path))))
    except (RasterioError, ValueError):  # reported when it is opened
        return path


def advice(reason: str) -> str:
    """What to do about an HTTP status or a failure of the connection; empty if the reason is neither.

    Args:
        reason: GDAL's, such as "HTTP response code: 404".
    """
    status = re.search(r"HTTP response code\D*(\d+)", reason)
    if status is None:
        broken = reason.startswith("CURL error") or not reason
        return "Check the address and the connection, and repeat the command." if broken else ""
    if status[1] in ("400", "401", "403"):  # 400 is what Google says of an address that has expired
        return (
            "Check the credentials. If the address has expired, repeat the command with a new one, which resumes the run, or "
            f"set {VARIABLE} to a command that prints one."
        )
    if status[1] in ("404", "410"):
        return "Check the address."
    return "The server is busy or fails: repeat the command later."


@lru_cache(maxsize=4096)
def check_ranges(path: str) -> None:
    """Refuse a server that answers a request for a part of a file with another part, which GDAL would not notice.

    A server that cannot be asked this way, such as one that wants a password, is not checked.

    Args:
        path: A remote file; only http:// and https:// are checked.

    Raises:
        SceneError: The server does so.
    """
    url = gdal_name(path).removeprefix("/vsicurl/")
    if not url.startswith(("http://", "https://")):
        return
    first, second = _part(url, 100, 199), _part(url, 150, 249)
    if first is None or second is None:
        return
    (start, content), (next_start, next_content) = first, second
    if (start, next_start) != (100, 150) or not next_content.startswith(content[50:]):
        raise SceneError(
            f"Cannot read '{url}': the server answers a request for bytes 100 to 199 with others (from {start}). "
            "Download the file, and pass the copy."
        )


def _part(url: str, first: int, last: int) -> tuple[int, bytes] | None:
    """What a server sends as some bytes of a file: the position it names, and the bytes; None if it does not."""
    request = Request(url, headers={"Range": f"bytes={first}-{last}"})
    try:
        with urlopen(request, timeout=_RANGE_PATIENCE_S) as answer:
            named = _CONTENT_RANGE.match(answer.headers.get("Content-Range", ""))
            length = last - first + 1
            content = answer.read(length) if named and answer.status == 206 else b""
    except (OSError, ValueError, HTTPException):
        return None
    return (int(named[1]), content) if named and len(content) == length else None


def _lines(library: ctypes.CDLL, name: str) -> Iterator[str]:
    """The headers of a file's answer, as NAME=VALUE."""
    listed = library.VSIGetFileMetadata(name.encode(), b"HEADERS", None)
    if not listed:
        return
    pointers = ctypes.cast(listed, ctypes.POINTER(ctypes.c_char_p))
    try:
        for line in iter(map(pointers.__getitem__, count()).__next__, None):
            yield line.decode(errors="replace")
    finally:
        library.CSLDestroy(listed)


@cache
def _gdal() -> ctypes.CDLL | None:
    """The GDAL that rasterio uses; None where its functions cannot be found, as on Windows."""
    try:
        library = ctypes.CDLL(rasterio_env.__file__)
        library.VSIGetFileMetadata.restype = ctypes.c_void_p
        library.VSIGetFileMetadata.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p]
        library.CSLDestroy.argtypes = [ctypes.c_void_p]
        library.VSICurlPartialClearCache.argtypes = [ctypes.c_char_p]
        library.VSIErrorReset.argtypes = []
        library.VSIGetLastErrorMsg.restype = ctypes.c_char_p
    except (OSError, AttributeError):
        return None
    return library
