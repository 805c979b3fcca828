"""All errors of the package.

Every message says what could not be done and to which file, what was found, what was needed, and what to type. Each class
is also the builtin exception that a caller without knowledge of this package would catch.
"""

import logging
import re
import sys
import traceback
from collections.abc import Iterable
from difflib import get_close_matches
from importlib.util import find_spec
from urllib.parse import unquote

_URL_CHARACTERS = r"""[^\s'"<>|]"""
_OPTION_PATH = re.compile(
    rf"/vsi(\w+)\?(?:{_URL_CHARACTERS}*?&)?url=([^\s'\"<>|&]*){_URL_CHARACTERS}*(?<![:,.;)])"
)
"""GDAL's way to pass options and an address in one path."""
_SECRETS = (
    (re.compile(r"(?<=://)[^/\s'\"<>@]+@"), ""),  # user:password@
    (re.compile(rf"(://{_URL_CHARACTERS}*?)\?{_URL_CHARACTERS}*(?<![:,.;)])"), r"\1"),
    (re.compile(rf"\?[\w.~%-]+={_URL_CHARACTERS}*(?<![:,.;)])"), ""),  # of an address cut to its last part
    (
        re.compile(
            r"(?i)\b((?:pass(?:word|wd)|pwd|\w*token|\w*secret|sig|signature|api_?key|access_?key)=)[^\s'\"&<>,;]+"
        ),
        r"\1***",
    ),
)


def redacted(text: str) -> str:
    """A text without the queries, user names and passwords of addresses: they may be signatures and credentials.

    Every text that leaves the process passes here: errors, warnings, the log, JSON, STAC items and tags.

    Args:
        text: A path, an address, or a message with any number of them.
    """
    if "?" in text or "@" in text or "=" in text:
        text = _OPTION_PATH.sub(lambda found: f"/vsi{found[1]}/{unquote(found[2])}", text)
        for pattern, kept in _SECRETS:
            text = pattern.sub(kept, text)
    return text


def redact_record(record: logging.LogRecord) -> bool:
    """A filter of a logger: what is logged is redacted, tracebacks included, and nothing is left out."""
    record.msg, record.args = redacted(record.getMessage()), None
    if record.exc_info and record.exc_info[0] is not None:
        record.exc_text = redacted("".join(traceback.format_exception(*record.exc_info)).rstrip())
    return True


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: " Did you mean '...'?", or nothing if no known word is near."""
    near = get_close_matches(word, list(known), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


class GeoSegSRError(Exception):
    """Base of every error that this package raises on purpose; its message is redacted."""

    def __init__(self, *args: object) -> None:
        """As Exception, with the secrets of addresses removed from texts."""
        super().__init__(*(redacted(arg) if isinstance(arg, str) else arg for arg in args))


class SceneError(GeoSegSRError, OSError):
    """A raster cannot be opened, read or written."""


class BandError(GeoSegSRError, ValueError):
    """The bands that were asked for, found or needed do not fit together."""


class UnsuitableError(SceneError, BandError):
    """A raster is readable, and of a kind that cannot be upscaled: classes, complex numbers, a mask for each band."""


class WindowError(GeoSegSRError, ValueError):
    """A window, tile, overlap or area of interest is impossible for the scene."""


class ConfigError(GeoSegSRError, ValueError):
    """An option or a configuration has a value that cannot work."""


class MissingPackageError(ConfigError, ImportError):
    """A package of an extra is needed and not installed."""


def require(extra: str, task: str, *packages: str) -> None:
    """Check that the packages of an extra are installed, without importing them; the one place that says so.

    Args:
        extra: The extra of this package that installs them, as in pyproject.toml.
        task: What they are needed for, such as "train a model".
        packages: Names as imported.

    Raises:
        MissingPackageError: One is not installed.
    """
    missing = [name for name in packages if not _is_installed(name)]
    if missing:
        found = f"packages {', '.join(missing)} are" if len(missing) > 1 else f"package {missing[0]} is"
        raise MissingPackageError(
            f"Cannot {task}: the Python {found} not installed. Run pip install 'geosegsr[{extra}]'."
        )


def _is_installed(package: str) -> bool:
    if package in sys.modules:
        return sys.modules[package] is not None
    return find_spec(package) is not None


class CheckpointError(GeoSegSRError, ValueError):
    """A model file is damaged, is no model of this package, or does not fit."""


class JobError(GeoSegSRError, RuntimeError):
    """A run cannot start or continue: another run is active, or the target exists."""


class StoreError(GeoSegSRError, OSError):
    """An object store refuses a request, or does not answer."""


class ObjectMissingError(StoreError, FileNotFoundError):
    """There is no object under a key."""


class ObjectExistsError(StoreError, FileExistsError):
    """There is an object under a key that was to be new, or another one than the one to be replaced."""


class VerificationError(GeoSegSRError, RuntimeError):
    """A finished file differs from what was computed; it was not moved into place."""


class Cancelled(GeoSegSRError):  # noqa: N818 - a request that was followed, not an error
    """The run was asked to stop, and stopped between two tiles."""


class GeoSegSRWarning(UserWarning):
    """Something was assumed that the user may want to override."""
