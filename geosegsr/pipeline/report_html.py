"""A report as a notebook shows it: what was done, and a small picture of the result."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import ColorInterp
from rasterio.io import MemoryFile

from geosegsr.raster.preview import stretched

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
        picture = thumbnail(path)
    except (OSError, rasterio.errors.RasterioError):
        return ""
    data = base64.b64encode(picture).decode("ascii")
    return f"<img alt='the result' src='data:image/png;base64,{data}'>"


def thumbnail(path: str) -> bytes:
    """A PNG of a raster, read from its overviews: red, green and blue where it has them, else its first band.

    Bands are stretched as in a preview; pixels without data are transparent.
    """
    with rasterio.open(path) as source:
        shrink = max(source.height, source.width, LONGEST) / LONGEST
        shape = (max(1, round(source.height / shrink)), max(1, round(source.width / shrink)))
        values = source.read(_bands(source), out_shape=shape, masked=True)
    known = ~np.asarray(np.ma.getmaskarray(values).any(axis=0))
    bands = [np.ma.getdata(band).astype(np.float64) for band in values]
    grey = [stretched(band, known & np.isfinite(band)) for band in bands]
    planes = np.stack([*(grey * 3 if len(grey) == 1 else grey), known.astype(np.uint8) * 255])
    with MemoryFile() as memory:
        with memory.open(driver="PNG", count=4, height=shape[0], width=shape[1], dtype="uint8") as target:
            target.write(planes)
        return bytes(memory.getbuffer())


def _bands(source: Any) -> list[int]:
    colours = list(source.colorinterp)
    wanted = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    return [colours.index(colour) + 1 for colour in wanted] if set(wanted) <= set(colours) else [1]
