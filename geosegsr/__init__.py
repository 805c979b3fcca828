"""Super-resolution of georeferenced rasters.

Names load on first use, so that importing this package loads neither torch nor rasterio.
"""

import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geosegsr.arrays import super_resolve
    from geosegsr.runplan import Plan, plan
    from geosegsr.upscale import Report, upscale

try:
    __version__ = version("geosegsr")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

_HOMES = {
    "Plan": "geosegsr.runplan",
    "Report": "geosegsr.upscale",
    "plan": "geosegsr.runplan",
    "super_resolve": "geosegsr.arrays",
    "upscale": "geosegsr.upscale",
}

__all__ = ["Plan", "Report", "__version__", "plan", "super_resolve", "upscale"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'geosegsr' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


class _Package(ModuleType):
    """Python binds a submodule to its package on import; `geosegsr.upscale` must stay the function all the same."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
