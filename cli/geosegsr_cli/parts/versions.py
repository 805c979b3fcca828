"""The versions of what geosegsr computes with, for reports of faults."""

from __future__ import annotations

import platform
from importlib.metadata import version

from geosegsr.version import __version__


def versions() -> list[tuple[str, str]]:
    """Each library with its version, and the device that models run on; loads GDAL and torch."""
    import rasterio

    from geosegsr.models.device import choose_device

    return [
        ("geosegsr", __version__),
        ("Python", f"{platform.python_version()} on {platform.platform()}"),
        ("GDAL", rasterio.__gdal_version__),
        ("rasterio", rasterio.__version__),
        ("torch", version("torch")),
        ("device", str(choose_device("auto"))),
    ]
