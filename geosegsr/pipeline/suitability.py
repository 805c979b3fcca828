"""Whether a model suits a scene: how both were imaged, and what the model's own card says of it."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from geosegsr.models.card import ModelCard
from geosegsr.models.contract import Facts
from geosegsr.notices import warn
from geosegsr.pipeline.sensing import ESTIMATED, Sensing
from geosegsr.raster.bands import BandGroup
from geosegsr.raster.contract import Raster
from geosegsr.sensor.degradation import Degradation
from geosegsr.sensor.descriptor import BICUBIC, SensorDescriptor

_APART = (0.08, 0.08, 1.5 / 255, 30.0)
"""Distance of each number from what a model was trained on at which its results are likely to suffer."""
_UNLIKE = (0.08, 0.08, 0.5 / 255, 4.0)
"""The same for an input with which a result is made consistent. Noise and compression are no part of the ground: at JPEG
quality 90, consistency costs 0.3 dB."""
_BEYOND = (0.05, 0.05, 2.0 / 255, 15.0)
"""How far a number may lie above what a network was told of in its training; estimates err by about half of it."""


def trained_on(facts: Facts) -> SensorDescriptor:
    """The sensor that a model was trained on, as its card says it; antialiased bicubic reduction where it is silent."""
    described = None if facts.card is None else facts.card.degradation
    if not described:
        return BICUBIC
    return SensorDescriptor.of_degradation(
        Degradation.from_dict(described, f"the card of '{facts.name}'"), facts.scale
    )


def is_alike(facts: Facts, sensor: SensorDescriptor) -> bool:
    """Whether a scene was imaged as the training images of a model were."""
    return sensor.same_as(trained_on(facts), _APART)


def is_clean(sensor: SensorDescriptor) -> bool:
    """Whether a sensor is as sharp and clean as antialiased bicubic reduction, so far that a network need not be told of it."""
    return sensor.same_as(BICUBIC, _UNLIKE)


def calls_for_consistency(facts: Facts, groups: tuple[BandGroup, ...], sensing: Sensing) -> bool:
    """Whether results are made consistent with their input where the user says nothing.

    They are where all bands that the model was trained on, or else all that go through it, were imaged as its training
    images.
    """
    main = _through_model(groups, sensing)
    known = trained_on(facts)
    return all(sensor.same_as(known, _UNLIKE) for sensor in main or sensing.sensors)


def warn_of_misfit(raster: Raster, facts: Facts, groups: tuple[BandGroup, ...], sensing: Sensing) -> None:
    """Say where a result is likely to be worse than a plain interpolation, and what to do."""
    if facts.card is not None:
        _warn_of_weak_model(facts.card)
    if sensing.origin != ESTIMATED:
        return
    sensors = _through_model(groups, sensing)
    if not facts.takes_sensor:
        other = [sensor for sensor in sensors if not is_alike(facts, sensor)]
        if other:
            warn(
                f"'{raster.path}' was imaged otherwise than what '{facts.name}' was trained on ({other[0]}, not "
                f"{trained_on(facts)}): expect blur, noise or compression in the result. Use --model bundled, or train with --degradation"
            )
        return
    outside = [sensor for sensor in sensors if facts.card and not _was_told(facts.card, sensor)]
    if outside:
        warn(
            f"'{raster.path}' was imaged beyond what '{facts.name}' was trained for ({outside[0]}): "
            "expect artefacts. Compare the result with --model bicubic, or train with --degradation"
        )


def _through_model(groups: tuple[BandGroup, ...], sensing: Sensing) -> list[SensorDescriptor]:
    """The sensors of the bands that the model was trained on."""
    pairs = zip(groups, sensing.sensors, strict=True)
    return [sensor for group, sensor in pairs if group.through == "model"]


def _was_told(card: ModelCard, sensor: SensorDescriptor) -> bool:
    """Whether the training of a network covered a sensor's aliases, noise and compression; True where its card is silent.

    More blur than in the training leaves a result soft, and makes no artefacts.
    """
    spans = [card.told.get(name) for name in sensor.to_dict()]
    return all(
        span is None or value <= span[1] + beyond
        for value, span, beyond in zip(sensor.numbers, spans, _BEYOND, strict=True)
    )


def _warn_of_weak_model(card: ModelCard) -> None:
    """Say that a model's own validation found it behind bicubic."""
    gains = _gains(card.metrics)
    if gains and fmean(gains) < 0:
        warn(
            f"'{card.name}' is {-fmean(gains):.2f} dB behind bicubic interpolation on its own validation images, by its card: "
            "expect artefacts. Use --model bundled or --model bicubic, or train it for longer"
        )


def _gains(metrics: dict[str, Any]) -> list[float]:
    """Gains over bicubic in dB, on luma where the card has it: of the card's one set of images, or of each."""
    sets = [values for values in metrics.values() if isinstance(values, dict)] or [metrics]
    gains = []
    for values in sets:
        measure = "psnr_y" if {"psnr_y", "psnr_y_bicubic"} <= values.keys() else "psnr"
        if {measure, f"{measure}_bicubic"} <= values.keys():
            gains.append(float(values[measure]) - float(values[f"{measure}_bicubic"]))
    return gains
