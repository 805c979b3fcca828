"""The sensor of the training images, found from their pixels: lr is made as that sensor would have seen the ground."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from geosegsr.errors import GeoSegSRError
from geosegsr.models.catalogue import resolve_upscaler
from geosegsr.models.contract import BUNDLED
from geosegsr.pipeline.layout import groups_for
from geosegsr.pipeline.sensing import ESTIMATED, sense
from geosegsr.raster.intake import look_at
from geosegsr.raster.radiometry import resolve_radiometry
from geosegsr.raster.scene import Scene
from geosegsr.sensor.degradation import Degradation
from geosegsr.sensor.descriptor import SensorDescriptor, blur_of

_MOST = 6
"""Images that are looked at, spread evenly over the list."""


def find_sensor(scenes: Sequence[Scene], policy: dict[str, Any], scale: int) -> SensorDescriptor | None:
    """The sensor of some images, each estimated as `upscale` does; the median of each number.

    Args:
        scenes: The images.
        policy: How DN become the model's range; see `resolve_radiometry`.
        scale: hr pixels per lr pixel.

    Returns:
        None where no image shows it.
    """
    upscaler = resolve_upscaler(BUNDLED, scale, device="cpu")
    found = []
    for i in np.unique(np.linspace(0, len(scenes) - 1, min(len(scenes), _MOST)).round().astype(int)):
        scene = scenes[i]
        try:
            groups = groups_for(upscaler, scene.colours, scene.path, "bicubic", look_at(scene))
            sensing = sense(scene, upscaler.facts, groups, resolve_radiometry(scene, policy))
        except GeoSegSRError:
            continue  # an image that cannot be read is named when patches are looked for
        if sensing.origin == ESTIMATED:
            found.append(sensing.sensors[0])
    if not found:
        return None
    middle = {
        f.name: float(np.median([getattr(sensor, f.name) for sensor in found]))
        for f in fields(SensorDescriptor)
    }
    middle["mtf_nyquist"] = min(middle["mtf_nyquist"], middle["mtf_quarter"])
    return SensorDescriptor(**middle).rounded()


def degradation_of(sensor: SensorDescriptor, scene: Scene) -> Degradation:
    """The degradation that leaves lr as a sensor leaves its images.

    Args:
        sensor: Blur, noise and compression.
        scene: One of the images: only 8-bit images of 1 or 3 bands are compressed.
    """
    if sensor.is_bicubic:
        return Degradation()
    blur, quality = round(blur_of(sensor), 2), sensor.jpeg_quality
    jpeg = quality is not None and scene.dtype == np.uint8 and scene.count in (1, 3)
    return Degradation(
        blur=(blur, blur),
        noise_read=(sensor.noise, sensor.noise),
        jpeg_quality=(round(quality), round(quality)) if jpeg and quality is not None else None,
        jpeg_grid="anywhere",
    )


def sensor_toml(degradation: Degradation, said: str) -> str:
    """The text of sensor.toml, which `--degradation` reads.

    Args:
        degradation: Of the run.
        said: Where it comes from; one line.
    """
    plain = Degradation().to_dict()
    values = {key: value for key, value in degradation.to_dict().items() if value != plain.get(key)}
    lines = [f"# {said}", f"kernel = {_text(degradation.kernel)}"]
    lines += [f"{key} = {_text(value)}" for key, value in values.items() if key != "kernel"]
    return "\n".join(lines) + "\n"


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if not isinstance(value, float) or math.isfinite(value) else "0.0"
