"""A report as a notebook shows it: what was done, and a small picture of the result."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from geosegsr.errors import SceneError
from geosegsr.raster.picture import data_uri
from geosegsr.raster.preview import drawn
from geosegsr.raster.scene import Scene

LONGEST = 256
"""Longest side of the picture, in its pixels."""


def as_html(report: Mapping[str, Any]) -> str:
    """A table of what `Report.to_dict` gives and, where the file can still be read, its picture; texts are escaped."""
    rows = {
        "result": report["path"],
        "status": report["status"],
        "size": "{width} x {height} pixels, {bands} bands {dtype}, x{scale}".format(**report),
        "model": "{model} on {device} in {precision}".format(**report),
        "time": f"{report['seconds']['total']:.1f} s",
        **({"sensor": report["sensor"]} if report["sensor"] else {}),
        **({"warnings": "; ".join(report["warnings"])} if report["warnings"] else {}),
    }
    body = "".join(
        f"<tr><th style='text-align:left'>{name}</th><td style='text-align:left'>{html.escape(str(value))}</td></tr>"
        for name, value in rows.items()
    )
    return f"{_image(report['path'])}<table>{body}</table>"


def _image(path: str) -> str:
    try:
        picture = drawn(Scene.open(path), LONGEST)
    except SceneError:
        return ""
    return f"<img alt='the result' src='{data_uri(picture)}'>"
