"""The version of this package, as it is installed."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("geosegsr")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
