"""SR units: each takes features (N, width, h, w) to what shall be added to them; modulation follows the sum."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from geosegsr.models.segsr.config import SeGSRConfig
from geosegsr.models.segsr.units.compact import CompactUnit
from geosegsr.models.segsr.units.hat import HATUnit
from geosegsr.models.segsr.units.residual import ResidualUnit
from geosegsr.models.segsr.units.swin import SwinUnit

BUILDERS: dict[str, Callable[[SeGSRConfig, int], nn.Module]] = {
    "hat": HATUnit,
    "swin": SwinUnit,
    "residual": ResidualUnit,
    "compact": CompactUnit,
}


def build_unit(config: SeGSRConfig, depth: int) -> nn.Module:
    """A unit of the configured kind with `depth` blocks."""
    return BUILDERS[config.unit](config, depth)
