"""Super-resolution of georeferenced rasters.

Names load on first use, so that importing this package loads neither torch nor rasterio.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from geosegsr.errors import redact_record
from geosegsr.version import __version__

if TYPE_CHECKING:
    from geosegsr.appraisal.report import report
    from geosegsr.evaluation.score import evaluate
    from geosegsr.pipeline.arrays import super_resolve
    from geosegsr.pipeline.plan import Plan, plan
    from geosegsr.pipeline.report import Report
    from geosegsr.pipeline.upscale import upscale
    from geosegsr.training.run import train

_HOMES = {
    "Plan": "geosegsr.pipeline.plan",
    "Report": "geosegsr.pipeline.report",
    "evaluate": "geosegsr.evaluation.score",
    "plan": "geosegsr.pipeline.plan",
    "report": "geosegsr.appraisal.report",
    "super_resolve": "geosegsr.pipeline.arrays",
    "train": "geosegsr.training.run",
    "upscale": "geosegsr.pipeline.upscale",
}

logging.getLogger("geosegsr").addFilter(redact_record)

__all__ = ["Plan", "Report", "__version__", "evaluate", "plan", "report", "super_resolve", "train", "upscale"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'geosegsr' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
