"""The scene of a run: opened as its options ask for it, with what was decided for it, and sharpened by a guide."""

from __future__ import annotations

import logging
from pathlib import Path

from geosegsr.context import begin
from geosegsr.errors import ConfigError
from geosegsr.notices import warn
from geosegsr.pipeline.guide import open_guide
from geosegsr.pipeline.options import PlanOptions
from geosegsr.raster.intake import Intake, take_in
from geosegsr.raster.products import locate
from geosegsr.raster.scene import Scene
from geosegsr.sharpening.dates import warn_of_dates
from geosegsr.sharpening.product import groups_of, open_whole
from geosegsr.sharpening.scene import SharpenedScene

log = logging.getLogger("geosegsr")


def open_scene(src: str | Path, options: PlanOptions) -> tuple[Scene, Intake]:
    """The scene as the options ask for it, sharpened by their guide, and what was decided for it.

    Raises:
        SceneError: It, or the guide, cannot be opened.
        BandError: A band that was asked for does not exist, or holds what cannot be used.
        ConfigError: The options do not fit the source.
    """
    scene, intake = _open_source(src, options)
    guide = options["guide"]
    if guide is None:
        return scene, intake
    begin("fitting the guide to the scene")
    found = open_guide(guide, find_nodata=options["nodata"] == "auto")
    sharpened = SharpenedScene.of(scene, found, intake.kinds)
    warn_of_dates(sharpened)
    return sharpened, intake


def _open_raster(src: str | Path, options: PlanOptions, nodata: float | None) -> Scene:
    located, groups = locate(str(src)), options["groups"]
    if groups is not None and (located is None or not located.chosen):
        raise ConfigError(
            f"Cannot choose --groups of '{src}': it is one raster, not a product of several. Leave the option out."
        )
    if located is not None and located.chosen and (groups is not None or len(groups_of(located.product)) > 1):
        scene = open_whole(located.product, groups, options["bands"], nodata, options["band_kinds"])
    else:
        scene = Scene.open(src, options["bands"], nodata, options["alpha"])
    return scene.with_band_kinds(options["band_kinds"])


def _open_source(src: str | Path, options: PlanOptions) -> tuple[Scene, Intake]:
    begin("reading the scene")
    asked = options["nodata"]
    scene = _open_raster(src, options, None if isinstance(asked, str) else asked)
    scene, intake = take_in(
        scene, lambda nodata: _open_raster(src, options, nodata), find_nodata=asked == "auto"
    )
    for line in intake.decisions:
        log.info("%s: %s", scene.path, line)
    if scene.metadata.crs is None and scene.metadata.gcps_crs is None and not scene.metadata.rpcs:
        warn(f"'{scene.path}' has no coordinate reference system; neither will the result")
    if shown := scene.metadata.shown:
        warn(
            f"'{scene.path}' is shown {shown} by its EXIF orientation, and its pixels stay as they are stored. "
            "To turn them first: magick IN -auto-orient OUT.tif"
        )
    if lost := scene.metadata.in_tiff()[1]:
        warn(f"the result leaves out {lost} of '{scene.path}': a GeoTIFF holds none")
    if scene.alpha_looks_like_image:
        kind = "a mask, as you said" if scene.alpha_band is not None else "an image, such as near infrared"
        warn(f"the band of '{scene.path}' that is tagged alpha holds more than mask values: taken as {kind}")
    return scene, intake
