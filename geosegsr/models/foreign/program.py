"""A network of another project, whatever file it came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

from torch import Tensor


class TileSizes(TypedDict):
    """What a run must know of a network's tiles, as in `Facts`. All lengths are in lr pixels."""

    tile: int
    overlap: int
    halo: int
    multiple_of: int
    min_size: int


@dataclass(frozen=True)
class Program:
    """A network as it was opened, on its device and in its precision. All lengths are in lr pixels."""

    architecture: str
    """Name for people, such as "SwinIR" or "ONNX"."""
    call: Callable[[Tensor], Tensor]
    """(1 or more, bands, h, w) to (the same, bands, scale*h, scale*w), in the range the network was trained for."""
    bands: int
    """Bands that the network takes together; 1 stands for any number, each alone."""
    multiple_of: int = 1
    """Sides of a tile must be a multiple of this."""
    min_size: int = 1
    """The shortest side that the network accepts."""
    windows: tuple[int, ...] = ()
    """Sides of the windows in which it attends, where the file tells."""
    fixed: int | None = None
    """Side of a tile where the file allows one size only."""
    sizes: TileSizes | None = None
    """What the file itself says of tiles; measured where it says nothing."""
