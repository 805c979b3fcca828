"""The kinds of SR unit: one entry each, with its module and all else that depends on the kind.

No torch here: reading a card and planning a run need these facts, but no network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


class Settings(Protocol):
    """What entries read of a network's configuration (see SeGSRConfig)."""

    @property
    def width(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def window(self) -> int: ...
    @property
    def reach(self) -> float: ...


def _any_side(_: Settings) -> int:
    return 1


def _no_fault(_: Settings) -> str:
    return ""


@dataclass(frozen=True)
class Unit:
    """A kind of SR unit."""

    builder: str
    """"module:Class" of an nn.Module made from (SeGSRConfig, depth); imported when a network is built."""
    presets: Mapping[str, Mapping[str, Any]]
    """Networks of this unit by name: the fields of SeGSRConfig that differ from its defaults."""
    multiple: Callable[[Settings], int] = _any_side
    """What each side of the features must be a multiple of, in lr pixels."""
    fault: Callable[[Settings], str] = _no_fault
    """Why the unit cannot be built of a configuration; empty if it can."""
    reads: frozenset[str] = field(default_factory=frozenset)
    """Fields of SeGSRConfig that only some kinds know, and this one does; a `sensor_width` asks for ConditionedUnit."""
    equivariant: bool = False
    """Whether it is made of plain 3x3 convolutions, which `training.equivariance` can keep equivariant."""
    tile: int = 64
    """Side of a tile that suits it, in lr pixels."""
    overlap: int = 16
    """Pixels that neighbouring tiles share, in lr pixels."""
    halo: int = 4
    """Margin of a tile that is context only, in lr pixels."""
    recipe: str = "paper"
    """Training recipe of its presets, a file in `training/recipes`."""


def _window(config: Settings) -> int:
    return config.window


def _heads_fault(config: Settings) -> str:
    if config.width % config.heads:
        return f"width {config.width} cannot be split among heads {config.heads}"
    return ""


def _hat_fault(config: Settings) -> str:
    if round(config.window * config.reach) % 2:
        return f"reach {config.reach} of window {config.window} cannot be halved evenly"
    return _heads_fault(config)


_COMPACT: dict[str, Any] = {
    "width": 64,
    "depths": (8, 8),
    "residual": True,
    "base_sharpness": -0.5,
    "head": "direct",
    "embed_norm": False,
    "final_norm": False,
    "modulation_width": 16,
    "modulation_kernel": 1,
    "tower_width": 96,
    "tower_layers": 2,
    "tower_heads": 3,
    "tower_patch": 16,
    "tower_grid": 8,
    "tower_output": 64,
    "tower_act": "gelu",
    "tower_enlarge": False,
    "prompt_heads": 4,
    "lora_rank": 0,
}
_FOLDER = "geosegsr.models.segsr.units"
UNITS: dict[str, Unit] = {
    "hat": Unit(f"{_FOLDER}.hat:HATUnit", {"segsr": {}}, multiple=_window, fault=_hat_fault),
    "swin": Unit(
        f"{_FOLDER}.swin:SwinUnit", {"segsr-swinir": {"window": 8}}, multiple=_window, fault=_heads_fault
    ),
    "residual": Unit(
        f"{_FOLDER}.residual:ResidualUnit",
        {
            "segsr-rcan": {
                "width": 64,
                "depths": (20,) * 10,
                "squeeze": 16,
                "modulation_width": 64,
                "embed_norm": False,
                "final_norm": False,
            }
        },
    ),
    "compact": Unit(
        f"{_FOLDER}.compact:CompactUnit",
        {
            "compact": _COMPACT,
            "compact-sensor": {**_COMPACT, "depths": (14, 14), "skip_every": 2, "sensor_width": 32},
        },
        reads=frozenset({"skip_every", "sensor_width"}),
        equivariant=True,
        # At x4 a block of 2048 pixels is two tiles, and a layer's features are less than geosegsr.cpu can keep.
        tile=288,
        overlap=32,
        halo=8,
        recipe="compact",
    ),
}
"""Name -> kind. A new kind is a module in `units` and an entry here."""
