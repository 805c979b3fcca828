"""What planning needs to know of an input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geosegsr.raster.window import Window


@dataclass(frozen=True)
class BandHints:
    """What a raster says of a band, as far as it tells the kind and the range of its values."""

    index: int
    """1-based, in the source."""
    name: str = ""
    """Its description, or the file's name where it is the only band."""
    colour: str = ""
    """"red", "green", "blue" or "nir"; "" where nothing says so."""
    nbits: int | None = None
    """Bits that count, where the file declares them."""
    palette: bool = False
    """Whether its values are entries of a colour table."""
    kind: str | None = None
    """What a user says it is: one of `geosegsr.raster.kinds.KINDS`."""
    decided: tuple[str, str] | None = None
    """Its kind and how it is known, where that was decided by other pixels: those before it was sharpened or repeated."""


class Raster(Protocol):
    """An input: a `Scene`, or an array in memory."""

    @property
    def path(self) -> str:
        """A name for messages."""

    @property
    def height(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def count(self) -> int:
        """Number of image bands."""

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def nodata(self) -> float | None: ...

    @property
    def scales(self) -> tuple[float, ...]:
        """Physical value per DN of each image band."""

    @property
    def offsets(self) -> tuple[float, ...]:
        """Physical value of DN 0 of each image band."""

    @property
    def colours(self) -> tuple[str, ...]:
        """What each image band is ("red", "nir"), "" where unknown."""

    @property
    def hints(self) -> tuple[BandHints, ...]:
        """Of each image band."""

    def read(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Values and validity of a window that lies inside, shape (bands, h, w)."""

    def sample(self) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """The whole raster, decimated: values and validity, shape (bands, h, w)."""
