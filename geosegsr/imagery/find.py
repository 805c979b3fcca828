"""Image files behind folders, patterns and names: one rule for upscale, train and evaluate.

- A product's folder (Sentinel-2, Landsat, Zarr) stands for the product; see `geosegsr.raster.products`.
- Any other folder stands for the rasters in it, by their suffix. Pictures beside rasters are taken for previews; in a folder
  without rasters they are its images.
- A pattern stands for the files that match it. If it leaves the suffix open ("in/*"), the rule of folders applies.
- Any other name is taken as it is: GDAL opens more than files.
- A VRT counts where a name or a pattern spells out its suffix: it can name any other file, or an address.
- Hidden files and folders count only where a name or a pattern spells out the leading dot.
- Files of unfinished runs never count.
- Every file counts once, and every folder is searched once, wherever links lead.
"""

from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from geosegsr.errors import SceneError
from geosegsr.files import JOB_SUFFIX, check_path, exists, is_file, is_folder, is_remote, real_path
from geosegsr.raster.products import is_product

log = logging.getLogger("geosegsr")

Places: TypeAlias = str | Path | Sequence[str | Path]
"""A folder, a pattern or a file, or several of them."""

RASTERS = (".tif", ".tiff", ".gtiff", ".jp2", ".img", ".nitf", ".ntf", ".bil", ".asc")
"""Suffixes of the rasters in a folder, in lower case."""
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif")
"""Suffixes of plain pictures: previews where rasters lie beside them."""

_VRT = ".vrt"
PRODUCT_FOLDER = ".SAFE"
"""Suffix of a Sentinel-2 product."""
_STARS = re.compile(r"(|.*?/)\*\*(?:/+\*\*)*(?:/+(.*))?", re.DOTALL)
"""What stands before and behind the first ** of a pattern, or several in a row."""


def find_rasters(named: Iterable[str], *, deep: bool) -> list[str]:
    """The files that names stand for: in the order of the names, sorted by path behind each, and each once.

    Args:
        named: Folders; patterns with *, ?, [] and **, such as "in/**/*.tif", or "in/*.SAFE:20m" for a part of each
            product; and files or whatever else GDAL opens, which need not exist.
        deep: Whether a folder stands for the images in its subfolders, too.

    Raises:
        SceneError: A folder or pattern without any image, or names of nothing but files of unfinished runs.
    """
    found: dict[str, str] = {}
    blocks = []
    for name in named:
        for path in _behind(name, deep):
            if is_unfinished(path):
                blocks.append(path)
            else:
                found.setdefault(place_of(path), path)
    if blocks and not found:
        raise SceneError(
            f"Cannot use '{blocks[0]}': it belongs to an unfinished run. Re-run the same command to finish it, and "
            "pass its result."
        )
    return list(found.values())


def listed_places(places: Places) -> list[str]:
    """The names of one place, or of several."""
    return [str(places)] if isinstance(places, str | Path) else [str(place) for place in places]


def find_images(named: Iterable[str]) -> list[str]:
    """The images of a training run or an evaluation: as `find_rasters`, folders searched to the bottom.

    Raises:
        SceneError: A name that stands for no image, or a path that does not exist.
    """
    names = list(named)
    for name in names:
        if not (
            exists(name) or is_remote(name) or glob.has_magic(name) or ":" in name or name.startswith("<")
        ):
            check_path(name)
            raise SceneError(
                f"Cannot find images in '{name}': there is no such file or folder. Check the path, or pass a pattern."
            )
    return find_rasters(names, deep=True)


def is_unfinished(path: str) -> bool:
    """Whether a path leads into the job folder of a run, whose files are blocks and no images."""
    return any(Path(part).suffix == JOB_SUFFIX for part in Path(path).parts[:-1])


def place_of(path: str) -> str:
    """What tells one image from another: where its path leads, if it is a path."""
    return real_path(path) if not is_remote(path) and exists(path) else path


