"""The verdict in words: what is wrong with a result, what is doubtful, and what holds.

No threshold is a matter of taste alone: each says where it comes from. Spans are those of the input between its 1st and 99th
percentile, so 1 % of the span is 2.5 of the 255 levels of a picture of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from geosegsr.appraisal.agreement import BandSums
from geosegsr.appraisal.guided import guided_detail
from geosegsr.appraisal.survey import Survey, band_names

Grade = Literal["fault", "doubt", "good"]

_LEVEL = 0.01
"""Share of the span by which a band may be brighter or darker. Sound results: at most 0.0005; 0.01 is the least that a viewer
of two pictures in turn notices."""
_LOCAL = 0.012
"""The same from place to place, over cells of 8 input pixels. Sound results: at most 0.0103, in a band of 40 DN."""
_CONTRAST = 0.05
"""Share by which the contrast of such cells may change. Sound results: at most 0.021."""
_OFF = 0.25
"""Input pixels by which a result may lie off its input; half a result pixel at 2x, and the measure's error is 0.02."""
_EXCESS = 1.3
"""Times the difference of bicubic interpolation from the input that a result may have, beyond noise and compression, which it
should leave out. Sound results: at most 0.6 on clean scenes, 1.0 on compressed ones."""
_LEAST_EXCESS = 0.02
"""Differences below this share of the span are no fault."""
_LIKENESS = 0.5
"""Share of the input's variance left unexplained from which on a result shows something else."""
_SEAMS = 2
"""Segments that step, from which on there are seams; sound results have none among some thousand."""
_STROKES = 0.1
"""How much more its finest detail may run along lines on the flattest ground than in bicubic interpolation. Sound results:
less than in bicubic (-0.11 to 0.05); with strokes painted in: from 0.28."""
_DETAIL = 1.3
"""Times the detail of bicubic interpolation on that ground, from which on strokes count."""
_LINES, _MUCH_DETAIL = 0.65, 3.0
"""The same where interpolation itself runs along lines, as on ground that hardly varies. Sound results: up to 0.5, with no more
detail than bicubic; strokes: 0.87 and more, with 7 times as much."""
_NOISE_KEPT = 0.75
"""Detail of the result over that of a noisy input on the flattest ground. Models that know of the noise: 0.12 and 0.28; a
model that takes it for ground: 1.1 and 1.2; bicubic interpolation: 0.66."""
_NOISY = 0.01
"""Noise, as a share of the span, from which on that matters."""
_AMPLIFIED = (2.5, 4.0)
"""Energy of the result over that of the input, where the input holds ground, for a doubt and for a fault. Sound results: 0.8 to
1.5, also where blur was taken back; an aerial image whose compression was taken for ground and drawn as strokes: 5.6."""
_INVENTED = 3.0
"""Times the energy beyond the input's resolution that its own spectrum leads one to expect. Sound results: at most 0.3."""
_NOTHING = 1.5
"""Times the energy of bicubic interpolation there, up to which a result is no sharper than that."""
_CLIPPED = 0.01
"""Share of values at an end of the data type that the input does not have."""


@dataclass(frozen=True)
class Finding:
    """One sentence of the verdict."""

    grade: Grade
    topic: str
    """"seams", "colour", "place", "model", "guide", "noise", "detail", "sensor", "range" or "empty"."""
    text: str
    input: str = ""
    """Name of the input among several."""

    def __str__(self) -> str:
        return f"{self.input}: {self.text}" if self.input else self.text


@dataclass(frozen=True)
class Verdict:
    """All findings; faults first."""

    findings: tuple[Finding, ...]
    unmeasured: tuple[str, ...] = ()
    """What could not be judged, because too little ground is there, free of nodata or uneven: "seams", "place", "noise", "detail"."""

    @property
    def grade(self) -> Grade:
        """The gravest of the findings."""
        grades = {finding.grade for finding in self.findings}
        return "fault" if "fault" in grades else "doubt" if "doubt" in grades else "good"

    @property
    def headline(self) -> str:
        """The verdict in one sentence."""
        topics = {"fault": self._topics("fault"), "doubt": self._topics("doubt")}
        if self.grade == "fault":
            return f"Do not use this result as it is: {topics['fault']}."
        if self.grade == "doubt":
            return f"Look before you use it: {topics['doubt']}."
        if self.unmeasured:
            return f"No fault found in what could be measured; {_listed(self.unmeasured)} could not."
        return "No fault found: the result agrees with its input."

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "grade": self.grade,
            "headline": self.headline,
            "findings": [asdict(finding) for finding in self.findings],
            "unmeasured": list(self.unmeasured),
        }

    def _topics(self, grade: Grade) -> str:
        topics = [found.topic for found in self.findings if found.grade == grade]
        words = list(
            dict.fromkeys(_WORDS.get(f"{topic}, {grade}", _WORDS.get(topic, topic)) for topic in topics)
        )
        return _listed(words)


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


