"""Names by which GDAL's VRT documents call data types and colours."""

from __future__ import annotations

GDAL_TYPES = {
    "uint8": "Byte", "int8": "Int8", "uint16": "UInt16", "int16": "Int16", "uint32": "UInt32", "int32": "Int32",
    "uint64": "UInt64", "int64": "Int64", "float32": "Float32", "float64": "Float64",
}  # fmt: skip
"""NumPy's name of a data type -> GDAL's."""
_COLOURS = {"other_ir": "OtherIR", "Y": "YCbCr_Y", "Cb": "YCbCr_Cb", "Cr": "YCbCr_Cr"}


def colour_name(colorinterp: str) -> str:
    """GDAL's name of a colour interpretation, from rasterio's; GDAL ignores case."""
    return _COLOURS.get(colorinterp, colorinterp.capitalize())
