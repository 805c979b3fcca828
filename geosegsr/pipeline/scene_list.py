"""The scenes of a batch, and the names of their results."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from string import Formatter

from geosegsr.errors import ConfigError, redacted
from geosegsr.files import is_remote
from geosegsr.imagery.find import find_rasters, is_unfinished, place_of
from geosegsr.pipeline.targets import check_name
from geosegsr.raster.products import container_of, file_of_subdataset, part_of_subdataset

DEFAULT_NAME = "{stem}_x{scale}.tif"
NAME_FIELDS = ("stem", "parent", "scale", "model")
_NO_NAME = re.compile(r"[^\w.-]+")


def find_scenes(named: Iterable[str], lines: Iterable[str] = (), exclude: Sequence[str] = ()) -> list[str]:
    """The scenes that a user names, in order, each once.

    Args:
        named: As for `find_rasters`; a folder stands for the images directly inside, because results may lie below.
        lines: Of a list: one path per line, used as it is. Blank lines, lines that begin with # and files of unfinished
            runs are ignored.
        exclude: Patterns of scenes to leave out. One without / is compared with the name of each file, another one with
            the end of its path.

    Raises:
        SceneError: A folder or pattern without any scene.
    """
    listed = (line.rstrip("\r\n") for line in lines)
    paths = [
        path
        for path in listed
        if path.strip() and not path.lstrip().startswith("#") and not is_unfinished(path)
    ]
    found: dict[str, str] = {}
    for scene in [*find_rasters(named, deep=False), *paths]:
        if not is_excluded(scene, exclude):
            found.setdefault(place_of(scene), scene)
    return list(found.values())


def is_excluded(scene: str, patterns: Sequence[str]) -> bool:
    """Whether a scene matches one of the patterns, as in `find_scenes`."""
    path = _without_secrets(scene).rstrip("/")
    return any(fnmatchcase(path, pattern) or fnmatchcase(path, f"*/{pattern}") for pattern in patterns)


def name_results(
    scenes: Sequence[str], folder: Path, *, scale: int, model: str, pattern: str = DEFAULT_NAME
) -> list[Path]:
    """The path of each scene's result.

    Args:
        scenes: As GDAL opens them, without duplicates.
        folder: The folder of all results; the pattern may add subfolders.
        scale: For the field {scale}.
        model: For the field {model}: a name, or a file, whose stem is used.
        pattern: A name with fields: {stem} is the scene's name without suffix, {parent} the name of its folder.

    Raises:
        SceneError: The folder is not local, or a name is not that of a GeoTIFF.
        ConfigError: A field is unknown, a name lies outside the folder, or two scenes have the same result.
    """
    _check_fields(pattern)
    fields = {"scale": str(scale), "model": Path(model).stem}
    owners: dict[Path, str] = {}
    for scene in scenes:
        text = pattern.format(stem=_stem(scene), parent=_parent(scene), **fields)
        path = Path(text)
        if not path.name or path.is_absolute() or ".." in path.parts or text.endswith("/") or "\0" in pattern:
            raise ConfigError(
                f"Cannot name the result of '{scene}' '{text}': it must be the name of a file inside '{folder}'. "
                f"Pass another --name, such as '{DEFAULT_NAME}'."
            )
        check_name(folder / path)
        other = owners.setdefault(folder / path, scene)
        if other != scene:
            raise ConfigError(
                f"Cannot write both '{other}' and '{scene}' to '{folder / path}'. Pass a --name that tells them "
                "apart, such as '{parent}_{stem}_x{scale}.tif', or a different -o for each."
            )
    return list(owners)


def _check_fields(pattern: str) -> None:
    known = ", ".join(f"{{{field}}}" for field in NAME_FIELDS)
    try:
        parts = list(Formatter().parse(pattern))
    except ValueError as error:
        raise ConfigError(f"Cannot use --name '{pattern}': {error}. Write fields as {known}.") from error
    for _, field, form, conversion in parts:
        if field is not None and (field not in NAME_FIELDS or form or conversion):
            whole = field + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
            raise ConfigError(
                f"Cannot use --name '{pattern}': there is no field {{{whole}}}. The fields are {known}."
            )


def _stem(scene: str) -> str:
    """Name without suffix; of a part of a product the product's name and the part's."""
    file = file_of_subdataset(scene) or container_of(scene)
    if file == scene:
        return Path(_without_secrets(scene)).stem
    part = part_of_subdataset(scene) if file_of_subdataset(scene) else scene.removeprefix(file)
    return "_".join((_product_stem(Path(file)), _NO_NAME.sub("_", part.lstrip(":"))))


def _product_stem(path: Path) -> str:
    """Name of a product without suffix; its description inside has the same name in all products."""
    return path.parent.stem if path.name.startswith("MTD_") else path.stem


def _parent(scene: str) -> str:
    scene = file_of_subdataset(scene) or container_of(scene)
    return (
        Path(_without_secrets(scene)).parent.name if is_remote(scene) else Path(scene).absolute().parent.name
    )


def _without_secrets(scene: str) -> str:
    """The address of a remote file without its query and credentials."""
    return redacted(scene) if is_remote(scene) else scene
