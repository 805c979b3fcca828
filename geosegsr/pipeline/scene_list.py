"""Which scenes a batch is made of, and what their results are called."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from string import Formatter

from geosegsr.errors import ConfigError, SceneError
from geosegsr.files import exists, is_file, is_folder, is_remote, real_path

EXTENSIONS = (".tif", ".tiff", ".jp2", ".img", ".vrt", ".bil", ".asc")
"""What a folder's rasters end in; not what previews and archives of rasters do."""

DEFAULT_NAME = "{stem}_x{scale}.tif"
NAME_FIELDS = ("stem", "parent", "scale", "model")

_JOB_FOLDER = ".geosegsr"
_STARS = re.compile(r"(|.*?/)\*\*(?:/+\*\*)*(?:/+(.*))?", re.DOTALL)
"""What stands before and behind the first ** of a pattern, or several in a row."""


def find_scenes(named: Iterable[str], lines: Iterable[str] = ()) -> list[str]:
    """The scenes that a user means, in their order and each once.

    Args:
        named: Paths and whatever else GDAL opens, which are taken as they are; folders, of which the rasters right
            inside are taken, by their extension; and patterns with *, ?, [] and ** such as "in/**/*.tif".
        lines: Of a list: one path a line, taken as it is; blank lines, those that begin with # and files of unfinished
            runs do not count.

    Raises:
        SceneError: A folder or pattern without any scene.
    """
    listed = (line.rstrip("\r\n") for line in lines)
    paths = [
        path
        for path in listed
        if path.strip() and not path.lstrip().startswith("#") and not _is_ours(Path(path))
    ]
    found: dict[str, str] = {}
    for scene in [*(scene for name in named for scene in _behind(name)), *paths]:
        found.setdefault(_place(scene), scene)
    return list(found.values())


def name_results(
    scenes: Sequence[str], folder: Path, *, scale: int, model: str, pattern: str = DEFAULT_NAME
) -> list[Path]:
    """Where each scene's result goes.

    Args:
        scenes: As GDAL opens them, all different.
        folder: All results go into it, or into folders of it where the pattern says so.
        scale: For the field {scale}.
        model: For the field {model}: a name, or a file, whose stem is taken.
        pattern: A name with fields: {stem} is the scene's name without extension, {parent} its folder's name.

    Raises:
        ConfigError: An unknown field, a name outside the folder, or one name for two scenes.
    """
    _check_fields(pattern)
    fields = {"scale": str(scale), "model": Path(model).stem if model.endswith(".safetensors") else model}
    taken: dict[Path, str] = {}
    for scene in scenes:
        text = pattern.format(stem=_stem(scene), parent=_parent(scene), **fields)
        path = Path(text)
        if not path.name or path.is_absolute() or ".." in path.parts or text.endswith("/") or "\0" in pattern:
            raise ConfigError(
                f"Cannot name the result of '{scene}' '{text}': needed is a file's name inside '{folder}'. "
                f"Pass another --name, such as '{DEFAULT_NAME}'."
            )
        other = taken.setdefault(folder / path, scene)
        if other != scene:
            raise ConfigError(
                f"Cannot write both '{other}' and '{scene}' to '{folder / path}'. Pass a --name that tells them "
                "apart, such as '{parent}_{stem}_x{scale}.tif', or run them with different -o."
            )
    return list(taken)


def _behind(name: str) -> list[str]:
    path = Path(name)
    if is_remote(name):
        return [name]
    if is_folder(name):
        inside = [e for e in _entries(path) if e.suffix.lower() in EXTENSIONS and is_file(e)]
        found = [str(entry) for entry in inside if not entry.name.startswith(".")]
        needed = f"a file that ends in {', '.join(EXTENSIONS)}. For others pass a pattern, such as '{path / '*.png'}'"
    elif glob.has_magic(name) and not exists(name):
        matches = sorted({str(Path(match)) for match in _matches(name) if is_file(match)})
        found = [match for match in matches if not _is_ours(Path(match))]
        needed = "a file that matches it. Check the pattern, and keep it in quotes"
    else:
        return [name]
    if not found:
        raise SceneError(f"Cannot find scenes in '{name}': there are none. Needed is {needed}.")
    return found


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise SceneError(
            f"Cannot find scenes in '{folder}': {error.strerror}. Needed is a folder that you may read."
        ) from error


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


def _is_ours(path: Path) -> bool:
    """A file of an unfinished run, which is no scene."""
    return any(part.endswith(_JOB_FOLDER) for part in path.parts)


def _place(scene: str) -> str:
    return real_path(scene) if not is_remote(scene) and exists(scene) else scene


def _check_fields(pattern: str) -> None:
    known = ", ".join(f"{{{field}}}" for field in NAME_FIELDS)
    try:
        parts = list(Formatter().parse(pattern))
    except ValueError as error:
        raise ConfigError(f"Cannot use --name '{pattern}': {error}. Pass fields as {known}.") from error
    for _, field, form, conversion in parts:
        if field is not None and (field not in NAME_FIELDS or form or conversion):
            whole = field + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
            raise ConfigError(
                f"Cannot use --name '{pattern}': there is no field {{{whole}}}. There are {known}."
            )


def _stem(scene: str) -> str:
    return Path(_without_query(scene)).stem


def _parent(scene: str) -> str:
    return Path(_without_query(scene)).parent.name if is_remote(scene) else Path(scene).absolute().parent.name


def _without_query(scene: str) -> str:
    """A remote file's address without what follows its name, such as a signature."""
    return scene.partition("?")[0] if is_remote(scene) and not scene.startswith("/vsicurl?") else scene
