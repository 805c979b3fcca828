"""report(): what a result is worth, as one HTML file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from geosegsr.appraisal.charts import histogram_charts, spectrum_chart
from geosegsr.appraisal.guided import guided_detail
from geosegsr.appraisal.inputs import open_pairs
from geosegsr.appraisal.page import render
from geosegsr.appraisal.pair import Pair
from geosegsr.appraisal.pictures import View, uncertainty_map, views
from geosegsr.appraisal.places import MOST, TYPICAL, choose
from geosegsr.appraisal.steering import steering_of
from geosegsr.appraisal.survey import Survey, band_names
from geosegsr.appraisal.target import check_report_path
from geosegsr.appraisal.verdict import Verdict, judge_all
from geosegsr.appraisal.words import band_rows
from geosegsr.errors import SceneError, redacted
from geosegsr.evaluation.evaluate import evaluate_file
from geosegsr.evaluation.table import HIGHER_IS_BETTER, Evaluation
from geosegsr.files import whole_file
from geosegsr.models.threads import arithmetic_threads, idle_threads
from geosegsr.raster.scene import Scene
from geosegsr.raster.window import Window
from geosegsr.stores.address import address_of
from geosegsr.stores.small_file import local_file
from geosegsr.version import __version__


@dataclass(frozen=True)
class Appraisal:
    """A report that was written."""

    path: str
    """The HTML file."""
    verdict: Verdict
    places: int
    """Places that it shows, beside the whole scene."""
    bytes: int
    """Size of the file."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "path": self.path,
            **self.verdict.to_dict(),
            "places": self.places,
            "bytes": self.bytes,
        }


