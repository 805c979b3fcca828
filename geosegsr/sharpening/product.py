"""A product as one scene: all its images on the grid of the finest, in the product's order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np

from geosegsr.context import begin
from geosegsr.errors import BandError, ConfigError, did_you_mean
from geosegsr.notices import warn
from geosegsr.raster.intake import look_at
from geosegsr.raster.kinds import BandKind
from geosegsr.raster.product import Part, Product
from geosegsr.raster.scene import Scene
from geosegsr.sharpening.dates import warn_of_dates
from geosegsr.sharpening.scene import SharpenedScene
from geosegsr.sharpening.stack import RepeatedScene, StackedScene

_PIXEL_SIZE = re.compile(r"[\d.]+m?")
"""Names of parts that hold all measured bands of a pixel size; others are pictures, or granules of several tiles."""
_NUMBER = re.compile(r"(?:[A-Z]+_)?B(\d+)([A-Z]?)")


def groups_of(product: Product) -> tuple[Part, ...]:
    """The parts whose bands can be brought to one grid, from the finest pixel to the coarsest."""
    return tuple(
        part for part in product.parts if part.bands[0].kind == "image" and _PIXEL_SIZE.fullmatch(part.name)
    )


def open_whole(
    product: Product,
    groups: Sequence[str] | None = None,
    bands: Sequence[int | str] | None = None,
    nodata: float | None = None,
    band_kinds: Mapping[int, str] | None = None,
) -> Scene:
    """Open several parts of a product as one scene on the grid of the finest.

    Args:
        product: At least one of its parts is named after a pixel size.
        groups: Names of the parts to use ("10m", "20m"); by default all.
        bands: Bands in the order they are wanted, by name ("B8A", "SCL"), or by number from 1 in the default order; by default
            all images in the order of their numbers. Bands that are not wanted still guide coarser ones.
        nodata: Overrides the value of pixels without data.
        band_kinds: What a user says that bands hold, by their 1-based number in the result; see `geosegsr.raster.kinds`.
            Bands that are no images, by this or by their values, are not sharpened and guide no others: their pixels are
            repeated.

    Raises:
        ConfigError: There is no such group.
        BandError: There is no such band, or none of the finest is an image.
        SceneError: The parts do not nest, or cannot be read.
    """
    parts = _chosen(product, groups)
    if groups is None and bands is None:
        warn(
            f"'{product.path}' is a product ({product.kind}): all its images come out on the grid of its {parts[0].name} bands, "
            "the coarser ones sharpened by the finer. For some of them pass --groups or --bands, such as "
            f"--groups {parts[0].name}"
        )
    wanted = _wanted(product, parts, bands)
    classes = [name for name in wanted if not any(name in part.band_names for part in parts)]
    used = _used(parts, wanted)
    if len(used) == 1 and not classes:
        return Scene.open(used[0].source, _numbers(used[0], wanted), nodata)
    said = {name: band_kinds[n] for n, name in enumerate(wanted, 1) if n in band_kinds} if band_kinds else {}
    decided: dict[str, tuple[BandKind, str]] = {}
    for part in used:
        names = [name for name in part.band_names if name in wanted or part is not used[-1]]
        decided |= _decided(part, names, said, nodata)
    others = {name for name, (kind, _) in decided.items() if kind != "image"}
    classes = [name for name in wanted if name in classes or name in others]
    used = _used(parts, [name for name in wanted if name not in classes])
    scene = _stacked(_Bands(product, wanted, others | set(classes), decided, nodata), used)
    warn_of_dates(scene)
    return scene


@dataclass(frozen=True)
class _Bands:
    """The bands of a product that are put together."""

    product: Product
    wanted: Sequence[str]
    """Names of those that come out, in this order."""
    classes: Set[str]
    """Those that are no images: they guide no others, and where they are wanted, their pixels are repeated."""
    decided: Mapping[str, tuple[BandKind, str]]
    """What each band was found to hold, and how."""
    nodata: float | None

    def open(self, part: Part, names: Sequence[str]) -> Scene:
        """Some bands of a part, as they are."""
        scene = Scene.open(part.source, _numbers(part, names), self.nodata)
        held = [name for name in part.band_names if name in names]
        hints = zip(scene.hints, held, strict=True)
        return replace(
            scene, hints=tuple(replace(hint, decided=self.decided.get(name)) for hint, name in hints)
        )


def _decided(
    part: Part, names: Sequence[str], said: Mapping[str, str], nodata: float | None
) -> dict[str, tuple[BandKind, str]]:
    """What some bands of a part hold, and how that is known: by what a user says, by name, or by their values as they are."""
    scene = Scene.open(part.source, _numbers(part, names), nodata)
    asked = {
        number: said[name] for number, name in zip(scene.image_bands, names, strict=True) if name in said
    }
    intake = look_at(scene.with_band_kinds(asked))
    return dict(zip(names, zip(intake.kinds, intake.reasons, strict=True), strict=True))


def _used(parts: Sequence[Part], images: Sequence[str]) -> Sequence[Part]:
    """The parts down to the coarsest that holds one of some images: finer ones guide it, and the finest is the grid."""
    last = max((at for at, part in enumerate(parts) if set(images) & set(part.band_names)), default=0)
    return parts[: last + 1]


def _stacked(bands: _Bands, used: Sequence[Part]) -> Scene:
    """The wanted bands on the grid of the finest part; pixels of classes are repeated."""
    product, wanted = bands.product, bands.wanted
    guides = [[name for name in part.band_names if name not in bands.classes] for part in used]
    if not guides[0]:
        raise BandError(
            f"Cannot bring '{product.path}' to the grid of its {used[0].name} bands: none of them is an image. "
            f"Pass --band-kind N=image for one of {', '.join(used[0].band_names)}, or --groups without {used[0].name}."
        )
    scene = bands.open(used[0], guides[0])
    classes = [name for name in wanted if name in bands.classes]
    for part, guide in zip(used[1:], guides[1:], strict=True):
        last = part is used[-1]
        images = [name for name in wanted if name in guide] if last else guide
        if not images:
            continue
        names = wanted if last and not classes else None
        begin(f"sharpening the {part.name} bands")
        sharpened = SharpenedScene.of(bands.open(part, images), scene)
        scene = StackedScene.of(product.path, scene, sharpened, names)
    dtype = scene.dtype
    for name in classes:
        repeated = RepeatedScene.of(bands.open(product.part(name), [name]), scene)
        if (common := np.result_type(dtype, repeated.dtype)) != dtype:
            warn(
                f"all bands of '{product.path}' come out as {common}: {name} holds {repeated.dtype}, the images {dtype}. "
                f"To keep {dtype}, leave {name} out of --bands"
            )
        scene = StackedScene.of(product.path, scene, repeated, wanted if name == classes[-1] else None)
    return scene


def _chosen(product: Product, groups: Sequence[str] | None) -> list[Part]:
    known = {part.name: part for part in groups_of(product)}
    unknown = [name for name in groups or () if name not in known]
    if unknown or not known:
        raise ConfigError(
            f"Cannot use group '{', '.join(unknown)}' of '{product.path}': its groups are {', '.join(known) or 'none'}."
            f"{did_you_mean(unknown[0], known) if unknown else ''} Pass --groups with some of them."
        )
    return [part for name, part in known.items() if groups is None or name in groups]


def _wanted(product: Product, parts: Sequence[Part], bands: Sequence[int | str] | None) -> list[str]:
    """Names of the bands that come out."""
    default = sorted((name for part in parts for name in part.band_names), key=_order)
    if bands is None:
        return default
    names = []
    for band in bands:
        if isinstance(band, str):
            names.append(product.part(band).band_names[0])
        elif 1 <= band <= len(default):
            names.append(default[band - 1])
        else:
            raise BandError(
                f"Cannot read band {band} of '{product.path}': it has bands 1 to {len(default)}. "
                f"Pass --bands with numbers from that range, or with names, such as {default[0]}."
            )
    left_out = [
        name for name in names for part in groups_of(product) if part not in parts and name in part.band_names
    ]
    if left_out or len(set(names)) < len(names):
        found = f"{left_out[0]} is in none of the --groups" if left_out else "a band is named twice"
        raise BandError(
            f"Cannot use bands {', '.join(names)} of '{product.path}': {found}. Pass other --bands."
        )
    return names


def _numbers(part: Part, wanted: Sequence[str]) -> list[int]:
    """1-based positions of the wanted bands in a part."""
    return [part.band_names.index(name) + 1 for name in wanted if name in part.band_names]


def _order(name: str) -> tuple[int, str]:
    """B8A comes after B08 and before B09; names without a number keep their order, at the end."""
    found = _NUMBER.fullmatch(name)
    return (int(found[1]), found[2]) if found else (10_000, "")
