"""The model card of a checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from geosegsr.errors import ConfigError
from geosegsr.models.segsr.config import SeGSRConfig
from geosegsr.models.segsr.registry import UNITS
from geosegsr.schema import Checked, bounds, build, length, one_of

SEGSR = "segsr"
STORAGE = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
_MOST = 1e300  # not NaN, not infinite, and no whole number beyond float64
_RADIOMETRY = {
    "auto": (),
    "dtype": (),
    "range": ("lo", "hi"),
    "percentiles": ("lo", "hi"),
    "standard": ("mean", "std"),
}


@dataclass(frozen=True)
class ModelCard(Checked):
    """What a checkpoint states about itself.

    Raises:
        ConfigError: Two entries contradict each other, or one is of the wrong kind.
    """

    name: str
    """Name of the model, for people."""
    config: dict[str, Any]
    """SeGSRConfig.to_dict() of the network; of another architecture, what was measured of it."""
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
    """Pixels that neighbouring tiles share, in lr pixels."""
    halo: Annotated[int, bounds(0)] = 4
    """Margin of a tile that is context only, in lr pixels."""
    multiple_of: Annotated[int, bounds(1, 1024)] = 1
    """Tile sides must be a multiple of this, in lr pixels."""
    min_size: Annotated[int, bounds(1)] = 1
    """The smallest useful tile side, in lr pixels."""
    trained_on: str = ""
    """Data and sensor of the training, and the licence of the data."""
    licence: str = ""
    """Licence of the weights."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Measures by name, or by test set and name."""
    grey: bool = False
    """Whether it was also trained on single bands passed as grey."""
    degradation: dict[str, Any] | None = None
    """Degradation of the training, as in the training configuration; None if unknown."""
    told: dict[str, Any] = field(default_factory=dict)
    """Smallest and largest of each number of a `SensorDescriptor` in the training of a network that is told of the sensor,
    by name; empty if unknown."""
    parents: tuple[str, ...] = ()
    """Checkpoints that the training started from, the nearest first: name and checksum of the tensors."""
    notes: str = ""
    """Further remarks for users."""
    architecture: str = SEGSR
    """"segsr", or the architecture of another project's network, by spandrel's name for it."""
    storage: Annotated[str, one_of(STORAGE)] = "float32"
    """Type of the tensors in the file: "float32", "bfloat16" or "float16"."""
    sha256: str = ""
    """Checksum of the tensors; set when they are saved."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.band_names) != self.bands:
            raise ConfigError(
                f"Cannot use the card of '{self.name[:80]}': "
                f"it has {len(self.band_names)} band names for {self.bands} bands."
            )
        self._check_sizes()
        if self.architecture == SEGSR:
            self._check_network()
        _check_radiometry(self.radiometry, self.bands)
        _check_told(self.told, self.name)

    def _check_network(self) -> None:
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

    @property
    def knows_grey(self) -> bool | None:
        """Whether single bands may be passed as grey; None if nobody knows, as of another project's network."""
        return self.grey or (False if self.architecture == SEGSR else None)

    @classmethod
    def of(cls, config: SeGSRConfig, name: str, **entries: Any) -> ModelCard:
        """A card for a network, with suitable sizes; `entries` override fields."""
        multiple, unit = config.multiple_of, UNITS[config.unit]
        tile = (unit.tile // multiple or 1) * multiple
        known: dict[str, Any] = {
            "band_names": usual_band_names(config.bands),
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
        return {**asdict(self), "band_names": list(self.band_names), "parents": list(self.parents)}

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


def usual_band_names(bands: int) -> tuple[str, ...]:
    """What the bands of a model are called where nobody says: three are red, green and blue."""
    return ("red", "green", "blue") if bands == 3 else tuple(f"band {i + 1}" for i in range(bands))


def _check_told(told: dict[str, Any], name: str) -> None:
    for key, span in told.items():
        numbers = isinstance(span, list | tuple) and all(type(n) in (int, float) for n in span)
        if not numbers or len(span) != 2 or not 0 <= span[0] <= span[1] <= _MOST:
            raise ConfigError(
                f"Cannot use the card of '{name[:80]}': told.{key} is {str(span)[:60]}, not two numbers from 0 on, the smaller first."
            )


def _check_radiometry(radiometry: dict[str, Any], bands: int) -> None:
    needed = _RADIOMETRY.get(str(radiometry.get("kind")))
    if needed is None or set(radiometry) != {"kind", *needed}:
        kinds = "; ".join(
            f"{kind} ({', '.join(keys)})" if keys else kind for kind, keys in _RADIOMETRY.items()
        )
        raise ConfigError(f"Cannot use the radiometry {str(radiometry)[:120]}. It can be: {kinds}.")
    for key in needed:
        listed = key in ("mean", "std")
        numbers = radiometry[key] if listed else [radiometry[key]]
        right = isinstance(numbers, list | tuple) and len(numbers) == (bands if listed else 1)
        if not right or not all(type(n) in (int, float) and abs(n) < _MOST for n in numbers):
            what = f"a list of {bands} finite numbers" if listed else "a finite number"
            raise ConfigError(f"Cannot use the radiometry {str(radiometry)[:120]}: {key} must be {what}.")
    if "lo" in needed and not radiometry["lo"] < radiometry["hi"]:
        raise ConfigError(f"Cannot use the radiometry {str(radiometry)[:120]}: lo is not below hi.")
    if "std" in needed and min(radiometry["std"]) <= 0:
        raise ConfigError(f"Cannot use the radiometry {str(radiometry)[:120]}: a std is not positive.")