_ORDER = {"fault": 0, "doubt": 1, "good": 2}
_WORDS = {
    "seams": "it has seams",
    "colour": "its colours differ from the input",
    "place": "it lies off its input",
    "model": "the model does not suit the scene",
    "guide": "the guide does not suit the scene",
    "noise": "noise has become detail",
    "detail, fault": "it has more fine detail than its input leads one to expect",
    "detail, doubt": "it has hardly more detail than interpolation",
    "sensor": "the model was told of another sensor",
    "range": "values are cut off",
    "empty": "there is nothing to compare",
}


def judge_all(surveys: Sequence[Survey]) -> Verdict:
    """The verdict on a result of several inputs: the findings on each."""
    found = [
        replace(finding, input=survey.pair.name) for survey in surveys for finding in judge(survey).findings
    ]
    lacking = [
        f"{topic} of {survey.pair.name}" if survey.pair.name else topic
        for survey in surveys
        for topic in judge(survey).unmeasured
    ]
    return Verdict(tuple(sorted(found, key=lambda finding: _ORDER[finding.grade])), tuple(lacking))


def judge(survey: Survey) -> Verdict:
    """The verdict on what was measured."""
    if not any(band.count for band in survey.agreement.bands):
        text = "Nothing was compared: input and result have hardly a valid pixel in common."
        return Verdict((Finding("doubt", "empty", text),))
    found = [
        finding
        for check in (_seams, _colour, _place, _model, _sensor, _noise, _detail, _range)
        for finding in check(survey)
    ]
    return Verdict(tuple(sorted(found, key=lambda finding: _ORDER[finding.grade])), _unmeasured(survey))


def _unmeasured(survey: Survey) -> tuple[str, ...]:
    measured = {
        "seams": bool(survey.steps.segments or survey.steps.found),
        "place": survey.agreement.shift is not None,
        "noise": survey.flat.measured,
        "detail": survey.spectra.measured or survey.pair.scale == 1,
    }
    return tuple(topic for topic, known in measured.items() if not known)


def _seams(survey: Survey) -> Iterator[Finding]:
    steps = survey.steps
    if len(steps.found) >= _SEAMS:
        height = max((step.height for step in steps.found), default=0.0)
        size = f" of up to {height:.1%} of the span" if height else ""
        yield Finding(
            "fault",
            "seams",
            f"There are seams: the result has steps{size} along {_counted(steps.lines, 'line')} where the input does not.",
        )
    elif steps.segments:
        yield Finding(
            "good",
            "seams",
            f"No seams: none of {steps.segments:,} line segments steps where the input does not.",
        )


def _colour(survey: Survey) -> Iterator[Finding]:
    wrong = []
    for name, band, noise in _named(survey):
        if abs(band.level) > _LEVEL:
            wrong.append(
                f"{name} is {abs(band.level):.1%} of its span too {'bright' if band.level > 0 else 'dark'}"
            )
        elif band.local(noise) > _LOCAL:
            wrong.append(
                f"the level of {name} differs by {band.local(noise):.1%} of its span from place to place"
            )
        elif abs(band.contrast) > _CONTRAST:
            wrong.append(
                f"the contrast of {name} is {abs(band.contrast):.0%} {'higher' if band.contrast > 0 else 'lower'}"
            )
    if wrong:
        yield Finding("fault", "colour", f"Colours differ from the input: {'; '.join(wrong)}.")
    elif survey.agreement.bands[0].count:
        most = max(abs(band.level) for band in survey.agreement.bands)
        yield Finding(
            "good",
            "colour",
            f"Colours are those of the input: no band's level is off by more than {max(most, 0.0001):.2%} of its span.",
        )


def _place(survey: Survey) -> Iterator[Finding]:
    shift = survey.agreement.shift
    if shift is None:
        return
    off = math.hypot(*shift)
    if off > _OFF:
        yield Finding(
            "fault",
            "place",
            f"The result lies {off:.2f} input pixels off its input ({shift[0]:+.2f} down, {shift[1]:+.2f} to the right).",
        )
    else:
        yield Finding(
            "good", "place", f"The result lies on its input, within {max(off, 0.02):.2f} input pixels."
        )


def _model(survey: Survey) -> Iterator[Finding]:
    pair, other, rough = survey.pair, [], []
    topic = "model" if pair.sharpened is None or pair.zoom > 1 else "guide"
    maker = "model" if pair.sharpened is None else "guide or the model" if pair.zoom > 1 else "guide"
    for name, band, noise in _named(survey):
        excess = math.sqrt(max(band.rms**2 - noise**2, 0.0))
        if excess**2 > _LIKENESS * max(band.variance, 1e-12) and excess > _LEAST_EXCESS:
            other.append(name)
        elif excess > max(_EXCESS * band.bicubic_rms, _LEAST_EXCESS):
            rough.append(f"{name} ({excess:.1%} of the span, bicubic {band.bicubic_rms:.1%})")
    if other:
        yield Finding(
            "fault",
            topic,
            f"Reduced again, the result does not show the input's ground in {', '.join(other)}: the {maker} is the wrong one, or this is another scene.",
        )
    if rough:
        yield Finding(
            "fault",
            topic,
            f"Reduced again, the result differs from the input more than plain interpolation does: {'; '.join(rough)}. The {maker} does not suit this scene.",
        )
    if not (other or rough) and survey.agreement.bands[0].count:
        yield Finding("good", topic, "Reduced again as the sensor sees it, the result gives its input.")


