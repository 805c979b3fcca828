"""Super-resolution of georeferenced rasters.

Names load on first use, so that importing this package loads neither torch nor rasterio.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geosegsr.arrays import super_resolve
    from geosegsr.upscale import Plan, Report, plan, upscale

try:
    __version__ = version("geosegsr")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

_HOMES = {
    "Plan": "geosegsr.upscale",
    "Report": "geosegsr.upscale",
    "plan": "geosegsr.upscale",
    "super_resolve": "geosegsr.arrays",
    "upscale": "geosegsr.upscale",
}

__all__ = ["Plan", "Report", "__version__", "plan", "super_resolve", "upscale"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'geosegsr' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # a submodule of the same name must not shadow the function
    return value
