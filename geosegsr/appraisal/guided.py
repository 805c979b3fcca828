"""How well a guide predicted the detail of the bands that it sharpened, by the tags of the result."""

from __future__ import annotations

import math
from collections.abc import Mapping

from geosegsr.appraisal.survey import Survey, band_names

_KEYS = tuple(f"GEOSEGSR_DETAIL_{name}" for name in ("EXPLAINED", "RMSE", "RMSE_ALONE", "CONSISTENCY"))
Numbers = tuple[float, float, float, float]


def guided_detail(survey: Survey) -> list[tuple[str, Numbers]]:
    """The numbers of each sharpened band.

    They are the share of its detail that the guide explains, the error with and without it in DN, both one
    level coarser, and the RMS difference from the input, reduced again, in DN.
    """
    bands = zip(band_names(survey), survey.pair.result.image_metadata, strict=True)
    found = [(name, _numbers(band.tags)) for name, band in bands]
    return [(name, numbers) for name, numbers in found if numbers is not None]


def _numbers(tags: Mapping[str, str]) -> Numbers | None:
    try:
        explained, with_it, alone, off = (float(tags[key]) for key in _KEYS)
    except (KeyError, ValueError):
        return None
    numbers = (explained, with_it, alone, off)
    return numbers if all(math.isfinite(number) for number in numbers) else None
