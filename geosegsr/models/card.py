"""What a checkpoint says of itself: its model card."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from geosegsr.errors import ConfigError
from geosegsr.models.segsr.config import SeGSRConfig
from geosegsr.models.segsr.registry import UNITS
from geosegsr.schema import Checked, bounds, build, length, one_of

STORAGE = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
_RADIOMETRY = {
    "auto": (),
    "dtype": (),
    "range": ("lo", "hi"),
    "percentiles": ("lo", "hi"),
    "standard": ("mean", "std"),
}


@dataclass(frozen=True)
class ModelCard(Checked):
    """What a checkpoint says about itself.

    Raises:
        ConfigError: Two entries contradict each other, or one is of the wrong kind.
    """

    name: str
    """What a person calls the model."""
    config: dict[str, Any]
    """SeGSRConfig.to_dict() of the network."""
    scale: int
    """Output pixels per input pixel, along each side."""
    bands: int
    """Bands the model takes together."""
    band_names: Annotated[tuple[str, ...], length(1, 64)]
    """What each band shows, such as "red"."""
    radiometry: dict[str, Any] = field(default_factory=lambda: {"kind": "auto"})
    """How digital numbers become the model's 0 to 1: {"kind": "auto" or "dtype"}, {"kind": "range" or "percentiles",
    "lo", "hi"} or {"kind": "standard", "mean": [...], "std": [...]}; see radiometry.resolve_radiometry."""
    tile: Annotated[int, bounds(1, 2**16)] = 64
    """Side of a tile that suits the model, in lr pixels."""
    overlap: Annotated[int, bounds(0)] = 16
    """Pixels that neighbouring tiles should share, in lr pixels."""
    halo: Annotated[int, bounds(0)] = 4
    """Margin of a tile that is context only, in lr pixels."""
    multiple_of: Annotated[int, bounds(1, 1024)] = 1
    """Tile sides are a multiple of this, in lr pixels."""
    min_size: Annotated[int, bounds(1)] = 1
    """The smallest tile side that makes sense, in lr pixels."""
    trained_on: str = ""
    """Data, sensor and licence of what the model learned from."""
    licence: str = ""
    """Under which terms the weights may be used."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Name of a measure to its value, or to a table of them by test set."""
    grey: bool = False
    """Whether it was trained for single bands passed as grey, too."""
    degradation: dict[str, Any] | None = None
    """The hr to lr model of training, as the training configuration had it."""
    notes: str = ""
    """Anything else a user should know."""
    storage: Annotated[str, one_of(STORAGE)] = "float32"
    """Type of the tensors in the file: "float32", "bfloat16" or "float16"."""
    sha256: str = ""
    """Of the tensors; filled in when they are saved."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.band_names) != self.bands:
            raise ConfigError(
                f"Cannot use the card of '{self.name[:80]}': "
                f"it names {len(self.band_names)} of {self.bands} bands."
            )
        self._check_sizes()
        config = SeGSRConfig.from_dict(self.config)
        if (config.scale, config.bands) != (self.scale, self.bands):
            raise ConfigError(
                f"Cannot use the card of '{self.name[:80]}': "
                f"it names scale {self.scale} and {self.bands} bands, "
                f"its configuration scale {config.scale} and {config.bands} bands."
            )
        if self.multiple_of % config.unit_multiple:
            raise ConfigError(
                f"Cannot use the card of '{self.name}': multiple_of is {self.multiple_of}, "
                f"and the network needs a multiple of {config.unit_multiple}."
            )
        _check_radiometry(self.radiometry, self.bands)

    @classmethod
    def of(cls, config: SeGSRConfig, name: str, **entries: Any) -> ModelCard:
        """A card for a network, with sizes that suit it; `entries` are fields that shall differ."""
        multiple, unit = config.multiple_of, UNITS[config.unit]
        tile = (unit.tile // multiple or 1) * multiple
        names = (
            ("red", "green", "blue")
            if config.bands == 3
            else tuple(f"band {i + 1}" for i in range(config.bands))
        )
        known: dict[str, Any] = {
            "band_names": names,
            "tile": tile,
            "overlap": unit.overlap,
            "halo": unit.halo,
        }
        sizes = {
            "scale": config.scale,
            "bands": config.bands,
            "multiple_of": config.unit_multiple,
            "min_size": min(multiple, tile),
        }
        return cls(name=name, config=config.to_dict(), **{**known, **sizes, **entries})

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and tables."""
        return {**asdict(self), "band_names": list(self.band_names)}

    @classmethod
    def from_dict(cls, values: Any) -> ModelCard:
        """Read what to_dict wrote.

        Raises:
            ConfigError: An entry is missing, unknown or impossible.
        """
        card: ModelCard = build(
            cls,
            values,
            "the model card",
            unknown="It was written by a newer version of this package, or by something else.",
        )
        return card

    def _check_sizes(self) -> None:
        fits = (
            self.min_size <= self.tile
            and self.tile % self.multiple_of == 0
            and 2 * self.halo <= self.overlap < self.tile
        )
        if not fits:
            raise ConfigError(
                f"Cannot use the card of '{self.name[:80]}': tile {self.tile}, overlap {self.overlap}, "
                f"halo {self.halo}, multiple_of {self.multiple_of}, min_size {self.min_size}. "
                "The tile must be a multiple of multiple_of and no smaller than min_size, "
                "the overlap less than the tile and at least twice the halo."
            )


def _check_radiometry(radiometry: dict[str, Any], bands: int) -> None:
    needed = _RADIOMETRY.get(str(radiometry.get("kind")))
    if needed is None or set(radiometry) != {"kind", *needed}:
        kinds = "; ".join(
            f"{kind} ({', '.join(keys)})" if keys else kind for kind, keys in _RADIOMETRY.items()
        )
        raise ConfigError(f"Cannot use the radiometry {str(radiometry)[:120]}. It can be: {kinds}.")
    for key in needed:
        value = radiometry[key]
        numbers = value if key in ("mean", "std") else [value]
        right = isinstance(numbers, list) and len(numbers) == (bands if key in ("mean", "std") else 1)
        if not right or not all(type(n) in (int, float) and math.isfinite(n) for n in numbers):
            raise ConfigError(
                f"Cannot use the radiometry {str(radiometry)[:120]}: {key} is not finite, or not one each."
            )
    if "lo" in needed and not radiometry["lo"] < radiometry["hi"]:
        raise ConfigError(f"Cannot use the radiometry {str(radiometry)[:120]}: lo is not below hi.")
    if "std" in needed and min(radiometry["std"]) <= 0:
        raise ConfigError(f"Cannot use the radiometry {str(radiometry)[:120]}: a std is not positive.")
