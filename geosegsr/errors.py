"""All errors of the package.

Every message says what could not be done and to which file, what was found, what was needed, and what to type. Each class
is also the builtin exception that a caller without knowledge of this package would catch.
"""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: " Did you mean '...'?", or nothing if no known word is near."""
    near = get_close_matches(word, list(known), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


class GeoSegSRError(Exception):
    """Base of every error that this package raises on purpose."""


class SceneError(GeoSegSRError, OSError):
    """A raster cannot be opened, read or written."""


class BandError(GeoSegSRError, ValueError):
    """The bands that were asked for, found or needed do not fit together."""


class WindowError(GeoSegSRError, ValueError):
    """A window, tile, overlap or area of interest is impossible for the scene."""


class ConfigError(GeoSegSRError, ValueError):
    """An option or a configuration has a value that cannot work."""


class CheckpointError(GeoSegSRError, ValueError):
    """A model file is damaged, is no model of this package, or does not fit."""


class DependencyError(GeoSegSRError, ImportError):
    """An optional package is missing; the message names the extra to install."""


class JobError(GeoSegSRError, RuntimeError):
    """A run cannot start or continue: another run is active, or the target exists."""


class VerificationError(GeoSegSRError, RuntimeError):
    """A finished file differs from what was computed; it was not moved into place."""


class Cancelled(GeoSegSRError):  # noqa: N818 - a request that was followed, not an error
    """The run was asked to stop, and stopped between two tiles."""


class GeoSegSRWarning(UserWarning):
    """Something was assumed that the user may want to override."""
