"""The images of a training set, opened, and the value range that they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from geosegsr.errors import BandError, ConfigError, GeoSegSRError, SceneError
from geosegsr.imagery.config import DataConfig
from geosegsr.notices import warn
from geosegsr.raster.collar import Collar
from geosegsr.raster.intake import has_many_values, look_at, refuse_other_than_images, take_in
from geosegsr.raster.radiometry import DECLARED, resolve_radiometry
from geosegsr.raster.scene import Scene

_LOOKED_AT = 8
"""Images that are searched for undeclared nodata: thousands of one kind are alike."""
PLAIN_DRIVERS = frozenset({"PNG", "JPEG", "BMP", "WEBP", "GIF"})


def open_images(paths: Sequence[str], data: DataConfig) -> list[Scene]:
    """Open the images of one training set; a warning names those that cannot be opened.

    Raises:
        SceneError: None can be opened.
        BandError: They differ in their number of bands.
        ConfigError: They differ in dtype.
    """
    scenes: list[Scene] = []
    failures: list[str] = []
    collars: list[tuple[str, Collar]] = []
    for path in paths:
        try:
            scene, collar = _opened(path, data, thoroughly=len(scenes) < _LOOKED_AT)
        except GeoSegSRError as error:
            failures.append(str(error))
        else:
            scenes.append(scene)
            collars += [] if collar is None else [(path, collar)]
    _warn_of_collars(collars, min(len(scenes), _LOOKED_AT))
    report_left_out(failures, len(paths), "cannot be opened")
    _refuse_different_kinds(scenes, data)
    plain = [scene.path for scene in scenes if scene.driver in PLAIN_DRIVERS]
    if plain:
        warn(
            f"{len(plain)} of {len(scenes)} images are plain pictures without georeference, such as "
            f"'{plain[0]}': places that lie in both training and validation cannot be found"
        )
    return scenes


def _opened(path: str, data: DataConfig, *, thoroughly: bool) -> tuple[Scene, Collar | None]:
    """An image whose bands are images by their values too, and the undeclared collar that a thorough look finds."""
    nodata = None if data.nodata == "auto" else data.nodata
    scene = Scene.open(path, bands=data.bands or None, nodata=nodata)
    if data.nodata == "auto":
        scene, intake = take_in(scene, scene.with_nodata, find_nodata=True)
    else:
        intake = look_at(scene, by_values=thoroughly or not has_many_values(scene))
    refuse_other_than_images(scene, intake)
    return scene, intake.collar


def _warn_of_collars(collars: Sequence[tuple[str, Collar]], looked_at: int) -> None:
    if collars:
        path, collar = collars[0]
        warn(
            f"{len(collars)} of the first {looked_at} images declare no nodata, but look as if they lacked it: in '{path}' "
            f"{collar.describe()}. They are used as data; pass --nodata {collar.value:g} or --nodata auto if they hold none"
        )


def report_left_out(reasons: Sequence[str], total: int, what: str) -> None:
    """Warn of images that are left out.

    Args:
        reasons: One message for each image that is left out.
        total: Number of images.
        what: Why, in a few words.

    Raises:
        SceneError: All images are left out.
    """
    if not reasons:
        return
    if total == len(reasons) == 1:
        raise SceneError(f"Cannot continue: the only image is left out ({what}). {reasons[0]}")
    if len(reasons) == total:
        raise SceneError(
            f"Cannot continue: all {total} images are left out ({what}). The first: {reasons[0]}"
        )
    listed = " ".join(reasons[:3]) + (" ..." if len(reasons) > 3 else "")
    warn(f"{len(reasons)} of {total} images left out ({what}): {listed.rstrip('.')}")


def _refuse_different_kinds(scenes: Sequence[Scene], data: DataConfig) -> None:
    first = scenes[0]
    for scene in scenes[1:]:
        if scene.count != first.count:
            fewest = ",".join(str(band) for band in range(1, min(scene.count, first.count) + 1))
            raise BandError(
                f"Cannot train on images with different bands: '{first.path}' has {first.count} and "
                f"'{scene.path}' has {scene.count}. Pass --bands {fewest}, or only images of one kind."
            )
        if scene.dtype != first.dtype:
            raise ConfigError(
                f"Cannot train on images of different dtypes: '{first.path}' is {first.dtype} and "
                f"'{scene.path}' is {scene.dtype}, so their DN mean different things. Pass images of one "
                "dtype."
            )


def radiometry_policy(scenes: Sequence[Scene], data: DataConfig, seed: int = 0) -> dict[str, Any]:
    """The value range that goes into the model's card; `resolve_radiometry` applies it in training and at inference.

    Args:
        scenes: Images of the kind that the model will be given.
        data: States how the range is found.
        seed: Chooses the images that are sampled if there are many.

    Returns:
        A policy of `resolve_radiometry`. Percentiles are of the whole training set, so that one DN means one value in
        every scene of the sensor.

    Raises:
        ConfigError: The images have no range of that kind, or declare different ones.
        SceneError: No image has a valid pixel.
    """
    kind = data.radiometry
    if kind == "range":
        return {"kind": "range", "lo": data.range[0], "hi": data.range[1]}
    if kind == "auto":
        kind = _automatic_kind(scenes)
    if kind == "dtype":
        resolve_radiometry(scenes[0], {"kind": kind})  # refuses floats before anything is read
        return {"kind": kind}
    if kind == "declared":
        return _declared(scenes)
    columns = _pixel_sample(scenes, seed)
    if kind == "standard":
        mean, std = columns.mean(axis=1), columns.std(axis=1)
        return {"kind": "standard", "mean": mean.tolist(), "std": np.maximum(std, 1e-6).tolist()}
    low, high = np.percentile(columns, [0.1, 99.9])
    return {"kind": "range", "lo": float(low), "hi": float(high if high > low else low + 1)}


def one_range(policy: dict[str, Any]) -> dict[str, Any] | None:
    """The same policy for images of any bands; None where the bands have ranges of their own."""
    if policy["kind"] != "standard":
        return policy
    ends = set(zip(policy["mean"], policy["std"], strict=True))
    if len(ends) > 1:
        return None
    ((low, span),) = ends
    return {"kind": "range", "lo": low, "hi": low + span}


def _declared(scenes: Sequence[Scene]) -> dict[str, Any]:
    """The DN of reflectance 0 and 1 in each band, which must be the same in all images."""
    found = {
        (resolve_radiometry(s, {"kind": "declared"}).lo, resolve_radiometry(s, {"kind": "declared"}).hi)
        for s in scenes
    }
    if len(found) > 1:
        raise ConfigError(
            f"Cannot train by declared scale and offset: {len(scenes)} images declare {len(found)} different "
            "ones, so their DN mean different things. Pass images of one kind, or --radiometry percentiles."
        )
    lo, hi = (np.array(ends) for ends in found.pop())
    # The policy "standard" maps mean to 0 and mean + std to 1 in each band, which is the same linear map.
    return {"kind": "standard", "mean": lo.tolist(), "std": (hi - lo).tolist()}


def _automatic_kind(scenes: Sequence[Scene]) -> str:
    origins = {resolve_radiometry(scene, {"kind": "auto"}).origin for scene in scenes[:16]}
    if origins == {DECLARED}:
        return "declared"
    return "dtype" if scenes[0].dtype.itemsize == 1 else "percentiles"


def _pixel_sample(scenes: Sequence[Scene], seed: int, images: int = 64, side: int = 256) -> Any:
    """Valid pixels of randomly chosen images, float64, shape (bands, n)."""
    order = np.random.default_rng(seed).permutation(len(scenes))[:images]
    parts = []
    for index in order:
        values, valid = scenes[index].sample(side)
        everywhere = valid.all(axis=0)
        parts.append(values[:, everywhere].astype(np.float64))
    columns = np.concatenate(parts, axis=1)
    if not columns.shape[1]:
        raise SceneError(
            f"Cannot find the range of DN: none of {len(order)} images has a pixel that is valid in all "
            f"bands (the first is '{scenes[order[0]].path}'). Pass --nodata if their nodata value is wrong."
        )
    return columns
