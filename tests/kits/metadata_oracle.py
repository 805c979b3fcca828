"""What the metadata of an upscaled scene must be, worked out again from its source.

Written against the rules and rasterio only: nothing of the package under test is used, so that a mistake
there cannot hide itself here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import MaskFlags
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import DatasetReader
from rasterio.transform import Affine
from rasterio.windows import Window

GDAL_NAMESPACES = {
    "IMAGE_STRUCTURE",
    "DERIVED_SUBDATASETS",
    "SUBDATASETS",
    "RPC",
    "COLOR_PROFILE",
    "GEOLOCATION",
}
"""Namespaces that GDAL fills in itself, or that are about the old file."""

SEPARATORS = (".", "_", "__", "/", "-", ":")
"""What may stand between a namespace and a key where both became one tag's name.

GDAL takes a colon in a name for the end of the name: "A:B=1" comes back as A with the value "B=1", and of two
such items one is lost. So a colon passes only where the value still comes back.
"""

STRIP_PIXELS = 4_000_000
"""Output pixels whose mask is compared at a time."""


def metadata_differences(
    source: Path | str, result: Path | str, scale: int, bands: Sequence[int] | None = None
) -> list[str]:
    """Everything about a result that does not follow from its source.

    Args:
        source: The scene.
        result: The scene upscaled.
        scale: Output pixels per input pixel, along each side.
        bands: Numbers of the source's bands that the result holds, in its order; None for all of them.

    Returns:
        One line for each difference, empty if everything is right.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(source) as before, rasterio.open(result) as after:
            chosen = list(bands or before.indexes)
            if problems := list(size_differences(before, after, scale, chosen)):
                return problems
            return [
                *place_differences(before, after, scale),
                *gcp_differences(before, after, scale),
                *rpc_differences(before, after, scale),
                *band_differences(before, after, chosen),
                *tag_differences(before, after, chosen),
                *mask_differences(before, after, scale, chosen),
            ]


def size_differences(
    before: DatasetReader, after: DatasetReader, scale: int, bands: Sequence[int]
) -> Iterator[str]:
    """Height, width and number of bands: without them nothing else can be compared."""
    wanted = (len(bands), scale * before.height, scale * before.width)
    found = (after.count, after.height, after.width)
    if found != wanted:
        yield f"(bands, height, width) is {found}, not {wanted}"


def has_transform(dataset: DatasetReader) -> bool:
    """Whether a file carries a geotransform; GDAL gives the identity where there is none."""
    return bool(dataset.transform != Affine.identity())


def place_differences(before: DatasetReader, after: DatasetReader, scale: int) -> Iterator[str]:
    """CRS, transform, and whether positions mean areas or points."""
    if before.crs != after.crs:
        yield f"crs is {after.crs}, not {before.crs}"
    meaning = before.tags().get("AREA_OR_POINT")
    if before.gcps[0]:
        meaning = meaning and "Area"  # a point file shifts its control points when it is read back
        if has_transform(after):
            yield f"a transform stands beside the control points: {tuple(after.transform)[:6]}"
    elif not same_transform(before, after, scale):
        wanted = before.transform * Affine.scale(1 / scale)
        yield f"transform is {tuple(after.transform)[:6]}, not {tuple(wanted)[:6]}"
    if meaning and (before.crs or before.gcps[1]) and after.tags().get("AREA_OR_POINT") != meaning:
        yield f"AREA_OR_POINT is {after.tags().get('AREA_OR_POINT')}, not {meaning}"


def same_transform(before: DatasetReader, after: DatasetReader, scale: int) -> bool:
    """Whether the transform is exactly the source's, divided by the scale.

    A point file is written half a pixel off and read back, which may cost the last digit of its
    origin. A file that had no transform may have none, or the scale alone.
    """
    wanted = before.transform * Affine.scale(1 / scale)
    if not has_transform(before):
        return after.transform in (wanted, before.transform)
    if before.tags().get("AREA_OR_POINT") == "Point":
        pixel = max(abs(wanted.a), abs(wanted.b), abs(wanted.d), abs(wanted.e))
        return bool(after.transform.almost_equals(wanted, 1e-6 * pixel))
    return bool(after.transform == wanted)


def gcp_differences(before: DatasetReader, after: DatasetReader, scale: int) -> Iterator[str]:
    """Ground control points: rows and columns times the scale, all else the same."""
    (points, crs), (found, found_crs) = before.gcps, after.gcps
    if len(points) != len(found):
        yield f"{len(found)} control points, not {len(points)}"
        return
    if points and crs != found_crs:
        yield f"crs of the control points is {found_crs}, not {crs}"
    for number, (old, new) in enumerate(zip(points, found, strict=True)):
        wanted = (old.row * scale, old.col * scale, old.x, old.y, old.z or 0.0)
        if not close((new.row, new.col, new.x, new.y, new.z or 0.0), wanted):
            yield f"control point {number} is {new}, not {wanted}"
            return
        if (new.id, new.info or "") != (old.id, old.info or ""):
            yield f"control point {number} is called {new.id!r} {new.info!r}, not {old.id!r} {old.info!r}"
            return


def close(found: Sequence[float], wanted: Sequence[float]) -> bool:
    """Whether numbers agree to the last digits of a double."""
    return len(found) == len(wanted) and all(
        math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-12) for a, b in zip(found, wanted, strict=True)
    )


