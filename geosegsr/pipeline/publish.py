"""Finished local files to an object store: the results, then the STAC item and its pictures, then nothing stays here."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from geosegsr.errors import JobError, ObjectExistsError, ObjectMissingError, StoreError
from geosegsr.files import read_json, whole_file
from geosegsr.pipeline.staging import Staging
from geosegsr.pipeline.standing import is_result, is_there, size_of
from geosegsr.pipeline.task import Product, Task
from geosegsr.raster.cog_published import check_published
from geosegsr.stores.address import Address
from geosegsr.stores.opening import open_store
from geosegsr.stores.small_file import named, pull, pulled, send_small
from geosegsr.stores.transfer import fetch_file, send_file

_COG = "image/tiff; application=geotiff; profile=cloud-optimized"


@contextmanager
def alone(task: Task) -> Iterator[None]:
    """Keep other processes of this user from the local files of a task.

    Raises:
        JobError: Another run is writing the same result.
    """
    path = task.target.with_name(f".{task.target.name}.lock")
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JobError(
                f"Cannot write '{task.published}': another run is writing it now. Wait for it, or pass another -o."
            ) from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def publish(task: Task) -> None:
    """Send the finished files of a task to their store, from the last to the first, and remove them here.

    Raises:
        JobError: An object has appeared that may not be replaced.
        StoreError: The store refuses, or gives no answer; the local files are kept.
        VerificationError: What arrived is not what was sent.
    """
    try:
        _send_all(task)
    except (ObjectExistsError, ObjectMissingError):
        raise
    except StoreError as error:
        raise StoreError(
            f"{error} The result is kept in '{task.target.parent}', and the same command sends it."
        ) from None
    for path in _local_files(task):
        path.unlink()


def tidy(task: Task) -> None:
    """Remove the local files of a task whose objects are finished: a run that was killed at its end left them.

    Raises:
        JobError: Another run is writing the same result.
    """
    if _local_files(task):
        with alone(task):
            for path in _local_files(task):
                path.unlink(missing_ok=True)
    if task.request.staging is not None:
        for folder in {path.parent for path in (task.target, *task.targets)}:
            task.request.staging.clear(folder)


def _local_files(task: Task) -> list[Path]:
    """What a task has on its way to the store, blocks left aside."""
    beside = [task.target.with_name(name) for name in sidecars(task)]
    files = [*task.targets, *map(_record, task.targets), *beside]
    return [path for path in files if path.exists()]


def _record(target: Path) -> Path:
    """The file that says which upload of a result is under way."""
    return target.with_name(f"{target.name}.upload")


def _send_all(task: Task) -> None:
    for product in reversed(task.products):
        _send(product, task)
    for name, address in sidecars(task).items() if task.request.stac else ():
        send_small(task.target.with_name(name), address)


def item_is_missing(task: Task) -> bool:
    """Whether a STAC item is wanted, and none of these very objects is beside them, or its time is to be another."""
    if not task.request.stac:
        return False
    return task.request.acquired is not None or not describes(task)


def describes(task: Task) -> bool:
    """Whether the item beside the objects of a task is theirs, by their sizes."""
    item = task.target.with_suffix(".json").name
    with pulled({item: sidecars(task)[item]}) as folder:
        assets = read_json(folder / item).get("assets")
    sizes = {product.asset: size_of(product) for product in task.products}
    found = assets if isinstance(assets, dict) else {}
    return all(
        isinstance(asset := found.get(name), dict) and asset.get("file:size") == size
        for name, size in sizes.items()
    )


def fetch(task: Task) -> None:
    """Bring finished objects back to their local paths, so that an item can be made of them.

    Raises:
        StoreError: The store refuses, or gives no answer.
    """
    for product in task.products:
        if product.published is not None and not is_result(replace(product, published=None)):
            fetch_file(product.published, product.target)


def check_sidecars(task: Task) -> None:
    """Refuse a STAC item or pictures that would replace other objects of their names.

    Raises:
        JobError: They would.
    """
    if not task.request.stac or task.published is None:
        return
    from geosegsr.raster.stac import check_item_path

    with pulled(sidecars(task)) as folder:
        assets = {name: folder / path.name for name, path in task.assets.items()}
        with named(folder, task.published):
            check_item_path(folder / task.target.name, task.src, assets)


def sidecars(task: Task) -> dict[str, Address]:
    """Names and addresses of the item and its pictures."""
    from geosegsr.raster.stac_pictures import picture_paths

    if task.published is None:
        return {}
    paths = (*picture_paths(task.target).values(), task.target.with_suffix(".json"))
    return {path.name: task.published.beside(path.name) for path in paths}


def publish_collection(place: Address, items: Sequence[Address]) -> None:
    """Write the STAC collection of a batch to a store; one of ours that is there keeps its other items.

    Args:
        place: Where it goes.
        items: The batch's items, under the same prefix.

    Raises:
        StoreError: The store refuses, or gives no answer.
    """
    from geosegsr.raster.stac_collection import write_collection

    with tempfile.TemporaryDirectory(prefix="geosegsr-") as name:
        mirror = Staging(Path(name))
        path = mirror.path(place)
        pull(place, path)
        links = read_json(path).get("links")
        hrefs = (
            [link.get("href") for link in links if isinstance(link, dict)] if isinstance(links, list) else []
        )
        earlier = [path.parent / href for href in hrefs if isinstance(href, str)]
        for item in {
            *items,
            *filter(None, (mirror.address(Path(os.path.normpath(file))) for file in earlier)),
        }:
            pull(item, mirror.path(item))
        if items and write_collection(path.parent, [mirror.path(item) for item in items]) is not None:
            send_small(path, place)


def _send(product: Product, task: Task) -> None:
    address = product.published
    assert address is not None
    record = _record(product.target)
    _give_up(record, address)
    ours = is_there(product) and is_result(product)
    if ours and not task.request.recompute:
        return  # another process has finished it meanwhile
    new = not (task.request.overwrite or ours)
    try:
        send_file(
            product.target, address, new=new, kind=_COG,
            begun=lambda identity: _note(record, identity),
        )  # fmt: skip
        record.unlink(missing_ok=True)  # after an error it stays: the right to discard may be lost as well
    except ObjectExistsError:
        if is_result(product):
            return
        raise JobError(
            f"Cannot write '{address}': an object of that name has appeared since the run began. The result is kept in "
            f"'{product.target}'. Pass --overwrite to replace the object, and repeat the same command."
        ) from None
    check_published(address.gdal, str(address), product.target, open_store(address).gdal_options())


def _note(record: Path, identity: str) -> None:
    with whole_file(record, sync=True) as file:
        file.write(json.dumps({"upload": identity}).encode())


def _give_up(record: Path, address: Address) -> None:
    """Discard the upload of a process that was killed."""
    identity = read_json(record).get("upload")
    if isinstance(identity, str):
        with suppress(StoreError):
            open_store(address).discard(address.key, identity)
    record.unlink(missing_ok=True)
