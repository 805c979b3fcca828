"""Small GeoTIFFs with one odd property each, for tests.

Every function writes one file with rasterio alone, so that nothing under test has a hand in its own
test data, and gives back the file's path. Pixels are smooth with some texture and depend on the seed only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import DTypeLike, NDArray
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.rpc import RPC
from rasterio.transform import Affine
from scipy import ndimage

CRS = "EPSG:32633"
TRANSFORM = Affine(10.0, 0.0, 463_200.0, 0.0, -10.0, 5_426_400.0)
SIZE = (48, 64)
"""Height and width of a scene that was asked for without a size."""

RANGES: dict[str, tuple[float, float]] = {
    "uint8": (12, 240),
    "int8": (-100, 110),
    "uint16": (250, 9_000),
    "int16": (-2_000, 9_000),
    "uint32": (1_000, 3_000_000),
    "int32": (-400_000, 3_000_000),
    "uint64": (1_000, 3_000_000),
    "int64": (-400_000, 3_000_000),
}
"""Lowest and highest pixel value, by dtype; 0.02 to 0.9 for those that are not integers."""


def texture(count: int, height: int, width: int, seed: int = 0) -> NDArray[np.float64]:
    """Hills, waves and some grain.

    Returns:
        Shape (count, height, width), every band stretched to 0 to 1.
    """
    rng = np.random.default_rng(seed)
    hills = ndimage.gaussian_filter(rng.standard_normal((count, height, width)), (0, 5, 5), mode="wrap") * 12
    rows, cols = np.mgrid[0:height, 0:width]
    waves = np.sin(rows / 3.7 + np.arange(count)[:, None, None]) * np.cos(cols / 5.3)
    field = hills + waves + 0.15 * rng.standard_normal((count, height, width))
    low = field.min(axis=(1, 2), keepdims=True)
    spread = np.maximum(field.max(axis=(1, 2), keepdims=True) - low, 1e-9)
    stretched: NDArray[np.float64] = (field - low) / spread
    return stretched


def pixels(
    count: int = 3, size: tuple[int, int] = SIZE, dtype: DTypeLike = "uint16", seed: int = 0
) -> NDArray[Any]:
    """Texture in the range that is usual for a dtype; never 0, and the imaginary part another texture.

    Args:
        count: Bands.
        size: Height and width.
        dtype: Any that GDAL knows.
        seed: Of the texture.

    Returns:
        Shape (count, height, width), of that dtype.
    """
    kind = np.dtype(dtype)
    low, high = RANGES.get(kind.name, (0.02, 0.9))
    values: NDArray[Any] = low + (high - low) * texture(count, *size, seed)
    if kind.kind == "c":
        values = values + 1j * texture(count, *size, seed + 1)
    if kind.kind in "iu":
        values = np.rint(values)
        values[values == 0] = 1
    return values.astype(kind)


def blob(size: tuple[int, int] = SIZE) -> NDArray[np.bool_]:
    """Pixels to call invalid: a slanted corner, a round hole and one pixel alone; bool, shape `size`."""
    height, width = size
    rows, cols = np.mgrid[0:height, 0:width]
    corner = rows / height + cols / width < 0.35
    hole = np.hypot(rows - 0.6 * height, cols - 0.65 * width) < 0.15 * min(size)
    alone = (rows == height // 4) & (cols == 3 * width // 4)
    invalid: NDArray[np.bool_] = corner | hole | alone
    return invalid


def write_scene(
    path: Path,
    array: NDArray[Any],
    *,
    colorinterp: Sequence[ColorInterp] | None = None,
    descriptions: Sequence[str | None] | None = None,
    scales: Sequence[float] | None = None,
    offsets: Sequence[float] | None = None,
    units: Sequence[str | None] | None = None,
    tags: Mapping[str, str] | None = None,
    namespaces: Mapping[str, Mapping[str, str]] | None = None,
    band_tags: Mapping[int, Mapping[str, str]] | None = None,
    mask: NDArray[np.bool_] | None = None,
    **profile: Any,
) -> Path:
    """Write an array as a GeoTIFF.

    Args:
        path: The file; it is replaced if it exists.
        array: Shape (bands, height, width).
        colorinterp: One for each band.
        descriptions: One for each band.
        scales: One for each band.
        offsets: One for each band.
        units: One for each band.
        tags: Of the dataset.
        namespaces: Tags of the dataset by namespace.
        band_tags: Tags by band number, which counts from 1.
        mask: Valid pixels, shape (height, width); written as a mask of the dataset.
        **profile: What rasterio.open() and the GTiff driver take; crs=None or transform=None leave those out;
            internal_mask=False puts the mask into a file of its own.

    Returns:
        The path.
    """
    count, height, width = array.shape
    settings: dict[str, Any] = {"crs": CRS, "transform": TRANSFORM, "dtype": array.dtype.name, **profile}
    settings = {key: value for key, value in settings.items() if value is not None}
    inside = settings.pop("internal_mask", True)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside),
        rasterio.open(
            path, "w", driver="GTiff", count=count, height=height, width=width, **settings
        ) as target,
    ):
        for name, values in (
            ("colorinterp", colorinterp),
            ("descriptions", descriptions),
            ("scales", scales),
            ("offsets", offsets),
            ("units", units),
        ):
            if values is not None:
                setattr(target, name, tuple(values))
        target.update_tags(**(tags or {}))
        for namespace, items in (namespaces or {}).items():
            target.update_tags(ns=namespace, **items)
        for band, items in (band_tags or {}).items():
            target.update_tags(band, **items)
        target.write(array)
        if mask is not None:
            target.write_mask(mask)
    return path


def write_plain(
    path: Path,
    *,
    count: int = 3,
    size: tuple[int, int] = SIZE,
    dtype: DTypeLike = "uint16",
    seed: int = 0,
    **kwargs: Any,
) -> Path:
    """A scene of any dtype, size and number of bands with nothing odd about it."""
    return write_scene(path, pixels(count, size, dtype, seed), **kwargs)


def write_constant(
    path: Path,
    value: float,
    *,
    count: int = 1,
    size: tuple[int, int] = SIZE,
    dtype: DTypeLike = "uint16",
    **kwargs: Any,
) -> Path:
    """A scene whose every pixel is the same."""
    return write_scene(path, np.full((count, *size), value, dtype), **kwargs)


def write_nodata(
    path: Path,
    nodata: float = 0,
    *,
    count: int = 3,
    size: tuple[int, int] = SIZE,
    dtype: DTypeLike = "uint16",
    seed: int = 0,
    **kwargs: Any,
) -> Path:
    """A scene with a nodata value, and that value in a corner, a hole and a pixel alone."""
    array = pixels(count, size, dtype, seed)
    array[:, blob(size)] = nodata
    return write_scene(path, array, nodata=nodata, **kwargs)


def write_ragged_nodata(path: Path, nodata: float = 0, *, seed: int = 0) -> Path:
    """Nodata that lies elsewhere in every band, as at the edge of a Landsat 7 scene."""
    array = pixels(3, seed=seed)
    for band in range(3):
        array[band, :, : 4 + 3 * band] = nodata
    return write_scene(path, array, nodata=nodata)


def write_all_nodata(path: Path, nodata: float = 0) -> Path:
    """A scene without one valid pixel."""
    return write_constant(path, nodata, count=3, nodata=nodata)


def write_nan(
    path: Path, *, nodata: float | None = None, dtype: DTypeLike = "float32", seed: int = 0
) -> Path:
    """Floating point with NaN in a corner, a hole and a pixel alone; no nodata value unless one is given."""
    array = pixels(2, SIZE, dtype, seed)
    array[:, blob()] = np.nan
    return write_scene(path, array, nodata=nodata)


def write_internal_mask(path: Path, *, dtype: DTypeLike = "uint8", seed: int = 0) -> Path:
    """RGB with a mask of the dataset inside the file."""
    return write_scene(path, pixels(3, SIZE, dtype, seed), mask=~blob(), photometric="rgb")


def write_external_mask(path: Path, *, dtype: DTypeLike = "uint8", seed: int = 0) -> Path:
    """RGB with its mask in a file of its own, PATH.msk."""
    array = pixels(3, SIZE, dtype, seed)
    return write_scene(path, array, mask=~blob(), photometric="rgb", internal_mask=False)


def write_alpha(path: Path, *, dtype: DTypeLike = "uint8", opaque: int | None = None, seed: int = 0) -> Path:
    """RGBA whose alpha is a plain mask: 0 or `opaque`, which is the dtype's highest value unless given."""
    array = pixels(4, SIZE, dtype, seed)
    array[3] = np.where(blob(), 0, np.iinfo(dtype).max if opaque is None else opaque)
    return write_scene(path, array, photometric="rgb", alpha="yes")


