"""Cells: aligned parts of a result, made of its blocks, whose tiles become those of its COG. Integers only, no I/O.

blocks   +-----+-----+--      cut where tiles of the model begin; plain files of pixels
|     |     |
cells    +-------+------      cut where tiles of the COG begin; files of tiles, with the overviews inside
|       |
|       |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from geosegsr.raster.cog_block import TiledFormat
from geosegsr.raster.window import Window


@dataclass(frozen=True)
class Cell:
    """A part of one kind of file of a result."""

    index: int
    """Its number; cells follow the blocks."""
    kind: str
    """Which of the files of a block it is made of."""
    window: Window
    """What it covers, in output pixels."""
    blocks: tuple[int, ...]
    """Numbers of the blocks that it shares pixels with."""


def cut_into_cells(blocks: Sequence[Window], forms: Mapping[str, TiledFormat]) -> tuple[Cell, ...]:
    """The cells of all kinds of files, in the order of their numbers."""
    under: dict[int, list[int]] = {}
    for kind in forms:
        for number, block in enumerate(blocks):
            for cell in cells_over(block, kind, forms, len(blocks)):
                under.setdefault(cell, []).append(number)
    kinds = [(kind, window) for kind, form in forms.items() for window in form.cells]
    return tuple(
        Cell(index, kind, window, tuple(under[index]))
        for index, (kind, window) in enumerate(kinds, len(blocks))
    )


def cells_over(block: Window, kind: str, forms: Mapping[str, TiledFormat], blocks: int) -> dict[int, Window]:
    """Numbers of the cells that a block is part of, and which of its own pixels lie in them.

    Args:
        block: What the block covers, in output pixels.
        kind: Of the file.
        forms: Of all kinds of files whose tiles become tiles of a COG.
        blocks: Number of all blocks.
    """
    cells = forms[kind].cells if kind in forms else ()
    if not cells:
        return {}
    kinds = list(forms)
    first = blocks + sum(len(forms[other].cells) for other in kinds[: kinds.index(kind)])
    side = max(cells[0].height, cells[0].width)
    across = sum(cell.row == 0 for cell in cells)
    found = {}
    for row in range(block.row // side, (block.row_stop - 1) // side + 1):
        for position in range(
            row * across + block.col // side, row * across + (block.col_stop - 1) // side + 1
        ):
            shared = cells[position].intersection(block)
            found[first + position] = shared.shifted(-block.row, -block.col)
    return found
