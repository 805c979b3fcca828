"""The models that come with the package."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from geosegsr.errors import ConfigError

_FOLDER = Path(__file__).parent / "weights"


def bundled_checkpoints() -> tuple[Path, ...]:
    """All checkpoint files of the installed package, by name."""
    return tuple(sorted(_FOLDER.glob("*.safetensors")))


@lru_cache
def bundled_checkpoint(scale: int) -> Path:
    """The checkpoint for a scale.

    Raises:
        ConfigError: There is none.
    """
    from geosegsr.checkpoint import read_card

    scales = {read_card(path).scale: path for path in bundled_checkpoints()}
    if scale not in scales:
        known = ", ".join(map(str, sorted(scales))) or "none"
        raise ConfigError(
            f"Cannot find a bundled model for a scale of {scale}: there are those for {known}. "
            "Pass --model bicubic or --model FILE.safetensors, or another --scale."
        )
    return scales[scale]