def write_soft_alpha(path: Path, *, seed: int = 0) -> Path:
    """RGBA whose alpha fades, as a mosaic's feathered edge does."""
    array = pixels(4, SIZE, "uint8", seed)
    fade = ndimage.gaussian_filter((~blob()).astype(float), 2)
    array[3] = np.where(blob(), 0, np.rint(255 * fade))
    return write_scene(path, array, photometric="rgb", alpha="yes")


def write_nir_as_alpha(path: Path, *, described: bool = True, seed: int = 0) -> Path:
    """Red, green, blue and NIR, the NIR tagged alpha by mistake, as NAIP tiles come."""
    names = ("red", "green", "blue", "nir") if described else None
    return write_scene(
        path, pixels(4, SIZE, "uint8", seed), photometric="rgb", alpha="yes", descriptions=names
    )


def write_rotated(path: Path, angle: float = 30, *, size: tuple[int, int] = SIZE, seed: int = 0) -> Path:
    """A scene turned by an angle in degrees, with pixels that are not square."""
    turn = Affine.translation(463_200.0, 5_426_400.0) * Affine.rotation(angle) * Affine.scale(10.0, -7.0)
    return write_plain(path, size=size, seed=seed, transform=turn)


def write_south_up(path: Path, *, seed: int = 0) -> Path:
    """A scene whose first row is its southernmost."""
    return write_plain(path, seed=seed, transform=Affine(10.0, 0.0, 463_200.0, 0.0, 10.0, 5_426_400.0))


