"""An appraisal as text, and its numbers by band in DN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from geosegsr.appraisal.survey import Survey, band_names
from geosegsr.appraisal.verdict import Verdict


@dataclass(frozen=True)
class BandRow:
    """Agreement of one band with its input, in DN where nothing else is said."""

    name: str
    level: float
    """Mean difference, result less input."""
    level_share: float
    """The same as a share of the span."""
    contrast: float
    """Slope of the result over the input, less 1."""
    rms: float
    """RMS difference, the level left out."""
    bicubic: float
    """RMS difference of bicubic interpolation."""
    noise: float
    """Noise and compression of the input."""


def band_rows(survey: Survey) -> list[BandRow]:
    """One for each band."""
    low, high = survey.pair.span
    steps = (high - low).ravel().tolist()
    rows = zip(band_names(survey), survey.agreement.bands, survey.imaging.noise, steps, strict=True)
    return [
        BandRow(
            name, band.level * dn, band.level, band.contrast, band.rms * dn, band.bicubic_rms * dn, noise * dn
        )
        for name, band, noise, dn in rows
    ]


def lines(surveys: Sequence[Survey], verdict: Verdict) -> list[str]:
    """The verdict, its findings and a table, for a terminal."""
    text = [
        f"{pair.result.path}, x{pair.scale}, against its input {pair.source.path}: without a truth, only what disagrees is found"
        for pair in (survey.pair for survey in surveys)
    ]
    text += [verdict.headline, *(f"  {finding.grade:5}  {finding}" for finding in verdict.findings)]
    text.append(f"{'DN':<16}{'level':>12}{'contrast':>10}{'RMS':>10}{'bicubic':>10}{'noise':>10}")
    for row in (row for survey in surveys for row in band_rows(survey)):
        text.append(
            f"{row.name:<16}{row.level:+12.4g}{row.contrast:+10.1%}{row.rms:10.4g}{row.bicubic:10.4g}{row.noise:10.3g}"
        )
    return text


def to_dict(surveys: Sequence[Survey], verdict: Verdict) -> dict[str, object]:
    """The same, for JSON; of several inputs the scale of the finest, and the shift that is the largest in its pixels."""
    shifts = [survey.agreement.shift for survey in surveys if survey.agreement.shift is not None]
    return {
        "name": surveys[0].pair.result.path,
        "scale": surveys[0].pair.scale,
        **verdict.to_dict(),
        "shift": max(shifts, key=lambda shift: math.hypot(*shift), default=None),
        "bands": [asdict(row) for survey in surveys for row in band_rows(survey)],
    }
