"""Block files to one Cloud-Optimized GeoTIFF."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geosegsr.raster.cog_block import BlockFile, TiledFormat
from geosegsr.raster.cog_gdal import copy_through_vrt
from geosegsr.raster.cog_join import Result, join_blocks
from geosegsr.raster.metadata import Metadata

log = logging.getLogger("geosegsr")


def write_cog(
    part: Path,
    metadata: Metadata,
    dtype: np.dtype[Any],
    blocks: Sequence[BlockFile],
    options: Mapping[str, str],
    form: TiledFormat | None,
    *,
    has_mask: bool,
) -> int | None:
    """Make one COG of block files.

    Args:
        part: Where to write; not yet the target's name.
        metadata: Everything the file is to say about itself.
        dtype: Of every band.
        blocks: Files that cover the output.
        options: From `creation_options`.
        form: How the blocks were written; None for plain GeoTIFFs.
        has_mask: Whether the block files carry a mask.

    Returns:
        CRC-32 of the file where tiles were copied, for `verify_cog`; None where GDAL wrote it.

    Raises:
        SceneError: The COG could not be written, for want of space for example.
        VerificationError: What was copied is not what was computed.
    """
    if form is None:
        log.debug("%s: GDAL makes the COG of %d plain blocks", part.name, len(blocks))
        copy_through_vrt(part, metadata, dtype, blocks, options, has_mask=has_mask)
        return None
    log.debug("%s: the tiles of %d blocks are copied, with %d overviews", part.name, len(blocks), form.levels)
    return join_blocks(part, Result(metadata, dtype, options, has_mask), blocks, form)