def rpc_differences(before: DatasetReader, after: DatasetReader, scale: int) -> Iterator[str]:
    """Rational polynomials: offsets count from the middle of a pixel, scales are lengths."""
    if (before.rpcs is None) != (after.rpcs is None):
        yield f"rational polynomials are {'lost' if before.rpcs else 'new'}"
    if before.rpcs is None or after.rpcs is None:
        return
    found = after.rpcs.to_dict()
    for key, value in before.rpcs.to_dict().items():
        wanted = scaled_rpc(key, value, scale)
        if wanted is not None and not close(listed(found[key]), listed(wanted)):
            yield f"RPC {key} is {found[key]}, not {wanted}"


def listed(value: Any) -> list[float]:
    """An item of the rational polynomials as a list, be it one number or twenty."""
    return list(value) if isinstance(value, list) else [value]


def scaled_rpc(key: str, value: Any, scale: int) -> Any:
    """One item of the rational polynomials at the new scale."""
    if key in ("line_off", "samp_off"):
        return (value + 0.5) * scale - 0.5
    if key in ("line_scale", "samp_scale"):
        return value * scale
    return value


def band_differences(before: DatasetReader, after: DatasetReader, bands: Sequence[int]) -> Iterator[str]:
    """What every band says of itself, except for its tags."""
    for name in ("dtypes", "nodatavals", "colorinterp", "descriptions", "scales", "offsets", "units"):
        wanted = [getattr(before, name)[band - 1] for band in bands]
        found = list(getattr(after, name))
        if not all(map(same_value, found, wanted)):
            yield f"{name} are {found}, not {wanted}"


def same_value(found: Any, wanted: Any) -> bool:
    """Equality in which NaN equals NaN, and no text equals an empty one."""
    if isinstance(found, float) and isinstance(wanted, float) and math.isnan(found) and math.isnan(wanted):
        return True
    return bool(found == wanted or (found in (None, "") and wanted in (None, "")))


def tag_differences(before: DatasetReader, after: DatasetReader, bands: Sequence[int]) -> Iterator[str]:
    """Tags of the dataset and of its bands; those of a namespace may have become plain tags."""
    present = after.tags()
    yield from lost_tags("tag", before.tags(), present)
    for namespace in own_namespaces(before):
        kept = {**folded_tags(namespace, before, present), **after.tags(ns=namespace)}
        yield from lost_tags(f"tag of namespace {namespace}", before.tags(ns=namespace), kept)
    for number, band in enumerate(bands, start=1):
        yield from lost_tags(f"tag of band {number}", before.tags(band), after.tags(number))


def own_namespaces(dataset: DatasetReader) -> list[str]:
    """Namespaces of the file's maker; XML documents and rasterio's creation notes are none."""
    names = set(dataset.tag_namespaces()) - GDAL_NAMESPACES - {"rio_creation_kwds"}
    return sorted(name for name in names if not name.startswith("xml:"))


def folded_tags(namespace: str, before: DatasetReader, present: dict[str, str]) -> dict[str, str]:
    """Items of a namespace as found among the plain tags, by their old names."""
    names = {key: [f"{namespace}{mark}{key}" for mark in SEPARATORS] for key in before.tags(ns=namespace)}
    return {key: present[name] for key, options in names.items() for name in options if name in present}


def lost_tags(what: str, wanted: dict[str, str], found: dict[str, str]) -> Iterator[str]:
    """Tags that are gone or changed; statistics of the old pixels and empty values should go, additions may come."""
    for key, text in wanted.items():
        value = text.lstrip()
        if key == "AREA_OR_POINT" or key.startswith("STATISTICS_") or not value:
            continue
        if found.get(key) != value:
            yield f"{what} {key} is {found.get(key)!r}, not {value!r}"


def mask_differences(
    before: DatasetReader, after: DatasetReader, scale: int, bands: Sequence[int]
) -> Iterator[str]:
    """Valid pixels, band by band: each source pixel's validity on its own scale x scale pixels."""
    for number, band in enumerate(bands, start=1):
        if surely_valid(before, band) and surely_valid(after, number):
            continue
        valid = found = different = 0
        for window in strips(before, scale):
            wanted = valid_pixels(before, band, window)
            fine = valid_pixels(after, number, scaled_window(window, scale))
            valid += int(wanted.sum())
            found += int(fine.sum())
            different += int((fine != np.kron(wanted, np.ones((scale, scale), bool))).sum())
        if different:
            yield f"band {number} has {found} valid pixels, not {valid * scale**2}; {different} differ"


def surely_valid(dataset: DatasetReader, band: int) -> bool:
    """Whether no pixel of a band can be invalid, so that there is no need to read it."""
    no_mask = MaskFlags.all_valid in dataset.mask_flag_enums[band - 1]
    return no_mask and np.dtype(dataset.dtypes[band - 1]).kind in "iu"


def valid_pixels(dataset: DatasetReader, band: int, window: Window) -> NDArray[np.bool_]:
    """The mask of one band in a window, with NaN counted as invalid."""
    valid: NDArray[np.bool_] = dataset.read_masks(band, window=window) > 0
    if np.dtype(dataset.dtypes[band - 1]).kind == "f":
        valid &= ~np.isnan(dataset.read(band, window=window))
    return valid


def strips(dataset: DatasetReader, scale: int) -> Iterator[Window]:
    """Full-width windows from top to bottom, small enough once they are upscaled."""
    rows = max(1, STRIP_PIXELS // (dataset.width * scale**2))
    for top in range(0, dataset.height, rows):
        yield Window(0, top, dataset.width, min(rows, dataset.height - top))


def scaled_window(window: Window, scale: int) -> Window:
    """The window of the result that covers a window of the source."""
    return Window(*(scale * value for value in window.flatten()))