def write_odd_pixel(path: Path, *, seed: int = 0) -> Path:
    """Degrees with digits that no division by 3 or 4 keeps short."""
    turn = Affine(
        8.983152841214912e-05, 0.0, -56.3736858233922, 0.0, -8.983152841194091e-05, -1.45868435835328
    )
    return write_plain(path, seed=seed, crs="EPSG:4326", transform=turn)


def write_point(path: Path, *, seed: int = 0) -> Path:
    """AREA_OR_POINT=Point: positions are those of pixel centres in the file, and of corners in rasterio."""
    return write_plain(path, seed=seed, tags={"AREA_OR_POINT": "Point"})


def ground_control(size: tuple[int, int] = SIZE) -> list[GroundControlPoint]:
    """Twelve points on an uneven grid, with heights, ids and notes."""
    height, width = size
    points = []
    for number, (row, col) in enumerate((r, c) for r in (0.0, 0.47, 1.0) for c in (0.0, 0.31, 0.66, 1.0)):
        at_row, at_col = row * height + 0.25, col * width - 0.125
        x = 14.5 + 1e-4 * at_col + 2e-5 * at_row + 1e-8 * at_row * at_col
        y = 48.9 - 9e-5 * at_row + 1e-5 * at_col
        points.append(
            GroundControlPoint(at_row, at_col, x, y, 300 + number / 7, f"p{number}", f"point {number}")
        )
    return points


def write_gcps(path: Path, *, size: tuple[int, int] = SIZE, seed: int = 0) -> Path:
    """A scene that only ground control points place on the ground."""
    return write_plain(
        path, count=1, size=size, seed=seed, crs="EPSG:4326", transform=None, gcps=ground_control(size)
    )


def rational_polynomials() -> RPC:
    """Coefficients of a made-up sensor over 14.5 E 48.9 N, for a scene of 48 x 64 pixels."""
    one = [1.0] + [0.0] * 19
    return RPC(
        err_bias=1.5,
        err_rand=0.25,
        line_off=23.75,
        samp_off=31.25,
        lat_off=48.9,
        long_off=14.5,
        height_off=420.0,
        line_scale=24.5,
        samp_scale=32.5,
        lat_scale=0.0225,
        long_scale=0.0325,
        height_scale=500.0,
        line_num_coeff=[0.001, -0.0331, -1.0415, 0.0081] + [0.0002] * 16,
        line_den_coeff=one,
        samp_num_coeff=[0.0077, 1.0164, 0.0015, 0.0131] + [0.0001] * 16,
        samp_den_coeff=one,
    )


def write_rpcs(path: Path, *, seed: int = 0) -> Path:
    """A scene that only rational polynomials place on the ground."""
    return write_plain(path, count=1, seed=seed, crs=None, transform=None, rpcs=rational_polynomials())


def write_rpcs_and_gcps(path: Path, *, seed: int = 0) -> Path:
    """A scene with rational polynomials and ground control points."""
    return write_plain(
        path,
        count=1,
        seed=seed,
        crs="EPSG:4326",
        transform=None,
        gcps=ground_control(),
        rpcs=rational_polynomials(),
    )