def _behind(name: str, deep: bool) -> list[str]:
    """What one name stands for; files of unfinished runs are left out of folders and patterns."""
    if is_remote(name) or (is_folder(name) and is_product(name)):
        return [name]
    if is_folder(name):
        found = _images_among(_inside(name, deep))
        if not deep:  # the images inside a product are no images of their own
            found += [path for path in Path(name).glob(f"*{PRODUCT_FOLDER}") if is_product(str(path))]
        needed = f"a file that ends in {', '.join(RASTERS + PICTURES)}. For others pass a pattern, such as '{Path(name) / '*.dat'}'"
    elif glob.has_magic(name) and not exists(name):
        matches = [
            Path(match)
            for match in _matches(name)
            if is_file(match) or (match.endswith(PRODUCT_FOLDER) and is_product(match))
        ]
        if _leaves_suffix_open(name):
            matches = [match for match in matches if match.suffix.lower() != _VRT]
            found = _images_among(matches) or matches
        else:
            found = matches
        found = found or _parts_of_products(name)
        needed = "a file that matches it. Check the pattern, and keep it in quotes"
    else:
        return [name]
    images = [str(path) for path in sorted(set(found)) if not is_unfinished(str(path))]
    if not images:
        raise SceneError(f"Cannot find images in '{name}': there are none. Needed is {needed}.")
    return images


def _parts_of_products(pattern: str) -> list[Path]:
    """The same part of all products that match: "in/*.SAFE:20m"."""
    products, _, part = pattern.rpartition(":")
    if not products or "/" in part or not glob.has_magic(products):
        return []
    return [Path(f"{match}:{part}") for match in _matches(products) if is_product(match)]


def _leaves_suffix_open(pattern: str) -> bool:
    suffix = Path(pattern).suffix
    return not suffix or glob.has_magic(suffix)


def _images_among(paths: Iterable[Path]) -> list[Path]:
    """The rasters in each folder; its pictures where it has no raster."""
    by_folder: dict[Path, list[Path]] = {}
    for path in paths:
        by_folder.setdefault(path.parent, []).append(path)
    found = []
    for folder, here in by_folder.items():
        rasters, pictures = (
            [path for path in here if path.suffix.lower() in kind] for kind in (RASTERS, PICTURES)
        )
        found += rasters or pictures
        if rasters and pictures:
            log.info("%d pictures beside the rasters in '%s' are taken for previews", len(pictures), folder)
    return found


def _inside(top: str, deep: bool) -> Iterator[Path]:
    """The visible files in a folder, and in the folders below it if asked for."""
    try:
        next(Path(top).iterdir(), None)
    except OSError as error:
        raise SceneError(
            f"Cannot find images in '{top}': {error.strerror}. Needed is a folder that you may read."
        ) from error
    # Folders below that may not be read, such as lost+found, are left out.
    for folder in _folders(top) if deep else [top]:
        paths = Path(folder).iterdir()
        yield from (path for path in paths if not path.name.startswith(".") and is_file(path))


def _matches(pattern: str) -> set[str]:
    """What glob.glob finds, but behind ** each folder once: links in circles would have it go on for ever."""
    found = _STARS.fullmatch(pattern)
    if found is None:
        return set(glob.glob(pattern))  # noqa: PTH207 - it may be absolute
    before, behind = found.groups(default="*")
    tops = glob.glob(before) if before else [os.curdir]  # noqa: PTH207
    folders = {folder for top in tops for folder in _folders(top)}
    return {match for folder in folders for match in _matches(f"{glob.escape(folder)}/{behind}")}


def _folders(top: str) -> Iterator[str]:
    """A folder and all below that are not hidden, each by one of its paths."""
    seen = set()
    for folder, inside, _ in os.walk(top, followlinks=True):
        place = real_path(folder)
        if place in seen:
            inside.clear()
            continue
        seen.add(place)
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        yield folder
