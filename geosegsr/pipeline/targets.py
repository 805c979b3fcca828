"""Whether a run's targets and the STAC item beside them can be written at all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from geosegsr.errors import ConfigError, JobError, SceneError
from geosegsr.files import check_path, exists, is_file, is_folder, is_same
from geosegsr.pipeline.job import Job
from geosegsr.pipeline.staging import Staging
from geosegsr.stores.address import Address, address_of
from geosegsr.stores.opening import open_store

_REMOTE = re.compile(r"[A-Za-z][\w+.-]+:/|/vsi\w+[/?]")
_IMAGE_SUFFIX = re.compile(r"\.[A-Za-z]\w{1,4}")
_SUFFIXES = ("", ".tif", ".tiff")


def check_acquired(acquired: str | None, *, stac: bool) -> None:
    """Refuse an acquisition time that no STAC item can say.

    Raises:
        ConfigError: `acquired` is not a time, or there is no item to put it in.
    """
    if acquired is None:
        return
    if not stac:
        raise ConfigError("Cannot use --datetime without an item to put it in: pass --stac as well.")
    from geosegsr.raster.acquired import Acquired

    Acquired.parse(acquired)


def check_item(
    target: Path, src: str, assets: Mapping[str, Path], acquired: str | None, tags: Mapping[str, str]
) -> None:
    """Refuse a STAC item that could not be written beside a result.

    Args:
        target: The result's name.
        src: The source.
        assets: The files that the item is about, by their names in it.
        acquired: When the scene was acquired, where that is said.
        tags: The scene's tags, which may say it.

    Raises:
        JobError: The item would replace another file, or its name is too long.
        ConfigError: Nothing says when the scene was acquired.
    """
    from geosegsr.raster.acquired import Acquired
    from geosegsr.raster.stac import check_item_path

    check_item_path(target, src, assets)
    if acquired is None:
        Acquired.of(tags, src)


def write_item(target: Path, src: str, acquired: str | None, assets: Mapping[str, Path]) -> Path:
    """Write the STAC item of a finished result beside it; arguments as above and as in `Request`."""
    from geosegsr.raster.acquired import Acquired
    from geosegsr.raster.stac import write_item

    return write_item(target, src, None if acquired is None else Acquired.parse(acquired), assets)


def has_item(target: Path, assets: Mapping[str, Path]) -> bool:
    """Whether the item beside a result is that of these very files."""
    if not target.with_suffix(".json").exists() or not all(path.exists() for path in assets.values()):
        return False
    from geosegsr.raster.stac import describes

    return describes(target, assets)


def check_not_read(targets: Iterable[Path], files: Iterable[str]) -> None:
    """Refuse to replace a file that the run reads, such as a guide.

    Raises:
        JobError: A target is one of the files.
    """
    read = [file for file in files if is_file(file)]
    for target in targets:
        if target.exists() and any(target.samefile(file) for file in read):
            raise JobError(f"Cannot write '{target}': this run reads it. Pass another name for the result.")


def staged(target: str | Path, staging: Staging | None) -> Path:
    """Where a target is made: below `staging` if it goes to a store, or else where it is.

    Raises:
        ConfigError: Its key cannot be used.
        SceneError: It names no object, or promises something else than a GeoTIFF.
    """
    address = None if staging is None else address_of(target)
    if staging is None or address is None:
        return Path(target)
    if not address.name:
        raise SceneError(
            f"Cannot write '{address}': it names no object. Pass -o with a name after the last slash."
        )
    check_name(Path(target))
    return staging.path(address)


def check_name(target: Path) -> None:
    """Refuse the name of a result that is neither local nor in a store, or that promises something else than a GeoTIFF.

    Raises:
        SceneError: It is such a name.
        ConfigError: It is in a store, and its key cannot be used.
    """
    name = str(target)
    address = re.sub(":/(?!/)", "://", name, count=1)  # pathlib has dropped a slash
    in_store = address_of(target) is not None
    if not in_store and _REMOTE.match(name) and (target.is_absolute() or not exists(target.parts[0])):
        raise SceneError(
            f"Cannot write '{address}': results go to local folders and to object stores. Pass -o with a local path, or "
            "with s3://BUCKET/KEY, gs://BUCKET/KEY or az://CONTAINER/KEY."
        )
    if name == "-":
        raise SceneError(
            "Cannot write '-': a COG is not written to standard output. Pass -o with a file's name, such as result.tif."
        )
    if target.suffix.lower() not in _SUFFIXES:
        shown = address if in_store else name
        kept = target.stem if _IMAGE_SUFFIX.fullmatch(target.suffix) else target.name
        raise SceneError(
            f"Cannot write '{shown}': results are GeoTIFFs. Name it '{shown.removesuffix(target.name)}{kept}.tif'."
        )


def check_target(target: Path, src: str, *, new_folder: bool = False) -> None:
    """Refuse a target that cannot be written, whatever the run.

    Args:
        target: The file to write.
        src: The source.
        new_folder: Whether the target's folder may still have to be created.

    Raises:
        SceneError: The target is a folder or a device, or its folder does not exist or cannot be written.
        JobError: The target is the source itself.
    """
    check_paths(target, src)
    if target.is_dir():
        raise SceneError(f"Cannot write '{target}': it is a folder. Pass -o with a file's name in it.")
    check_name(target)
    if target.exists() and not target.is_file():
        raise SceneError(f"Cannot write '{target}': it is a device or a pipe. Pass -o with a file's name.")
    folder = target.parent
    while new_folder and not exists(folder):
        folder = folder.parent
    if not is_folder(folder):
        if exists(folder):
            raise SceneError(f"Cannot write '{target}': '{folder}' is not a folder. Pass another -o.")
        raise SceneError(
            f"Cannot write '{target}': its folder does not exist. Create it first: mkdir -p '{folder}'."
        )
    if exists(src) and target.exists() and target.samefile(src):
        raise JobError(f"Cannot write '{target}': it is the source itself. Pass another -o.")
    if not os.access(folder, os.W_OK):
        raise SceneError(
            f"Cannot write '{target}': its folder is read-only. Pass -o in a folder that you may write."
        )


def check_paths(target: Path, src: str) -> None:
    """Refuse paths that cannot be opened or written because of a name or a folder on the way.

    Raises:
        SceneError: The source, the target, or the job's folder, whose name is longer, is such a path.
    """
    check_path(src)
    check_path(target, "write")
    check_path(Job(target).folder, "write")


def check_beside(target: Path | Address) -> None:
    """Refuse to write beside a file that GDAL would read as the result's mask, overviews, nodata or georeference.

    Raises:
        JobError: An earlier raster of that name left such a file.
    """
    for ending in (".aux.xml", ".msk", ".ovr"):
        if isinstance(target, Path):
            beside = target.with_name(target.name + ending)
            there, remove = beside.exists(), f"rm '{beside}'"
        else:
            at = target.beside(target.name + ending)
            there, remove = open_store(at).head(at.key) is not None, f"delete '{at}'"
        if there:
            raise JobError(
                f"Cannot write '{target}': '{target.name}{ending}' beside it belongs to an earlier file of that name, and "
                f"GDAL would take it for a part of this one. Remove it first: {remove}."
            )


def check_uncertainty_target(path: Path, target: Path, src: str, *, new_folder: bool = False) -> None:
    """As `check_target`, of the COG for the uncertainty.

    Raises:
        ConfigError: It is the target itself, or on another file system.
    """
    check_target(path, src, new_folder=new_folder)
    if is_same(path, target):
        raise ConfigError(
            f"Cannot write the image and its uncertainty to one file '{target}': pass another --uncertainty."
        )
    if not new_folder and path.parent.stat().st_dev != target.parent.stat().st_dev:
        raise ConfigError(
            f"Cannot write '{path}': it is on another file system than '{target}', so that the two could not appear "
            "together. Pass --uncertainty in the same folder."
        )
