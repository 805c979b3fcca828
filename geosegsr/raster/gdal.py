"""This thread's open files, and GDAL's errors as ours. Every use of rasterio's private API is here and in network."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError, RasterioIOError

from geosegsr.errors import SceneError
from geosegsr.files import check_path, exists, is_file, is_folder, is_remote
from geosegsr.raster.archive import Archive, prefix_of
from geosegsr.raster.network import (
    advice,
    check_ranges,
    forget,
    gdal_name,
    last_version,
    network_options,
    version_of,
)
from geosegsr.raster.signing import expire, signed
from geosegsr.raster.window import Window

GDALError = CPLE_BaseError
"""What GDAL raises where rasterio does not translate it."""
_HANDLES_A_THREAD = 4  # a thread works on one scene at a time
CACHE_BYTES = 128 << 20  # GDAL's block cache, for all threads together; rasterio takes bytes, GDAL itself MB
# A file is opened as its name says: a downloaded .tif must not turn out to be a list of other files or URLs.
_DRIVERS = {".tif": "GTiff", ".tiff": "GTiff"}
_READERS = {
    ".ecw": ("ECW", "JP2ECW"), ".sid": ("MrSID",), ".hdf": ("HDF4", "HDF5"), ".h5": ("HDF5",), ".nc": ("netCDF", "HDF5"),
    ".jp2": ("JP2OpenJPEG", "JP2KAK", "JP2ECW", "JP2MrSID"), ".jxl": ("JPEGXL",), ".grib": ("GRIB",), ".grb2": ("GRIB",),
    ".avif": ("AVIF",), ".heic": ("HEIF",), ".kea": ("KEA",), ".fits": ("FITS",),
}  # fmt: skip
"""Drivers, any of which reads the format; builds of GDAL leave some out."""
_PAGE = "It is a web page: check the address that it was downloaded from, and whether that needs a login."
_IN_ITS_PLACE = {
    b"version https://git-lfs": "It is a pointer of Git LFS: fetch the file itself with git lfs pull.",
    b"<!doctype html": _PAGE,
    b"<html": _PAGE,
}
_IMAGES = (".tif", ".tiff", ".jp2", ".img", ".nitf", ".ntf", ".vrt", ".png", ".jpg", ".jpeg")
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
        with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES, **network_options(str(path))):
            yield _handle(str(path))
    except (RasterioIOError, GDALError) as error:
        forget_handles()
        if window is None:
            raise _cannot_open(named, error) from _shown(path, error)
        reason = gdal_reason(error)
        raise SceneError(
            f"Cannot read '{named}'{where}: the file is damaged, incomplete or unreachable ({reason}). "
            f"{advice(reason) or 'Download or copy it again.'}"
        ) from _shown(path, error)
    except (RasterioError, CRSError) as error:
        raise SceneError(f"Cannot read '{named}'{where}: {gdal_reason(error)}.") from _shown(path, error)
    except UnicodeDecodeError as error:
        raise SceneError(
            f"Cannot read '{named}'{where}: it holds text that is not UTF-8. Leave that out: gdal_translate -nomd IN OUT.tif."
        ) from _shown(path, error)


def read_pixels(path: str, window: Window, name: str, read: Callable[[Any], NDArray[Any]]) -> NDArray[Any]:
    """What `read` gets from this thread's handle of a file.

    GDAL repeats requests that fail, but not those whose answers break off. A remote file is read a second time, from
    the network, with a new signature where there is a command for that.

    Args:
        path: The file.
        window: What is read, for the message.
        name: What messages call the file.
        read: Takes rasterio's dataset.

    Raises:
        SceneError: The file cannot be read there.
    """
    began = time.monotonic()
    try:
        with reading(path, window, name) as source:
            return read(source)
    except SceneError:
        if not is_remote(path):
            raise
    forget(path)
    expire(path, began)
    with reading(path, window, name) as source:
        return read(source)


def renew(path: str | Path) -> None:
    """Drop what GDAL has read of a remote file if the server has another version now.

    Raises:
        SceneError: The server does not answer.
    """
    if is_remote(str(path)):
        version_of(str(path))


def _shown(path: str | Path, error: Exception) -> Exception | None:
    """The cause to show below an error; none where it may hold the address of a remote file with its secrets."""
    return None if is_remote(str(path)) else error


def _missing_driver(path: str) -> str:
    """What to do about a format that GDAL knows and this build of it leaves out; "" for other files."""
    wanted = _READERS.get(Path(path).suffix.lower(), ())
    with rasterio.Env() as env:
        known = env.drivers()
    if not wanted or any(driver in known for driver in wanted):
        return ""
    return (
        f"This GDAL has no {wanted[0]} driver. Convert the file with one that has: gdal_translate IN OUT.tif."
    )


def _in_its_place(path: str) -> str:
    """What to do about a file that a download left in the place of another; "" for other files."""
    try:
        with Path(path).open("rb") as file:
            begin = file.read(200).lstrip().lower()
    except OSError:
        return ""
    return next((needed for mark, needed in _IN_ITS_PLACE.items() if begin.startswith(mark)), "")


def _inside_archive(path: str) -> str:
    """What to do about an archive that is no product; "" for other files."""
    archive = Archive.of(path) if prefix_of(path) else None
    if archive is None:
        return ""
    images = [name for name in archive.names if name.lower().endswith(_IMAGES)]
    if not images:
        return "It is an archive that holds no raster. Pass a file that GDAL can open."
    return f"It is an archive: pass a raster in it, such as '{prefix_of(path)}{path}/{images[0]}'."


def _cannot_open(path: str, error: Exception) -> SceneError:
    remote = is_remote(path)
    if not remote and not exists(path):
        meant = path.strip(" \t'\"")  # a line of a list may have quotes, or blanks at its end
        needed = "Write standard input to a file first." if path == "-" else "Check the path."
        if meant != path and exists(meant):
            needed = f"Did you mean '{meant}'? Pass it without quotes and blanks."
        return SceneError(f"Cannot open '{path}': no such file. {needed}")
    if not remote and is_folder(path):
        return SceneError(
            f"Cannot open '{path}' as a raster: it is a folder that holds no product. Pass a file inside it."
        )
    if not remote and is_file(path) and not Path(path).stat().st_size:
        return SceneError(f"Cannot open '{path}' as a raster: the file is empty. Copy or download it again.")
    reason = gdal_reason(error).removeprefix(f"'{path}' ").removeprefix(f"'{gdal_name(path)}' ")
    needed = (
        advice(reason) if remote else _inside_archive(path) or _in_its_place(path) or _missing_driver(path)
    )
    if not remote and path.lower().endswith(".json"):
        needed = "It is no STAC item either, of type 'Feature' with 'stac_version' and 'assets'. Pass one, or a raster."
    return SceneError(
        f"Cannot open '{path}' as a raster: {reason}. {needed or 'Pass a file that GDAL can open.'}"
    )


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
            opened[key] = _open(path)
    return opened[key]


def _open(path: str) -> Any:
    """A remote file is tried once more, from the network, unless GDAL has done so: its answer may have broken off."""
    driver = _DRIVERS.get(Path(path).suffix.lower())
    if not is_remote(path):
        return rasterio.open(path, driver=driver)
    check_ranges(path)
    began = time.monotonic()
    try:
        return rasterio.open(signed(path), driver=driver)
    except RasterioIOError as error:
        if not expire(path, began) and advice(gdal_reason(error)):
            raise
    forget(path)
    return rasterio.open(signed(path), driver=driver)


def _version(path: str) -> tuple[int | str, ...]:
    """Changes when another file is moved to the path."""
    if is_remote(path):
        return last_version(path)
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
