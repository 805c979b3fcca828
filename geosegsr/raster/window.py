"""A rectangle of pixels."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels, in the order of rasterio's arrays."""

    row: int
    """First row."""
    col: int
    """First column."""
    height: int
    """Number of rows."""
    width: int
    """Number of columns."""

    @property
    def row_stop(self) -> int:
        return self.row + self.height

    @property
    def col_stop(self) -> int:
        return self.col + self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, to index an array with."""
        return slice(self.row, self.row_stop), slice(self.col, self.col_stop)

    def scaled(self, scale: int) -> Window:
        """The same ground on a grid `scale` times as fine."""
        return Window(self.row * scale, self.col * scale, self.height * scale, self.width * scale)

    def reduced(self, ratio: int) -> Window:
        """The pixels of a grid `ratio` times as coarse that lie over it, wholly or in part."""
        row, col = self.row // ratio, self.col // ratio
        return Window(row, col, -(-self.row_stop // ratio) - row, -(-self.col_stop // ratio) - col)

    def intersection(self, other: Window) -> Window:
        """The pixels both hold; they must share some."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        return Window(
            row, col, min(self.row_stop, other.row_stop) - row, min(self.col_stop, other.col_stop) - col
        )

    def shifted(self, rows: int, cols: int) -> Window:
        return Window(self.row + rows, self.col + cols, self.height, self.width)

    def contains(self, other: Window) -> bool:
        """Whether all of another window lies inside this one."""
        return (
            self.row <= other.row
            and self.col <= other.col
            and other.row_stop <= self.row_stop
            and other.col_stop <= self.col_stop
        )

    def grown(self, margin: int, height: int, width: int) -> Window:
        """With `margin` more pixels on each side, as far as a scene of that size reaches."""
        row, col = max(self.row - margin, 0), max(self.col - margin, 0)
        return Window(
            row,
            col,
            min(self.row_stop + margin, height) - row,
            min(self.col_stop + margin, width) - col,
        )
