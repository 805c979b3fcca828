"""SR units: each takes features (N, width, h, w) to what shall be added to them; modulation follows the sum."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pkgutil import resolve_name

from torch import nn

from geosegsr.models.segsr.config import SeGSRConfig
from geosegsr.models.segsr.registry import UNITS


class ConditionedUnit(nn.Module, ABC):
    """A unit whose convolutions take gains and offsets from the sensor's descriptor; see `SensorConditioning`."""

    @abstractmethod
    def convolutions(self) -> list[nn.Conv2d]:
        """The conditioned ones in their order, as many as the unit's depth, each with a bias."""


def build_unit(config: SeGSRConfig, depth: int) -> nn.Module:
    """A unit of the configured kind with `depth` blocks."""
    unit: nn.Module = resolve_name(UNITS[config.unit].builder)(config, depth)
    return unit
