"""What is noted about a finished block: it travels from workers, and stands in the journal of a job."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from geosegsr.raster.statistics import BandStatistics
from geosegsr.sensor.consistency import Residual


@dataclass(frozen=True)
class FileRecord:
    """What is known about a block's file."""

    size: int
    """Its bytes."""
    sha256: str
    """Of all of it."""
    checksum: int | None
    """Of its pixels; see cog_block.pixel_checksum. None where its tiles were verified when they were made."""
    valid: tuple[int, ...]
    """Valid output pixels of each image band."""
    statistics: tuple[BandStatistics, ...]
    """Of each image band's output pixels."""
    pieces: tuple[tuple[int, int], ...] = ()
    """Where cells are made of blocks: the number of each cell that a block is part of, or of each block in a cell; and the
    CRC-32 of what both share."""

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> FileRecord:
        """The inverse of `dataclasses.asdict`, after a round trip through JSON."""
        statistics = tuple(BandStatistics(**band) for band in raw["statistics"])
        pieces = tuple((other, crc) for other, crc in raw.get("pieces", ()))
        return cls(**{**raw, "valid": tuple(raw["valid"]), "statistics": statistics, "pieces": pieces})


@dataclass(frozen=True)
class BlockRecord:
    """What is known about a finished block."""

    index: int
    """Its position in the grid."""
    files: dict[str, FileRecord]
    """Of the image, and of the uncertainty where that is asked for."""
    residuals: tuple[Residual, ...]
    """Difference of each image band, downsampled, from the input; empty where the sensor is unknown."""
    tiles: int
    """Tiles computed for it."""
    empty: int
    """Tiles skipped for it."""
    seconds: dict[str, float]
    """Time by stage: read, model, blend, consistency, write."""

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> BlockRecord:
        """The inverse of `dataclasses.asdict`, after a round trip through JSON."""
        files = {kind: FileRecord.from_dict(file) for kind, file in raw["files"].items()}
        residuals = tuple(Residual(**band) for band in raw["residuals"])
        return cls(**{**raw, "files": files, "residuals": residuals})


def sealed(record: BlockRecord, key: str) -> str:
    """A line of the journal: the record, and a seal that only a run with this key can make."""
    text = json.dumps(asdict(record))
    return json.dumps({"seal": _seal(text, key), "block": text})


def unsealed(line: str, key: str) -> BlockRecord | None:
    """The record on a line of the journal; None if the line is torn or from another run."""
    try:
        entry = json.loads(line)
        if entry["seal"] != _seal(entry["block"], key):
            return None
        raw = json.loads(entry["block"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return BlockRecord.from_dict(raw)


def _seal(text: str, key: str) -> str:
    return hashlib.sha256(f"{key}\n{text}".encode(errors="replace")).hexdigest()[:16]
