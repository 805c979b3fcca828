"""This thread's open files, and GDAL's errors as ours. Every use of rasterio's private API is here."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError, RasterioIOError

from geosegsr.errors import SceneError
from geosegsr.files import check_path, exists, is_folder, is_remote
from geosegsr.raster.window import Window

GDALError = CPLE_BaseError
"""What GDAL raises where rasterio does not translate it."""
_HANDLES_A_THREAD = 4  # a thread works on one scene at a time
CACHE_BYTES = 128 << 20  # GDAL's block cache, for all threads together; rasterio takes bytes, GDAL itself MB
# A file is opened as its name says: a downloaded .tif must not turn out to be a list of other files or URLs.
_DRIVERS = {".tif": "GTiff", ".tiff": "GTiff"}
_handles = threading.local()


def read_tag(path: str | Path, name: str) -> str | None:
    """A raster's tag; None where it has none, or where there is no raster."""
    try:
        with reading(path) as source:
            value: str | None = source.tags().get(name)
    except SceneError:
        return None
    finally:
        forget_handles()  # the file may be about to be replaced
    return value


def forget_handles() -> None:
    """Close this thread's open files."""
    for source in _handles.__dict__.pop("open", {}).values():
        source.close()


def rio_window(window: Window) -> rasterio.windows.Window:
    """A window as rasterio takes it."""
    return rasterio.windows.Window(window.col, window.row, window.width, window.height)


@contextmanager
def reading(path: str | Path, window: Window | None = None, name: str | None = None) -> Iterator[Any]:
    """This thread's handle of a file; GDAL's errors become SceneErrors that name the file and the window.

    Args:
        path: What GDAL opens.
        window: What is to be read.
        name: What messages call it, where that is not its path.
    """
    named = str(path if name is None else name)
    where = (
        ""
        if window is None
        else f" at rows {window.row}-{window.row_stop}, columns {window.col}-{window.col_stop}"
    )
    try:
        # Inside an Env, GDAL's messages go to the log instead of the terminal.
        with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
            yield _handle(str(path))
    except (RasterioIOError, GDALError) as error:
        forget_handles()
        if window is None:
            raise _cannot_open(named, error) from error
        raise SceneError(
            f"Cannot read '{named}'{where}: the file is damaged, incomplete or unreachable ({gdal_reason(error)}). "
            "Download or copy it again."
        ) from error
    except (RasterioError, CRSError) as error:
        raise SceneError(f"Cannot read '{named}'{where}: {gdal_reason(error)}.") from error


def _cannot_open(path: str, error: Exception) -> SceneError:
    remote = is_remote(path)
    if not remote and not exists(path):
        return SceneError(f"Cannot open '{path}': no such file. Check the path.")
    if not remote and is_folder(path):
        return SceneError(
            f"Cannot open '{path}' as a raster: it is a folder that holds no product. Pass a file inside it."
        )
    reason = gdal_reason(error).removeprefix(f"'{path}' ")
    return SceneError(f"Cannot open '{path}' as a raster: {reason}. Pass a file that GDAL can open.")


def _handle(path: str) -> Any:
    opened: dict[Any, Any] = _handles.__dict__.setdefault("open", {})
    key = (path, _version(path))
    if key not in opened:
        check_path(path)
        if len(opened) >= _HANDLES_A_THREAD:
            forget_handles()
            opened = _handles.__dict__.setdefault("open", {})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            opened[key] = rasterio.open(path, driver=_DRIVERS.get(Path(path).suffix.lower()))
    return opened[key]


def _version(path: str) -> tuple[int, ...]:
    """Changes when another file is moved to the path."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns


def gdal_reason(error: BaseException) -> str:
    """GDAL's first message, in one line without a full stop."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, SystemError):  # rasterio's way to say so
        return "GDAL failed without a reason"
    text = str(getattr(error, "errmsg", "") or error)
    return " ".join(text.split()).rstrip(".") or type(error).__name__
