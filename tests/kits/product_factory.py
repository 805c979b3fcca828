"""Small products as archives deliver them: Sentinel-2 folders, Landsat scenes, STAC items, folders of bands."""

import json
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS

SAFE = "S2B_MSIL2A_20240501T102031_N0510_R065_T32TQM_20240501T130000.SAFE"
LANDSAT = "LC09_L2SP_195028_20240501_20240502_02_T1"
SIDE_M = 480
"""Length of the ground that all bands show, in metres."""

_MTD = """<?xml version="1.0"?>
<n1:Level-2A_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-2A.xsd"><n1:General_Info>
<Product_Info><PRODUCT_START_TIME>2024-05-01T10:20:31.024Z</PRODUCT_START_TIME>
<PROCESSING_BASELINE>05.10</PROCESSING_BASELINE></Product_Info>
<Product_Image_Characteristics><QUANTIFICATION_VALUES_LIST><BOA_QUANTIFICATION_VALUE>10000</BOA_QUANTIFICATION_VALUE>
<AOT_QUANTIFICATION_VALUE>1000.0</AOT_QUANTIFICATION_VALUE></QUANTIFICATION_VALUES_LIST>
<BOA_ADD_OFFSET_VALUES_LIST>{offsets}</BOA_ADD_OFFSET_VALUES_LIST></Product_Image_Characteristics>
</n1:General_Info></n1:Level-2A_User_Product>"""

_MTL = """GROUP = LANDSAT_METADATA_FILE
  GROUP = IMAGE_ATTRIBUTES
    DATE_ACQUIRED = 2024-05-01
    SCENE_CENTER_TIME = "10:10:10.1234567Z"
  END_GROUP = IMAGE_ATTRIBUTES
  GROUP = LEVEL2_SURFACE_REFLECTANCE_PARAMETERS
    REFLECTANCE_MULT_BAND_4 = 2.75e-05
    REFLECTANCE_ADD_BAND_4 = -0.2
  END_GROUP = LEVEL2_SURFACE_REFLECTANCE_PARAMETERS
  GROUP = LEVEL2_SURFACE_TEMPERATURE_PARAMETERS
    TEMPERATURE_MULT_BAND_ST_B10 = 0.00341802
    TEMPERATURE_ADD_BAND_ST_B10 = 149.0
  END_GROUP = LEVEL2_SURFACE_TEMPERATURE_PARAMETERS
  GROUP = LEVEL1_RADIOMETRIC_RESCALING
    REFLECTANCE_MULT_BAND_4 = 2.0000E-05
    REFLECTANCE_ADD_BAND_4 = -0.100000
  END_GROUP = LEVEL1_RADIOMETRIC_RESCALING
END_GROUP = LANDSAT_METADATA_FILE
END
"""


def write_band(
    path: Path, size_m: float, dtype: str = "uint16", value: int | None = None, count: int = 1
) -> Path:
    """A band over the ground; DN 1000 to 3000, or 4 and 5 in an 8-bit band, or one value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    side = round(SIDE_M / size_m)
    rng = np.random.default_rng([ord(letter) for letter in path.stem])
    pixels = (
        rng.integers(1000, 3000, (count, side, side))
        if dtype != "uint8"
        else rng.integers(4, 6, (count, side, side))
    )
    if value is not None:
        pixels[:] = value
    options = (
        {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}
        if path.suffix == ".jp2"
        else {"driver": "GTiff"}
    )
    with rasterio.open(
        path, "w", width=side, height=side, count=count, dtype=dtype, crs=CRS.from_epsg(32632),
        transform=Affine(size_m, 0, 600000, 0, -size_m, 5000000), **options,
    ) as target:  # fmt: skip
        target.write(pixels.astype(dtype))
    return path


def write_safe(folder: Path) -> Path:
    """A Sentinel-2 L2A product of baseline 05.10: bands that were resampled to other pixel sizes are there, too."""
    top = folder / SAFE
    images = top / "GRANULE" / "L2A_T32TQM_A037000_20240501T102031" / "IMG_DATA"
    for band, sizes in {
        "B02": (10, 20), "B03": (10,), "B04": (10, 60), "B08": (10,), "AOT": (10, 20), "B05": (20,), "B8A": (20, 60),
        "SCL": (20, 60), "B01": (20, 60),
    }.items():  # fmt: skip
        for size in sizes:
            dtype = "uint8" if band == "SCL" else "uint16"
            write_band(images / f"R{size}m" / f"T32TQM_20240501T102031_{band}_{size}m.jp2", size, dtype)
    write_band(images.parent / "QI_DATA" / "MSK_CLDPRB_20m.jp2", 20, "uint8")
    offsets = "".join(f'<BOA_ADD_OFFSET band_id="{n}">-1000</BOA_ADD_OFFSET>' for n in range(13))
    (top / "MTD_MSIL2A.xml").write_text(_MTD.format(offsets=offsets))
    return top


def write_landsat(folder: Path) -> Path:
    """A Landsat 9 scene of level 2."""
    top = folder / LANDSAT
    for band in ("SR_B2", "SR_B3", "SR_B4", "SR_B5", "ST_B10", "QA_PIXEL"):
        write_band(top / f"{LANDSAT}_{band}.TIF", 30)
    (top / f"{LANDSAT}_MTL.txt").write_text(_MTL)
    return top


def write_bands(folder: Path, stem: str = "scene_2024_{}") -> Path:
    """A folder of single bands with two pixel sizes."""
    for band, size in {"B02": 10, "B03": 10, "B04": 10, "B11": 20}.items():
        write_band(folder / f"{stem.format(band)}.tif", size)
    return folder


def write_item(path: Path) -> Path:
    """A STAC item with two single-band assets, a class asset and a picture."""
    for band, size in {"red": 10, "nir": 10, "scl": 20}.items():
        write_band(path.parent / "data" / f"{band}.tif", size, "uint8" if band == "scl" else "uint16")
    write_band(path.parent / "data" / "visual.tif", 10, "uint8", count=3)
    reflectance = {"scale": 0.0001, "offset": -0.1, "nodata": 0}
    assets = {
        "visual": {"href": "./data/visual.tif", "roles": ["visual"],
                   "eo:bands": [{"name": name} for name in ("red", "green", "blue")]},
        "red": {"href": "./data/red.tif", "roles": ["data"], "raster:bands": [reflectance]},
        "nir": {"href": "data/nir.tif", "bands": [{"raster:scale": 0.0001, "raster:offset": -0.1, "nodata": 0}]},
        "scl": {"href": (path.parent / "data" / "scl.tif").as_uri(), "type": "image/tiff; application=geotiff"},
        "thumbnail": {"href": "./data/missing.tif", "roles": ["thumbnail"]},
        "metadata": {"href": "./data/about.xml"},
    }  # fmt: skip
    item = {
        "type": "Feature", "stac_version": "1.0.0", "id": "one", "geometry": None,
        "properties": {"datetime": "2024-05-01T10:20:31Z"}, "assets": assets, "links": [],
    }  # fmt: skip
    path.write_text(json.dumps(item))
    return path