def write_no_crs(path: Path, *, georeferenced: bool = False, seed: int = 0) -> Path:
    """A scene without a CRS; with a transform all the same if `georeferenced`."""
    return write_plain(path, seed=seed, crs=None, transform=TRANSFORM if georeferenced else None)


def write_described(path: Path, *, seed: int = 0) -> Path:
    """Scales, offsets, units, descriptions, tags, band tags and a namespace of tags."""
    array = pixels(4, SIZE, "int16", seed)
    array[:, blob()] = -9999
    return write_scene(
        path,
        array,
        nodata=-9999,
        descriptions=("B02 blue", "B03 green", "B04 red", "B08 nir"),
        colorinterp=(ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined),
        scales=(0.0001, 0.0002, 0.0003, 0.0004),
        offsets=(-0.1, -0.2, -0.3, 0.0),
        units=("sr-1", "sr-1", "sr-1", "reflectance"),
        tags={"PLATFORM": "Sentinel-2A", "TIFFTAG_DATETIME": "2026:05:01 10:20:30", "STATISTICS_MEAN": "7"},
        namespaces={"PRODUCT": {"LEVEL": "2A", "BASELINE": "05.11"}},
        band_tags={1: {"WAVELENGTH": "492.4", "STATISTICS_MAXIMUM": "9000"}, 4: {"WAVELENGTH": "832.8"}},
    )


def write_palette(path: Path, *, seed: int = 0) -> Path:
    """A map of five classes with a colour table."""
    classes = (texture(1, *SIZE, seed) * 4.99).astype(np.uint8)
    write_scene(path, classes, photometric="palette")
    with rasterio.open(path, "r+") as target:
        target.write_colormap(1, {value: (40 * value, 200 - 30 * value, 90, 255) for value in range(5)})
    return path


def write_complex(path: Path, *, dtype: DTypeLike = "complex64", seed: int = 0) -> Path:
    """Complex numbers, as single-look radar has them."""
    return write_scene(path, pixels(1, SIZE, dtype, seed))


def write_many_bands(path: Path, count: int = 13, *, seed: int = 0) -> Path:
    """More bands than colours, named as Sentinel-2's are, one band after the other in the file."""
    names = [f"B{band:02d}" for band in range(1, count + 1)]
    return write_plain(path, count=count, seed=seed, descriptions=names, interleave="band")


def write_big_endian(path: Path, *, seed: int = 0) -> Path:
    """Bytes in the other order."""
    return write_plain(path, seed=seed, endianness="BIG")


def write_jpeg(path: Path, *, size: tuple[int, int] = (96, 128), seed: int = 0) -> Path:
    """JPEG in YCbCr, tiled: the pixels are RGB again when they are read."""
    options: dict[str, Any] = {
        "compress": "jpeg",
        "photometric": "ycbcr",
        "tiled": True,
        "blockxsize": 64,
        "blockysize": 64,
    }
    return write_plain(path, size=size, dtype="uint8", seed=seed, interleave="pixel", **options)


def write_truncated(
    path: Path, *, size: tuple[int, int] = (256, 256), keep: float = 0.5, seed: int = 0
) -> Path:
    """A file that was cut off: it opens with the right shape, and its lower rows cannot be read."""
    options: dict[str, Any] = {"compress": "deflate", "tiled": True, "blockxsize": 64, "blockysize": 64}
    write_plain(path, size=size, seed=seed, **options)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    return path


def write_subdatasets(path: Path, *, seed: int = 0) -> Path:
    """A file of two rasters, of which GDAL opens the first and lists both."""
    write_plain(path, count=1, seed=seed)
    return write_plain(path, count=1, seed=seed + 1, append_subdataset="YES")


def write_bandwise_nodata(path: Path, *, seed: int = 0) -> Path:
    """A VRT (with its GeoTIFF beside it) whose two bands have different nodata values."""
    source = write_plain(path.with_suffix(".tif"), count=2, seed=seed)
    height, width = SIZE
    bands = "".join(
        f'<VRTRasterBand dataType="UInt16" band="{band}"><NoDataValue>{nodata}</NoDataValue><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">{source.name}</SourceFilename><SourceBand>{band}</SourceBand>'
        "</SimpleSource></VRTRasterBand>"
        for band, nodata in ((1, 0), (2, 65535))
    )
    transform = ", ".join(repr(value) for value in TRANSFORM.to_gdal())
    head = f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>{CRS}</SRS>'
    path = path.with_suffix(".vrt")
    path.write_text(f"{head}<GeoTransform>{transform}</GeoTransform>{bands}</VRTDataset>")
    return path
