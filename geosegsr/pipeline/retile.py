"""One cell of a result from the files of finished blocks: what a worker does after the blocks."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosegsr.errors import VerificationError
from geosegsr.pipeline.block import write_file
from geosegsr.pipeline.cell import Cell
from geosegsr.pipeline.folder_state import FolderKeeper
from geosegsr.pipeline.job_folder import block_path
from geosegsr.pipeline.records import BlockRecord, FileRecord
from geosegsr.raster.cog_block import TiledFormat, piece_checksum, read_piece, tiled_block_bytes
from geosegsr.raster.window import Window


def compute_cell(
    blocks: Sequence[Window],
    forms: Mapping[str, TiledFormat],
    folder: Path,
    cells: Mapping[int, Cell],
    index: int,
) -> BlockRecord:
    """Make one cell of finished blocks, in any thread or process with access to the job's folder.

    Args:
        blocks: What all blocks cover, in output pixels.
        forms: Of all kinds of files whose tiles become tiles of a COG.
        folder: The job's folder.
        cells: All of them, by their numbers.
        index: The number of one.

    Returns:
        A small record; tiles stay in the file.

    Raises:
        SceneError: A block's file cannot be read, or the cell's cannot be written.
        VerificationError: The file does not hold the blocks' pixels.
    """
    began = time.perf_counter()
    cell = cells[index]
    values, mask, pieces = _gathered(blocks, folder, cell)
    data = tiled_block_bytes(values, mask, forms[cell.kind])
    what = f"part {cell.index - len(blocks)} of the COG"
    write_file(FolderKeeper(folder), cell.index, cell.kind, data, what=what)
    file = FileRecord(len(data), hashlib.sha256(data).hexdigest(), None, (), (), pieces)
    seconds = {"write": time.perf_counter() - began}
    return BlockRecord(cell.index, {cell.kind: file}, (), 0, 0, seconds)


def _gathered(
    blocks: Sequence[Window], folder: Path, cell: Cell
) -> tuple[NDArray[Any], NDArray[np.bool_] | None, tuple[tuple[int, int], ...]]:
    """The pixels of a cell, shape (bands, height, width); its mask, if there is one; and the checksums of its pieces."""
    window = cell.window
    pieces: list[tuple[int, int]] = []
    whole, shown = np.empty(0), None
    for number in cell.blocks:
        block = blocks[number]
        shared = window.intersection(block)
        path = block_path(folder, number, cell.kind)
        values, mask = read_piece(path, shared.shifted(-block.row, -block.col))
        if values.shape[1:] != (shared.height, shared.width):
            raise _unlike(path)
        if not pieces:
            whole = np.empty((len(values), window.height, window.width), values.dtype)
            shown = None if mask is None else np.empty((window.height, window.width), bool)
        pieces.append((number, piece_checksum(values, mask)))
        place = shared.shifted(-window.row, -window.col).slices
        whole[(slice(None), *place)] = values
        if shown is not None:
            shown[place] = mask
    return whole, shown, tuple(pieces)


def check_pieces(cell: Cell, made: BlockRecord, done: Mapping[int, BlockRecord], folder: Path) -> None:
    """Refuse a cell that was made of other pixels than those computed for its blocks, in a job's folder.

    Raises:
        VerificationError: It was.
    """
    for number, found in made.files[cell.kind].pieces:
        computed = dict(done[number].files[cell.kind].pieces)
        if computed.get(cell.index) != found:
            raise _unlike(block_path(folder, number, cell.kind))


def _unlike(path: Path) -> VerificationError:
    return VerificationError(
        f"Cannot use the block '{path}': its pixels are not those computed. The other finished blocks are kept. "
        "Give the same command again, and report it if it fails again."
    )
