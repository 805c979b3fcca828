"""A raster file as the pipeline reads it: by windows, with validity and all its metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags, Resampling

from geosegsr.errors import BandError, SceneError
from geosegsr.notices import warn
from geosegsr.raster.bands import colour_of
from geosegsr.raster.contract import BandHints
from geosegsr.raster.fitness import (
    nodata_of,
    refuse_masks_of_bands,
    refuse_unfit,
    selected_bands,
    warn_of_white_zero,
)
from geosegsr.raster.gdal import read_pixels, reading, renew, rio_window
from geosegsr.raster.kinds import asked_kinds, telling_name
from geosegsr.raster.metadata import BandMetadata, Metadata
from geosegsr.raster.nodata import is_invalid
from geosegsr.raster.products import locate
from geosegsr.raster.texts import band_names, band_units, tags_of
from geosegsr.raster.window import Window

AlphaPolicy = Literal["auto", "mask", "image"]
_SAMPLE_SIDE = 1024
_LARGE_BLOCK = 1024 * 1024  # pixels
# A mask is mostly empty and full, even if it fades at its edges; an image is mostly in between, at many levels.
_IMAGE_SHARE_BETWEEN = 0.5
_IMAGE_LEVELS = 16


@dataclass(frozen=True)
class Scene:
    """The whole input raster. Cheap to copy and to send to another process: it holds no open file.

    `values` and `valid` of all methods have the order (bands, height, width) and hold the image bands;
    an alpha band that is a mask is no image band.
    """

    path: str
    """A local path or anything GDAL opens."""
    dtype: np.dtype[Any]
    """Of every band."""
    metadata: Metadata
    """Of the selected bands, the alpha band included where it is selected."""
    image_bands: tuple[int, ...]
    """1-based source indices of the bands that go through the model, in output order."""
    alpha_band: int | None
    """1-based source index of the band that is the mask, or None."""
    alpha_position: int | None
    """Position of the alpha band among the output bands; None if it is not one of them."""
    alpha_looks_like_image: bool
    """A band is tagged alpha but holds more than mask values (NAIP's near infrared is often tagged so)."""
    has_mask: bool
    """The file carries an internal or external mask."""
    driver: str
    """GDAL's short name of the format."""
    block_shape: tuple[int, int]
    """Rows and columns of the file's own blocks, in pixels."""
    overviews: tuple[int, ...]
    """Decimation factors of the file's overviews."""
    files: tuple[str, ...] = ()
    """All files of the raster: those that GDAL lists (itself, a mask or overviews beside it, the rasters of a VRT), and the
    file of the product that it is a part of."""
    hints: tuple[BandHints, ...] = ()
    """What the file, and the user, say of each image band."""
    opened: str = ""
    """What GDAL opens: a VRT document for a part of a product; empty where it is `path` itself."""

    @classmethod
    def open(
        cls,
        path: str | Path,
        bands: Sequence[int | str] | None = None,
        nodata: float | None = None,
        alpha: AlphaPolicy = "auto",
    ) -> Scene:
        """Open a raster and read its metadata; its pixels are read later.

        Args:
            path: A local path or anything GDAL opens (/vsicurl/..., s3://..., a VRT); a product or "PRODUCT:PART", see
                `geosegsr.raster.products`.
            bands: 1-based numbers or names of bands, in the order they are wanted; all by default.
            nodata: Overrides the file's own nodata value.
            alpha: Whether a band tagged alpha is a "mask" or an "image"; "auto" decides by its values.

        Raises:
            SceneError: It is not a raster, or a kind of raster that cannot be upscaled.
            BandError: The bands do not exist, or cannot be used together.
        """
        located = locate(str(path))
        if located is not None and located.chosen and len(located.product.parts) > 1:
            warn(located.product.notice(located.part))
        opened = "" if located is None else located.part.path
        renew(path)
        with reading(opened or path, name=str(path)) as source:
            refuse_unfit(source, str(path))
            _warn_of_others(source, path)
            warn_of_white_zero(source, str(path))
            selected = selected_bands(source, bands, str(path))
            tagged = [i for i, colour in enumerate(source.colorinterp, 1) if colour == ColorInterp.alpha]
            looks_like_image = bool(tagged) and source.count > 1 and _looks_like_image(source, tagged[-1])
            is_mask = alpha == "mask" or (alpha == "auto" and not looks_like_image)
            alpha_band = tagged[-1] if tagged and is_mask and source.count > 1 else None
            image_bands = tuple(i for i in selected if i != alpha_band)
            if not image_bands:
                raise BandError(
                    f"Cannot use only band {alpha_band} of '{path}': it is the alpha band, which is a mask. "
                    "Pass --bands with an image band, or --alpha image if it holds an image."
                )
            refuse_masks_of_bands(source, image_bands, str(path))
            flags = source.mask_flag_enums[image_bands[0] - 1]
            metadata = _metadata(source, selected, nodata_of(source, image_bands, nodata, str(path)), path)
            return cls(
                path=str(path),
                dtype=np.dtype(source.dtypes[image_bands[0] - 1]),
                metadata=metadata,
                image_bands=image_bands,
                alpha_band=alpha_band,
                alpha_position=selected.index(alpha_band) if alpha_band in selected else None,
                alpha_looks_like_image=looks_like_image,
                has_mask=MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags,
                driver=source.driver,
                block_shape=source.block_shapes[image_bands[0] - 1],
                overviews=tuple(source.overviews(image_bands[0])),
                files=tuple(source.files) if located is None else (*source.files, located.container),
                hints=_hints(source, metadata, image_bands),
                opened=opened,
            )

    @property
    def has_costly_places(self) -> bool:
        """Whether a small place takes decoding far more than itself, while the whole is cheap to read decimated: JPEG 2000."""
        rows, cols = self.block_shape
        return bool(self.overviews) and rows * cols >= _LARGE_BLOCK

    def with_nodata(self, nodata: float) -> Scene:
        """The same scene with another nodata value, which its data type can hold."""
        return replace(self, metadata=replace(self.metadata, nodata=nodata))

    def with_band_kinds(self, asked: Mapping[int, str] | None) -> Scene:
        """The same scene, with what a user says that bands hold, by their 1-based number; see `geosegsr.raster.kinds`.

        Raises:
            BandError: There is no such band or kind.
        """
        kinds = asked_kinds(asked, [hint.index for hint in self.hints], self.path)
        return replace(
            self, hints=tuple(replace(hint, kind=kind) for hint, kind in zip(self.hints, kinds, strict=True))
        )

    @property
    def height(self) -> int:
        return self.metadata.height

    @property
    def width(self) -> int:
        return self.metadata.width

    @property
    def window(self) -> Window:
        """All of it."""
        return Window(0, 0, self.height, self.width)

    @property
    def count(self) -> int:
        """Number of image bands."""
        return len(self.image_bands)

    @property
    def nodata(self) -> float | None:
        return self.metadata.nodata

    @property
    def crs(self) -> Any:
        return self.metadata.crs

    @property
    def transform(self) -> Affine | None:
        return self.metadata.transform

    @cached_property
    def image_metadata(self) -> tuple[BandMetadata, ...]:
        """Of the image bands only."""
        return tuple(band for band in self.metadata.bands if band.index in self.image_bands)

    @property
    def scales(self) -> tuple[float, ...]:
        """Physical value per DN of each image band."""
        return tuple(band.scale for band in self.image_metadata)

    @property
    def offsets(self) -> tuple[float, ...]:
        """Physical value of DN 0 of each image band."""
        return tuple(band.offset for band in self.image_metadata)

    @property
    def descriptions(self) -> tuple[str | None, ...]:
        """Names of the image bands."""
        return tuple(band.description for band in self.image_metadata)

    @property
    def colours(self) -> tuple[str, ...]:
        """What each image band is ("red", "nir"), by its description or colour interpretation; "" if unknown."""
        return tuple(colour_of(band.description, band.colorinterp) for band in self.image_metadata)

    @property
    def resolution(self) -> tuple[float, float] | None:
        """Length of a pixel's sides along a row and along a column, in units of the CRS; None without transform."""
        if self.transform is None:
            return None
        t = self.transform
        return float(np.hypot(t.a, t.d)), float(np.hypot(t.b, t.e))

    def read(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Pixels and validity of a window that lies inside the scene.

        Returns:
            values: The file's dtype, shape (bands, height, width).
            valid: Same shape; False where nodata, NaN, infinite, masked or transparent.

        Raises:
            SceneError: The file cannot be read there.
        """
        values = self._read(list(self.image_bands), window)
        return values, self._validity(values, self.read_alpha(window), self._read_mask(window))

    def read_alpha(self, window: Window) -> NDArray[Any] | None:
        """The alpha band's values in a window, shape (height, width); None without alpha band."""
        return None if self.alpha_band is None else self._read(self.alpha_band, window)

    def sample(self, side: int = _SAMPLE_SIDE) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """The whole scene, decimated to at most `side` pixels per side, from its overviews if it has any.

        Returns:
            values and valid as in `read`, of every n-th pixel (nearest neighbour).
        """
        shrink = max(1.0, max(self.height, self.width) / side)
        shape = max(1, round(self.height / shrink)), max(1, round(self.width / shrink))
        return self.read_resampled(self.window, shape)

    def read_resampled(
        self, window: Window, shape: tuple[int, int], resampling: Resampling = Resampling.nearest
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """A window on a grid of another size, from the overviews if there are any; result as in `read`.

        Args:
            window: Pixels that lie inside the scene.
            shape: Rows and columns to make of it.
            resampling: How values are made; validity is that of the nearest pixel.
        """
        values = self._read(list(self.image_bands), window, shape, resampling)
        plain = values
        if resampling != Resampling.nearest and self.nodata is not None:
            plain = self._read(list(self.image_bands), window, shape)  # a mean beside nodata is neither
        alpha = None if self.alpha_band is None else self._read(self.alpha_band, window, shape)
        return values, self._validity(plain, alpha, self._read_mask(window, shape))

    def working_bytes(self, height: int, width: int) -> int:
        """Memory that reading a window of so many pixels takes, beyond the window itself."""
        return 0

    def _validity(
        self, values: NDArray[Any], alpha: NDArray[Any] | None, mask: NDArray[Any] | None
    ) -> NDArray[np.bool_]:
        valid = ~is_invalid(values, self.nodata)
        if alpha is not None:
            valid &= alpha > 0
        if mask is not None:
            valid &= mask > 0
        return valid

    def _read_mask(self, window: Window, shape: tuple[int, int] | None = None) -> NDArray[Any] | None:
        if not self.has_mask:
            return None
        band = self.image_bands[0]
        return read_pixels(
            self.opened or self.path,
            window,
            self.path,
            lambda source: source.read_masks(band, window=rio_window(window), out_shape=shape),
        )

    def _read(
        self,
        bands: int | list[int],
        window: Window,
        shape: tuple[int, int] | None = None,
        resampling: Resampling = Resampling.nearest,
    ) -> NDArray[Any]:
        out_shape = None
        if shape is not None:
            out_shape = shape if isinstance(bands, int) else (len(bands), *shape)
        return read_pixels(
            self.opened or self.path,
            window,
            self.path,
            lambda source: source.read(
                bands, window=rio_window(window), out_shape=out_shape, resampling=resampling
            ),
        )


def _warn_of_others(source: Any, path: str | Path) -> None:
    if len(source.subdatasets) > 1:
        warn(
            f"'{path}' holds {len(source.subdatasets)} rasters: the first is used. "
            f"Pass the name of another in place of the file: '{source.subdatasets[1]}'"
        )


def _hints(source: Any, metadata: Metadata, image_bands: Sequence[int]) -> tuple[BandHints, ...]:
    bands = {band.index: band for band in metadata.bands}
    found = []
    for index in image_bands:
        band = bands[index]
        nbits = source.tags(index, ns="IMAGE_STRUCTURE").get("NBITS", "")
        name = band.description or (telling_name(Path(source.name).stem) if source.count == 1 else "")
        colour = colour_of(band.description, band.colorinterp)
        palette = band.colorinterp == ColorInterp.palette.name
        found.append(BandHints(index, name, colour, int(nbits) if nbits.isdecimal() else None, palette))
    return tuple(found)


def _looks_like_image(source: Any, band: int) -> bool:
    shrink = max(1.0, max(source.height, source.width) / _SAMPLE_SIDE)
    shape = max(1, round(source.height / shrink)), max(1, round(source.width / shrink))
    values = source.read(band, out_shape=shape, resampling=Resampling.nearest)
    between = values[(values > 0) & (values < values.max())]
    return between.size > _IMAGE_SHARE_BETWEEN * values.size and np.unique(between).size >= _IMAGE_LEVELS


def _metadata(source: Any, bands: list[int], nodata: float | None, path: str | Path) -> Metadata:
    (gcps, gcps_crs), colours = source.gcps, source.colorinterp
    scales, offsets = source.scales, source.offsets
    names, units = band_names(source, str(path)), band_units(source, str(path))
    has_transform = not gcps and source.transform != Affine.identity()
    tags = tags_of(source, 0, str(path))
    if not (source.crs or gcps_crs):
        tags.pop("AREA_OR_POINT", None)  # without a CRS, GDAL loses "Area", and for "Point" it invents one
    metadata = Metadata(
        height=source.height,
        width=source.width,
        crs=source.crs if has_transform or not gcps else None,
        transform=source.transform if has_transform else None,
        nodata=nodata,
        gcps=tuple(gcps),
        gcps_crs=gcps_crs if gcps else None,
        rpcs=dict(source.tags(ns="RPC")),
        tags=tags,
        bands=tuple(
            BandMetadata(
                index=band,
                colorinterp=colours[band - 1].name,
                description=names[band - 1],
                unit=units[band - 1],
                scale=scales[band - 1],
                offset=offsets[band - 1],
                tags=tags_of(source, band, str(path)),
                colour_table=_colour_table(source, band),
            )
            for band in bands
        ),
    )
    if fault := metadata.fault():
        raise SceneError(f"Cannot upscale '{path}': {fault}.")
    return metadata


def _colour_table(source: Any, band: int) -> tuple[tuple[int, ...], ...]:
    if source.colorinterp[band - 1] != ColorInterp.palette:
        return ()
    entries: dict[int, tuple[int, ...]] = source.colormap(band)
    return tuple(entries.get(value, (0, 0, 0, 255)) for value in range(max(entries, default=-1) + 1))