def report(
    src: str | Path,
    dst: str | Path,
    out: str | Path | None = None,
    *,
    truth: str | Path | None = None,
    uncertainty: str | Path | None = None,
    model: str | Path | None = None,
    overwrite: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Appraisal:
    """Judge a result by its input, and write the report: a verdict in words, pictures to compare, and all measures.

    Args:
        src: The raster that was upscaled.
        dst: The result.
        out: The HTML file or object; by default beside the result, with the suffix .html. A report that is there is replaced.
        truth: A raster of the same ground at the result's resolution, to measure both against.
        uncertainty: The COG with the uncertainty of the result.
        model: The checkpoint that made the result, to show its guidance maps; by default a bundled one, found by the tags.
        overwrite: Whether another file of that name is replaced.
        progress: Called with the share that is measured, 0 to 1; pictures are drawn after that.

    Raises:
        JobError: Another file has the name of the report.
        ConfigError: The two rasters do not belong together.
        SceneError: A raster cannot be read, or the report not be written.
    """
    out = Path(dst).with_suffix(".html") if out is None else out
    read = [src, dst, *(extra for extra in (truth, uncertainty, model) if extra)]
    with local_file(out, sent=False) as path:
        check_report_path(path, read, overwrite=overwrite)
    pairs = open_pairs(src, dst)
    doubt = None if uncertainty is None else Scene.open(uncertainty)
    surveys, verdict = appraise(pairs, doubt, progress)
    scored = (
        None
        if truth is None
        else evaluate_file(dst, truth, src if _is_whole(pairs) else None, scale=max(p.scale for p in pairs))
    )
    shown = [view for survey in surveys for view in _views(survey, MOST // len(surveys))]
    steering = None if pairs[0].sharpened else steering_of(pairs[0], _typical(surveys[0]), model)
    facts = _facts(surveys, scored, doubt)
    page = render(shown, verdict=verdict, steering=steering, **facts).encode()
    with local_file(out) as path:
        check_report_path(path, read, overwrite=overwrite)
        _write(path, page)
    return Appraisal(str(address_of(out) or out), verdict, sum(not view.whole for view in shown), len(page))


def _write(path: Path, page: bytes) -> None:
    try:
        with whole_file(path) as file:
            file.write(page)
    except OSError as error:
        raise SceneError(
            f"Cannot write the report '{path}': {error.strerror or error}. Fix the cause, or pass another name."
        ) from error


def appraise(
    pairs: Sequence[Pair],
    uncertainty: Scene | None = None,
    progress: Callable[[float], None] | None = None,
) -> tuple[tuple[Survey, ...], Verdict]:
    """Measure a result against its inputs, and judge it; nothing is written.

    Args:
        pairs: The inputs with their bands of the result.
        uncertainty: The COG with the uncertainty of the result.
        progress: As for `report`.
    """

    def tell(number: int, share: float) -> None:
        if progress is not None:
            progress((number + share) / len(pairs))

    with arithmetic_threads(idle_threads()):
        surveys = tuple(
            Survey.of(pair, uncertainty, partial(tell, number)) for number, pair in enumerate(pairs)
        )
    return surveys, judge_all(surveys)


def _is_whole(pairs: Sequence[Pair]) -> bool:
    """Whether the result shows all of one input, and no guide sharpened it."""
    [pair, *others] = pairs
    return not others and pair.sharpened is None and pair.window == pair.source.window


def _typical(survey: Survey) -> Window:
    """A typical place; the whole ground where there is none."""
    places = choose(survey.cells, [], survey.pair)
    found = [place.window for place in places if place.title == TYPICAL]
    return found[0] if found else Window(0, 0, survey.pair.height, survey.pair.width)


def _views(survey: Survey, most: int) -> list[View]:
    pair = survey.pair
    places = choose(survey.cells, survey.steps.worst, pair)[:most]
    shown = views(pair, [(place.title, place.window) for place in places])
    return [replace(view, title=f"{pair.name}: {view.title}") for view in shown] if pair.name else shown


def _facts(surveys: Sequence[Survey], scored: Evaluation | None, doubt: Scene | None) -> dict[str, Any]:
    pair = surveys[0].pair
    result = pair.result
    return {
        "version": __version__,
        "result": redacted(result.path),
        "kind": _kind(surveys),
        "size": (result.width, result.height),
        "inputs": [_of_input(survey) for survey in surveys],
        "detail": [row for survey in surveys for row in guided_detail(survey)],
        "parts": tuple(
            sum(numbers) for numbers in zip(*((s.measured, s.parts) for s in surveys), strict=True)
        ),
        "uncertainty": None if doubt is None else uncertainty_map(doubt),
        "tags": _provenance(surveys),
        "left_out": _left_out(surveys),
        "scores": None if scored is None else _scores(scored),
    }


def _left_out(surveys: Sequence[Survey]) -> list[str]:
    """Bands of the result that were compared with no input, such as classes whose pixels were repeated."""
    compared = {name for survey in surveys for name in survey.pair.result.descriptions}
    return [
        name or "?" for name in Scene.open(surveys[0].pair.result.path).descriptions if name not in compared
    ]


def _kind(surveys: Sequence[Survey]) -> str:
    """What was done, in words."""
    zoom = min(survey.pair.zoom for survey in surveys)
    if all(survey.pair.sharpened is None for survey in surveys):
        return f"Super-resolution report, {zoom} times"
    return "Sharpening report" if zoom == 1 else f"Report on sharpening and super-resolution, {zoom} times"


def _of_input(survey: Survey) -> dict[str, Any]:
    pair = survey.pair
    return {
        "name": pair.name,
        "scale": pair.scale,
        "guided": pair.sharpened is not None,
        "bands": band_rows(survey),
        "shift": _rounded(survey.agreement.shift),
        "spectrum": spectrum_chart(survey.spectra),
        "added": (survey.spectra.added(), survey.spectra.added("bicubic"))
        if survey.spectra.measured
        else None,
        "steps": survey.steps,
        "imaging": survey.imaging,
        "histograms": histogram_charts(survey.histograms, band_names(survey), pair.span),
    }


def _rounded(shift: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if shift is None else (round(shift[0], 2) + 0.0, round(shift[1], 2) + 0.0)  # no -0


def _provenance(surveys: Sequence[Survey]) -> list[tuple[str, str]]:
    pair = surveys[0].pair
    words = {
        "GEOSEGSR_MODEL": "Model", "GEOSEGSR_MODEL_HASH": "Fingerprint of the model", "GEOSEGSR_VERSION": "geosegsr",
        "GEOSEGSR_SCALE": "Scale", "GEOSEGSR_DEVICE": "Computed on", "GEOSEGSR_PRECISION": "Precision",
        "GEOSEGSR_VALUE_RANGE": "DN that the model saw as 0 and 1", "GEOSEGSR_SENSOR": "Taken for its sensor",
        "GEOSEGSR_TRAINED_ON": "Model trained on", "GEOSEGSR_GUIDE": "Guide", "GEOSEGSR_INTAKE": "Decided of the scene",
        "GEOSEGSR_OPTIONS": "Options", "GEOSEGSR_NOTE": "Note",
    }  # fmt: skip
    tags = pair.result.metadata.tags
    crs = pair.result.crs
    facts = [("Input", redacted(survey.pair.source.path)) for survey in surveys]
    facts.append(("Result", redacted(pair.result.path)))
    facts += [("CRS", "none" if crs is None else crs.to_string()), ("Data type", pair.result.dtype.name)]
    return facts + [(word, redacted(tags[key])) for key, word in words.items() if tags.get(key)]


def _scores(scored: Evaluation) -> list[tuple[str, float, float, str]]:
    """Name, result, bicubic, and which is better, of each measure against the truth."""
    total = scored.total
    rows = []
    for name, higher in HIGHER_IS_BETTER.items():
        if name in total.model:
            mine, plain = total.model[name], total.bicubic[name]
            better = "same" if mine == plain else "result" if (mine > plain) == higher else "bicubic"
            rows.append((name, mine, plain, better))
    return rows