def _sensor(survey: Survey) -> Iterator[Finding]:
    imaging = survey.imaging
    if imaging.is_other:
        yield Finding(
            "doubt",
            "sensor",
            f"The scene was imaged otherwise ({imaging.sensor}) than the model was told or trained for ({imaging.told}). Upscale it again with --model bundled and without --sensor.",
        )


def _noise(survey: Survey) -> Iterator[Finding]:
    flat, result, bicubic, lines, plain = survey.flat.numbers
    noise = _noise_of(survey)
    visible = survey.flat.measured and result > max(1 / 255, float(survey.pair.quantum.mean()) / 2)
    drawn = lines > plain + _STROKES and result > _DETAIL * bicubic
    if visible and (drawn or (lines > _LINES and result > _MUCH_DETAIL * bicubic)):
        yield Finding(
            "fault",
            "noise",
            f"Strokes on flat ground: the finest detail runs along lines there ({lines:.2f}, bicubic {plain:.2f}) and is {result / max(bicubic, 1e-9):.1f} times that of interpolation.",
        )
    elif visible and survey.imaging.sensor.noise and noise > _NOISY and result > _NOISE_KEPT * flat:
        yield Finding(
            "fault" if result > flat else "doubt",
            "noise",
            f"Noise has become detail: on flat ground the result varies {result / max(flat, 1e-9):.1f} times as much as its noisy input.",
        )
    elif survey.pair.sharpened is None and survey.spectra.measured and survey.spectra.kept() > _AMPLIFIED[0]:
        kept = survey.spectra.kept()
        grade: Grade = "fault" if kept > _AMPLIFIED[1] and noise else "doubt"
        with_it = ", noise and compression with it: strokes and blotches are likely" if noise else ""
        yield Finding(
            grade,
            "noise",
            f"What the input holds weakly is amplified: its finest structure has {kept:.1f} times the energy{with_it}.",
        )
    elif survey.flat.measured:
        yield Finding("good", "noise", "Flat ground stays flat: noise has not become detail.")


def _noise_of(survey: Survey) -> float:
    """Noise and compression of the bands that are shown, as a share of their span."""
    return float(np.mean([survey.imaging.noise[band] for band in survey.pair.shown]))


def _detail(survey: Survey) -> Iterator[Finding]:
    spectra = survey.spectra
    if not spectra.measured or survey.pair.scale == 1:
        return
    added, plain = spectra.added(), spectra.added("bicubic")
    share = f"{added:.2f} times what the input's own spectrum leads one to expect, bicubic {plain:.2f}"
    if survey.pair.sharpened is not None:
        yield _guided(survey, share)
    elif added > _INVENTED:
        yield Finding("fault", "detail", f"Too much fine detail: its energy is {share}.")
    elif (
        added < _NOTHING * plain and survey.imaging.sensor.noise <= _NOISY
    ):  # interpolated noise is no detail
        yield Finding(
            "doubt",
            "detail",
            f"Hardly any fine detail beyond interpolation: its energy is {share}.",
        )
    else:
        yield Finding(
            "good",
            "detail",
            f"Fine detail was added, in proportion: its energy is {share}. It is the model's guess, not a measurement.",
        )


def _guided(survey: Survey, share: str) -> Finding:
    """Detail that a guide predicted is judged by how well it did one level coarser, where the input is the truth."""
    found = guided_detail(survey)
    worse = [name for name, (_, with_it, alone, _) in found if with_it > alone]
    if worse:
        return Finding(
            "doubt",
            "guide",
            f"One level coarser, where it can be checked, the guide's detail is further from the truth than none in {', '.join(worse)}.",
        )
    beyond = ", and beyond the guide's pixels guessed by the model" if survey.pair.zoom > 1 else ""
    least, most = (pick((numbers[0] for _, numbers in found), default=0.0) for pick in (min, max))
    explains = (
        f"which explains {least:.0%} to {most:.0%} of it one level coarser"
        if found
        else "by a fit to the scene"
    )
    return Finding(
        "good",
        "detail",
        f"Fine detail was predicted from the guide, {explains}{beyond}. Its energy is {share}.",
    )


def _range(survey: Survey) -> Iterator[Finding]:
    if not survey.clipped:
        return
    source, result = np.mean(np.asarray(survey.clipped), axis=0)
    if result - source > _CLIPPED:
        yield Finding(
            "fault",
            "range",
            f"Values are cut off: {result:.1%} of the result, and {source:.1%} of the input, are at an end of the data type.",
        )


def _named(survey: Survey) -> Iterator[tuple[str, BandSums, float]]:
    names = band_names(survey)
    for name, band, noise in zip(names, survey.agreement.bands, survey.imaging.noise, strict=True):
        if band.count:
            yield name, band, noise


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
