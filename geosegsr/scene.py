"""A raster file as the pipeline reads it: by windows, with validity and everything it says about itself."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError, RasterioIOError

from geosegsr.assumptions import warn
from geosegsr.errors import BandError, SceneError
from geosegsr.metadata import BandMetadata, Metadata
from geosegsr.paths import check_path, exists, is_folder, is_remote
from geosegsr.radiometry import is_invalid
from geosegsr.windows import Window

log = logging.getLogger("geosegsr")

AlphaPolicy = Literal["auto", "mask", "image"]

# They describe the file's encoding or pixel grid, which change, or are read elsewhere.
_OWN_DOMAINS = {
    "COLOR_PROFILE", "DERIVED_SUBDATASETS", "GEOLOCATION", "IMAGE_STRUCTURE", "RPC", "SUBDATASETS", "rio_creation_kwds",
}  # fmt: skip
_COLOURS = ("red", "green", "blue", "nir")
_NUMBERED = {"b02": "blue", "b03": "green", "b04": "red", "b08": "nir"}
_SAMPLE_SIDE = 1024
_HANDLES_A_THREAD = 4  # a thread works on one scene at a time, so older ones have served
CACHE_BYTES = 128 << 20  # GDAL's block cache, for all threads together; rasterio takes bytes, GDAL itself MB
_MOST_BANDS = 4096  # imaging spectrometers have hundreds; a header of a few bytes can claim 65,535
_MOST_BLOCK_BYTES = (
    256_000_000  # of the file's own blocks: each thread unpacks one as a whole, however little is read
)
# A file is read as what its name says: a TIFF from a stranger must not turn out a list of other files or URLs to read.
_DRIVERS = {".tif": "GTiff", ".tiff": "GTiff"}
# A mask is mostly empty and full, even if it fades at its edges; an image is mostly in between, at many levels.
_IMAGE_SHARE_BETWEEN = 0.5
_IMAGE_LEVELS = 16

_handles = threading.local()


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
    """Where the alpha band stands among the output bands; None if it is not among them."""
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
    """All files it is made of, as far as GDAL tells: itself, a mask or overviews beside it, the rasters of a VRT."""

    @classmethod
    def open(
        cls,
        path: str | Path,
        bands: Sequence[int] | None = None,
        nodata: float | None = None,
        alpha: AlphaPolicy = "auto",
    ) -> Scene:
        """Read what a raster is; its pixels are read later.

        Args:
            path: A local path or anything GDAL opens (/vsicurl/..., s3://..., a VRT).
            bands: 1-based bands in the order they are wanted; all by default.
            nodata: Overrides the file's own nodata value.
            alpha: Whether a band tagged alpha is a "mask" or an "image"; "auto" looks at its values.

        Raises:
            SceneError: Not a raster, or a kind of raster that cannot be upscaled.
            BandError: No such bands.
        """
        with _reading(path) as source:
            _refuse_unfit(source, str(path))
            if len(source.subdatasets) > 1:
                warn(
                    f"'{path}' holds {len(source.subdatasets)} rasters; the first is taken. "
                    f"Pass the name of another instead of the file: '{source.subdatasets[1]}'"
                )
            selected = _selected_bands(source, bands)
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
            _refuse_masks_of_bands(source, image_bands, str(path))
            flags = source.mask_flag_enums[image_bands[0] - 1]
            metadata = _metadata(source, selected, _nodata(source, image_bands, nodata, str(path)))
            if fault := metadata.fault():
                raise SceneError(f"Cannot upscale '{path}': {fault}.")
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
                files=tuple(source.files),
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
        """The whole scene thinned out to at most `side` pixels a side, from its overviews where it has some.

        Returns:
            values and valid as in `read`, of every n-th pixel (nearest neighbour).
        """
        shrink = max(1.0, max(self.height, self.width) / side)
        shape = max(1, round(self.height / shrink)), max(1, round(self.width / shrink))
        values = self._read(list(self.image_bands), self.window, shape)
        alpha = None if self.alpha_band is None else self._read(self.alpha_band, self.window, shape)
        return values, self._validity(values, alpha, self._read_mask(self.window, shape))

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
        with _reading(self.path, window) as source:
            mask: NDArray[Any] = source.read_masks(self.image_bands[0], window=_rio(window), out_shape=shape)
        return mask

    def _read(
        self, bands: int | list[int], window: Window, shape: tuple[int, int] | None = None
    ) -> NDArray[Any]:
        out_shape = None
        if shape is not None:
            out_shape = shape if isinstance(bands, int) else (len(bands), *shape)
        with _reading(self.path, window) as source:
            values: NDArray[Any] = source.read(
                bands, window=_rio(window), out_shape=out_shape, resampling=Resampling.nearest
            )
        return values


def colour_of(description: str | None, colorinterp: str = "") -> str:
    """What a band is: red, green, blue or nir; empty where neither text says so.

    Names with two digits (B04) are Sentinel-2's and HLS's; Landsat's own names (B4) mean other colours on other
    satellites, so they say nothing.
    """
    text = (description or "").lower().replace("near infrared", "nir").replace("-", " ").replace("_", " ")
    words = text.split()
    found = {colour for colour in _COLOURS if colour in words}
    found |= {_NUMBERED[word] for word in words if word in _NUMBERED}
    if len(found) == 1 and not {"edge", "coastal"} & set(words):
        return found.pop()
    return colorinterp if colorinterp in _COLOURS else ""


def read_tag(path: str | Path, name: str) -> str | None:
    """A raster's tag; None where it has none, or where there is no raster."""
    try:
        with _reading(path) as source:
            value: str | None = source.tags().get(name)
    except SceneError:
        return None
    finally:
        forget_handles()  # the file may be about to be replaced
    return value


def forget_handles() -> None:
    """Close this thread's open files."""
    for source in _handles.__dict__.pop("open", {}).values():
        source.close()


def _rio(window: Window) -> rasterio.windows.Window:
    return rasterio.windows.Window(window.col, window.row, window.width, window.height)


@contextmanager
def _reading(path: str | Path, window: Window | None = None) -> Iterator[Any]:
    """This thread's handle of a file; GDAL's errors come out as ours, with the file and the window."""
    where = (
        ""
        if window is None
        else f" at rows {window.row}-{window.row_stop}, columns {window.col}-{window.col_stop}"
    )
    try:
        # Inside an Env, GDAL's messages go to the log instead of the terminal.
        with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
            yield _handle(str(path))
    except (RasterioIOError, CPLE_BaseError) as error:
        forget_handles()
        if window is None:
            raise _cannot_open(str(path), error) from error
        raise SceneError(
            f"Cannot read '{path}'{where}: the file is damaged, incomplete or out of reach ({gdal_reason(error)}). "
            "Get it again."
        ) from error
    except (RasterioError, CRSError) as error:
        raise SceneError(f"Cannot read '{path}'{where}: {gdal_reason(error)}.") from error


def _cannot_open(path: str, error: Exception) -> SceneError:
    remote = is_remote(path)
    if not remote and not exists(path):
        return SceneError(f"Cannot open '{path}': no such file. Check the path.")
    if not remote and is_folder(path):
        return SceneError(f"Cannot open '{path}' as a raster: it is a folder. Pass a file in it.")
    reason = gdal_reason(error).removeprefix(f"'{path}' ")
    return SceneError(f"Cannot open '{path}' as a raster: {reason}. Needed is a file that GDAL opens.")


def _handle(path: str) -> Any:
    opened: dict[Any, Any] = _handles.__dict__.setdefault("open", {})
    key = (path, _version(path))
    if key not in opened:
        check_path(path)
        if len(opened) >= _HANDLES_A_THREAD:
            forget_handles()
            opened = _handles.__dict__.setdefault("open", {})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            opened[key] = rasterio.open(path, driver=_DRIVERS.get(Path(path).suffix.lower()))
    return opened[key]


def _version(path: str) -> tuple[int, ...]:
    """Tells a file from another one that was later moved to its path."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns


def gdal_reason(error: BaseException) -> str:
    """What GDAL said first, in one line without a full stop."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, SystemError):  # rasterio's way to say so
        return "GDAL failed without a reason"
    text = str(getattr(error, "errmsg", "") or error)
    return " ".join(text.split()).rstrip(".") or type(error).__name__


def _refuse_unfit(source: Any, path: str) -> None:
    if source.count == 0:
        found = source.subdatasets
        listed = ", ".join(f"'{name}'" for name in found[:5])
        raise SceneError(
            f"Cannot upscale '{path}': it has no raster bands of its own but {len(found)} subdatasets. "
            f"Pass one of them instead of the file: {listed}."
        )
    if source.count > _MOST_BANDS:
        raise SceneError(
            f"Cannot upscale '{path}': it has {source.count:,} bands, and needed are at most {_MOST_BANDS:,}. "
            "Take some of them out first: gdal_translate -b 1 -b 2 IN OUT."
        )
    if ColorInterp.palette in source.colorinterp:
        raise SceneError(
            f"Cannot upscale '{path}': its pixels are entries of a colour table, and between two entries there is "
            "no colour. Needed are measured bands; expand it first: gdal_translate -expand rgb IN OUT."
        )
    if any(
        np.dtype(dtype).kind == "c" for dtype in source.dtypes if not dtype.startswith("complex_int")
    ) or any(dtype.startswith("complex_int") for dtype in source.dtypes):
        raise SceneError(
            f"Cannot upscale '{path}': its pixels are complex ({source.dtypes[0]}). "
            "Needed are real numbers; make amplitudes of them first."
        )
    _refuse_large_blocks(source, path)


def _refuse_masks_of_bands(source: Any, bands: tuple[int, ...], path: str) -> None:
    if all(source.mask_flag_enums[band - 1] for band in bands):
        return
    raise SceneError(
        f"Cannot upscale '{path}': its bands have masks of their own, and a COG holds one for all bands. Needed is one mask "
        "or a nodata value; the first band's mask serves for all by: gdal_translate -mask mask,1 IN OUT."
    )


def _refuse_large_blocks(source: Any, path: str) -> None:
    """A strip that holds the whole raster is unpacked as a whole for each block, and a small file can claim one of any size."""
    together = source.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE") == "PIXEL"
    pixel = (
        sum(np.dtype(dtype).itemsize for dtype in source.dtypes)
        if together
        else np.dtype(source.dtypes[0]).itemsize
    )
    rows, cols = source.block_shapes[0]
    if rows * cols * pixel > _MOST_BLOCK_BYTES:
        raise SceneError(
            f"Cannot upscale '{path}': it is stored in pieces of {cols} x {rows} pixels, {rows * cols * pixel / 1e6:,.0f} MB "
            f"each, which can only be read as a whole; needed are at most {_MOST_BLOCK_BYTES / 1e6:.0f} MB. "
            "Store it in tiles first: gdal_translate -co TILED=YES IN OUT."
        )


def _selected_bands(source: Any, bands: Sequence[int] | None) -> list[int]:
    selected = list(source.indexes if bands is None else bands)
    wrong = [band for band in selected if band not in source.indexes]
    if wrong or not selected:
        raise BandError(
            f"Cannot read band {', '.join(map(str, wrong)) or '(none)'} of '{source.name}': it has bands 1 to "
            f"{source.count}. Pass --bands with numbers from that range."
        )
    if len(set(selected)) < len(selected):
        raise BandError(
            f"Cannot use bands {selected} of '{source.name}': each may be named once. Pass --bands anew."
        )
    dtypes = source.dtypes
    kinds = sorted({dtypes[band - 1] for band in selected})
    if len(kinds) > 1:
        raise BandError(
            f"Cannot upscale '{source.name}': its bands have different dtypes ({', '.join(kinds)}). "
            "Pass --bands with bands of one dtype."
        )
    return selected


def _nodata(source: Any, bands: tuple[int, ...], override: float | None, path: str) -> float | None:
    """The one nodata value of the image bands, or None."""
    dtype = np.dtype(source.dtypes[bands[0] - 1])
    if override is not None:
        if not _fits(override, dtype):
            raise BandError(
                f"Cannot use nodata {override:g} for '{path}': no {dtype} pixel can have that value. "
                f"Pass --nodata with a whole number from {np.iinfo(dtype).min} to {np.iinfo(dtype).max}."
            )
        return float(override)
    declared = source.nodatavals
    found = {declared[band - 1] for band in bands}
    if len({str(value) for value in found}) > 1:
        raise SceneError(
            f"Cannot upscale '{path}': its bands have different nodata values "
            f"({', '.join(sorted(map(str, found)))}), and a GeoTIFF holds one. "
            "Pass --nodata V, or --bands with bands that agree."
        )
    nodata: float | None = found.pop()
    if nodata is not None and not _fits(nodata, dtype):
        warn(f"'{path}' declares nodata {nodata:g}, which no {dtype} pixel can have: taken as no nodata")
        return None
    return nodata


def _fits(value: float, dtype: np.dtype[Any]) -> bool:
    if dtype.kind == "f":
        return True
    info = np.iinfo(dtype)
    return bool(np.isfinite(value)) and value == int(value) and info.min <= value <= info.max


def _looks_like_image(source: Any, band: int) -> bool:
    shrink = max(1.0, max(source.height, source.width) / _SAMPLE_SIDE)
    shape = max(1, round(source.height / shrink)), max(1, round(source.width / shrink))
    values = source.read(band, out_shape=shape, resampling=Resampling.nearest)
    between = values[(values > 0) & (values < values.max())]
    return between.size > _IMAGE_SHARE_BETWEEN * values.size and np.unique(between).size >= _IMAGE_LEVELS


def _metadata(source: Any, bands: list[int], nodata: float | None) -> Metadata:
    gcps, gcps_crs = source.gcps
    colours, names = source.colorinterp, source.descriptions
    units, scales, offsets = source.units, source.scales, source.offsets
    has_transform = not gcps and source.transform != Affine.identity()
    tags = _tags(source, 0)
    if not (source.crs or gcps_crs):
        tags.pop("AREA_OR_POINT", None)  # without a CRS, GDAL loses "Area", and for "Point" it invents one
    return Metadata(
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
                tags=_tags(source, band),
            )
            for band in bands
        ),
    )


def _tags(source: Any, band: int) -> dict[str, str]:
    """Tags of the default domain, and those of others as "domain.key": a copy into a COG loses other domains.

    Statistics no longer hold at another size, documents (xml:XMP and the like) are no tags, and a TIFF keeps neither empty
    values nor white space before others.
    """
    tags = dict(source.tags(band))
    for domain in source.tag_namespaces(band):
        if domain and domain not in _OWN_DOMAINS and not domain.startswith(("xml:", "json:")):
            tags.update({f"{domain}.{key}": value for key, value in source.tags(band, ns=domain).items()})
    return {key: value.lstrip() for key, value in tags.items() if value.strip() and not _is_statistic(key)}


def _is_statistic(key: str) -> bool:
    return key.startswith("STATISTICS_") or "HISTOGRAM" in key.upper()
