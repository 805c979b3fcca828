"""Networks by name."""

from __future__ import annotations

from typing import Any

from geosegsr.errors import ConfigError, did_you_mean
from geosegsr.models.segsr.config import RGB_MEAN, SeGSRConfig
from geosegsr.models.segsr.registry import UNITS


def presets() -> dict[str, dict[str, Any]]:
    """Name of each preset to the fields of SeGSRConfig that differ from its defaults."""
    return {
        name: {"unit": kind, **values}
        for kind, unit in UNITS.items()
        for name, values in unit.presets.items()
    }


def preset(name: str, *, scale: int, bands: int = 3, **changes: Any) -> SeGSRConfig:
    """A configuration by name.

    Args:
        name: One of `presets`.
        scale: Output pixels per input pixel, along each side: 2, 3, 4 or 8.
        bands: Bands of the input; other than 3, the first three (or the only one) feed the tower.
        changes: Fields of SeGSRConfig that override the preset's.

    Raises:
        ConfigError: No such preset, or fields that no network can be built from.
    """
    known = presets()
    if name not in known:
        raise ConfigError(
            f"Cannot find a preset '{name}'. It can be: {', '.join(known)}.{did_you_mean(name, known)}"
        )
    values: dict[str, Any] = {**known[name], "scale": scale, "bands": bands}
    if bands != 3:
        values["tower_bands"] = tuple(min(b, max(bands - 1, 0)) for b in range(3)) if bands > 2 else (0, 0, 0)
        values["band_mean"] = (sum(RGB_MEAN) / 3,) * bands
    return SeGSRConfig.from_dict({**values, **changes})
