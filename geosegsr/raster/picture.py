"""Pictures as files hold them, and as pages carry them inside."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Kind = Literal["png", "jpeg"]


def encoded(picture: NDArray[np.uint8], kind: Kind = "png", **options: Any) -> bytes:
    """A picture as a file.

    Args:
        picture: Red, green and blue, and opacity where there is a fourth band; shape (3 or 4, h, w).
        kind: Format; "jpeg" takes three bands.
        **options: Of Pillow's `Image.save`.
    """
    buffer = BytesIO()
    Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0))).save(buffer, kind, **options)
    return buffer.getvalue()


def data_uri(content: bytes, kind: Kind = "png") -> str:
    """An encoded picture as the address that a page shows it by."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
