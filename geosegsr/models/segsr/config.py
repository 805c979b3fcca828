"""What a SeG-SR network is made of: one frozen dataclass, valid once made."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from geosegsr.errors import ConfigError
from geosegsr.models.segsr.registry import UNITS

SCALES = (2, 3, 4, 8)
"""Output pixels per input pixel, along each side."""
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
RGB_MEAN = (0.4488, 0.4371, 0.4040)
DESCRIPTOR = ("mtf_quarter", "mtf_nyquist", "noise", "quantisation")
"""What a model may be told of a scene's sensor: response of blur and sampling at 1/4 and 1/2 cycle per lr pixel, standard
deviation of the noise in the model's range, and the scale of a JPEG's quantisation tables in percent (0: not compressed)."""
BICUBIC = (0.94, 0.49, 0.0, 0.0)
"""The descriptor of an input made by antialiased bicubic reduction, with neither noise nor compression."""
# Upper bounds that any sensible network stays far below; they keep a hostile file from asking for the moon.
_LIMITS = {
    "bands": 64,
    "width": 2048,
    "heads": 32,
    "window": 32,
    "compress": 64,
    "squeeze": 512,
    "head_width": 1024,
    "modulation_width": 1024,
    "prompt_heads": 64,
    "tower_width": 4096,
    "tower_layers": 64,
    "tower_heads": 64,
    "tower_patch": 64,
    "tower_grid": 128,
    "tower_output": 4096,
}


@dataclass(frozen=True)
class Compat:
    """Where the authors' program departs from the paper; the defaults are the paper's.

    Source:
        The method's paper, sections III-B to III-D, against the behaviour of the published program.
    """

    positions: str = "grid"
    """Position table at other input sizes: "grid" (2-D bicubic, class token apart) or "line" (1-D linear
    over all entries, class token included)."""
    global_token: str = "class"
    """Token of the global feature: "class", or "first patch" (which is normalised twice)."""
    tower_input: str = "clip"
    """Normalisation of what the tower sees: "clip" (tower_mean and tower_std) or "trunk" (band_mean only)."""
    unit_prompts: bool = True
    """Whether the prompt of each unit has length one, so that guidance is a cosine."""

    def __post_init__(self) -> None:
        _one_of("compat.positions", self.positions, ("grid", "line"))
        _one_of("compat.global_token", self.global_token, ("class", "first patch"))
        _one_of("compat.tower_input", self.tower_input, ("clip", "trunk"))
        if not isinstance(self.unit_prompts, bool):
            raise ConfigError(
                f"Cannot build the model: compat.unit_prompts is {self.unit_prompts!r}, not a bool."
            )

    @classmethod
    def published(cls) -> Compat:
        """What the authors' program computes."""
        return cls(positions="line", global_token="first patch", tower_input="trunk", unit_prompts=False)


@dataclass(frozen=True)
class SeGSRConfig:
    """A SeG-SR network; the defaults are those of the paper (CLIP ViT-B/16 and HAT).

    Raises:
        ConfigError: A value that no network can be built from; the message names it.
    """

    scale: int
    """Output pixels per input pixel, along each side: 2, 3, 4 or 8."""
    bands: int = 3
    """Bands of the input, and of the output."""
    tower_bands: tuple[int, ...] = (0, 1, 2)
    """Bands (from 0) that the tower sees as red, green, blue; one index three times for grey."""
    band_mean: tuple[float, ...] = RGB_MEAN
    """Subtracted from each band before the trunk and added to it after, in the model's range."""
    residual: bool = False
    """Whether the trunk computes what is missing from the bicubically enlarged input, or all of it."""
    base_sharpness: float = -0.75
    """Parameter a of that bicubic enlargement: -0.5 leaves smooth ground as it is, -0.75 sharpens it."""

    unit: str = "hat"
    """Kind of SR unit, a name in `registry.UNITS`."""
    depths: tuple[int, ...] = (6, 6, 6, 6, 6, 6)
    """Blocks in each unit; as many units as entries."""
    width: int = 180
    """Channels of the trunk."""
    heads: int = 6
    """Attention heads of a block (hat, swin)."""
    window: int = 16
    """Side of an attention window, in lr pixels (hat, swin)."""
    mlp_ratio: float = 2.0
    """Hidden width of a block's MLP over the trunk's (hat, swin)."""
    compress: int = 3
    """How many times narrower the convolutions beside the attention are (hat)."""
    squeeze: int = 30
    """How many times narrower channel attention is (hat, residual)."""
    conv_scale: float = 0.01
    """Weight of the convolutions beside the attention (hat)."""
    reach: float = 0.5
    """How far the keys of overlapping attention reach beyond a window, as a share of its side (hat)."""
    embed_norm: bool = True
    """Whether features are normalised before the first unit."""
    final_norm: bool = True
    """Whether features are normalised after the last unit."""
    head: str = "stages"
    """Enlargement: "stages" (convolution and pixel shuffle by 2 or 3, repeated) or "direct" (one of each)."""
    head_width: int = 64
    """Channels of the staged enlargement."""
    modulation_width: int = 128
    """Channels between guidance and modulation."""
    modulation_kernel: int = 3
    """Side of the modulation's convolutions, in lr pixels: 1 or 3."""
    skip_every: int = 0
    """After so many convolutions of a unit their sum with what went in; 0: around the whole unit alone (compact)."""
    sensor_width: int = 0
    """Hidden width of what turns the sensor's descriptor into gains and offsets; 0: nothing is told (compact)."""

    tower_width: int = 768
    """Channels of the tower."""
    tower_layers: int = 12
    """Blocks of the tower."""
    tower_heads: int = 12
    """Attention heads of the tower."""
    tower_patch: int = 16
    """Side of a token, in pixels of the tower's input."""
    tower_grid: int = 14
    """Tokens along each side of the image that the position table was made for."""
    tower_output: int = 512
    """Length of a feature, and of a prompt."""
    tower_mlp_ratio: float = 4.0
    """Hidden width of a tower block's MLP over the tower's."""
    tower_act: str = "quick_gelu"
    """Activation of the tower: "quick_gelu" (OpenAI's weights) or "gelu"."""
    tower_enlarge: bool = True
    """Whether the tower sees the bilinearly enlarged input, or the input at its own size."""
    tower_mean: tuple[float, ...] = CLIP_MEAN
    """Mean of the red, green and blue that the tower was trained on."""
    tower_std: tuple[float, ...] = CLIP_STD
    """Standard deviation of the same."""
    lora_rank: int = 32
    """Rank of the adapters on the frozen tower; 0: no adapters, the tower itself is trained."""
    lora_alpha: float = 32.0
    """The adapters' weight times their rank."""
    lora_dropout: float = 0.05
    """Share of an adapter's inputs that training leaves out at random."""
    prompt_heads: int = 8
    """Heads of the attention among prompts."""
    compat: Compat = field(default_factory=Compat)
    """The paper, or the authors' program."""

    def __post_init__(self) -> None:
        for name in (
            f.name for f in fields(self) if f.type == "tuple[int, ...]" or f.type == "tuple[float, ...]"
        ):
            value = getattr(self, name)
            if not isinstance(value, list | tuple):
                raise ConfigError(f"Cannot build the model: {name} is {value!r}, not a list of numbers.")
            object.__setattr__(self, name, tuple(value))
        self._check_types()
        self._check_choices()
        self._check_numbers()
        self._check_divisions()

    @property
    def tower_scale(self) -> int:
        """Pixels of the tower's input per lr pixel."""
        return self.scale if self.tower_enlarge else 1

    @property
    def unit_multiple(self) -> int:
        """What the units need each side to be a multiple of, in lr pixels."""
        return UNITS[self.unit].multiple(self)

    @property
    def multiple_of(self) -> int:
        """Sides that need no padding are a multiple of this, in lr pixels."""
        return math.lcm(self.unit_multiple, self.tower_patch // math.gcd(self.tower_patch, self.tower_scale))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists; from_dict turns them back."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SeGSRConfig:
        """Read what to_dict wrote.

        Raises:
            ConfigError: A key is unknown, or a value cannot be.
        """
        values = dict(_known("config", values, cls))
        if "scale" not in values:
            raise ConfigError("Cannot build the model: the configuration has no 'scale'.")
        if "compat" in values and not isinstance(values["compat"], Compat):
            values["compat"] = Compat(**_known("compat", values["compat"], Compat))
        return cls(**values)

    def _check_types(self) -> None:
        kinds: dict[str, tuple[type, ...]] = {
            "int": (int,),
            "float": (int, float),
            "bool": (bool,),
            "str": (str,),
            "Compat": (Compat,),
        }
        for f in fields(self):
            value, kind = getattr(self, f.name), str(f.type)
            items = value if kind.startswith("tuple") else (value,)
            kind = kind.removeprefix("tuple[").removesuffix(", ...]")
            if len(items) > 128 or not all(
                isinstance(v, kinds[kind]) and (kind == "bool" or not isinstance(v, bool)) for v in items
            ):
                raise ConfigError(
                    f"Cannot build the model: {f.name} is {str(value)[:80]}, which is not {f.type}."
                )

    def _check_choices(self) -> None:
        _one_of("scale", self.scale, SCALES)
        _one_of("unit", self.unit, tuple(UNITS))
        _one_of("head", self.head, ("stages", "direct"))
        _one_of("modulation_kernel", self.modulation_kernel, (1, 3))
        _one_of("tower_act", self.tower_act, ("quick_gelu", "gelu"))

    def _check_numbers(self) -> None:
        for name, most in _LIMITS.items():
            _within(name, getattr(self, name), 1, most)
        _within("units", len(self.depths), 1, 32)
        for depth in self.depths:
            _within("depths", depth, 1, 64)
        _within("blocks", sum(self.depths), 1, 512)
        for band in self.tower_bands:
            _within("tower_bands", band, 0, self.bands - 1)
        for name, count in (
            ("tower_bands", 3),
            ("band_mean", self.bands),
            ("tower_mean", 3),
            ("tower_std", 3),
        ):
            if len(getattr(self, name)) != count:
                raise ConfigError(
                    f"Cannot build the model: {name} has {len(getattr(self, name))} values; it needs {count}."
                )
        for value in self.tower_std:
            _within("tower_std", value, 1e-9, 1e9)
        for name in ("mlp_ratio", "tower_mlp_ratio"):
            _within(name, getattr(self, name), 0.01, 16)
        _within("reach", self.reach, 0, 1)
        _within("skip_every", self.skip_every, 0, 64)
        _within("sensor_width", self.sensor_width, 0, 512)
        _within("base_sharpness", self.base_sharpness, -1, 0)
        _within("lora_rank", self.lora_rank, 0, self.tower_width)
        _within("lora_dropout", self.lora_dropout, 0, 0.99)
        if not all(
            math.isfinite(v) for v in (*self.band_mean, *self.tower_mean, self.conv_scale, self.lora_alpha)
        ):
            raise ConfigError("Cannot build the model: its configuration holds a number that is not finite.")

    def _check_divisions(self) -> None:
        _divides("tower_heads", self.tower_heads, "tower_width", self.tower_width)
        _divides("prompt_heads", self.prompt_heads, "tower_output", self.tower_output)
        if self.sensor_width and self.width % 4:
            raise ConfigError(
                f"Cannot build the model: width is {self.width}; with sensor_width it must be a multiple of 4."
            )
        self._check_unit()

    def _check_unit(self) -> None:
        unit = UNITS[self.unit]
        for name in ("skip_every", "sensor_width"):
            if getattr(self, name) and name not in unit.reads:
                knowing = ", ".join(repr(kind) for kind, other in UNITS.items() if name in other.reads)
                raise ConfigError(
                    f"Cannot build the model: {name} is for {knowing} units, not for '{self.unit}'."
                )
        if fault := unit.fault(self):
            raise ConfigError(f"Cannot build the model: {fault}.")


def _known(what: str, values: Any, cls: type) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise ConfigError(
            f"Cannot build the model: its {what} is {str(values)[:80]!r}, not a table of names and values."
        )
    unknown = sorted(str(k)[:80] for k in set(values) - {f.name for f in fields(cls)})
    if unknown:
        raise ConfigError(
            f"Cannot build the model: its {what} has unknown entries ({', '.join(unknown[:5])}). "
            "It was written by a newer version of this package, or by something else."
        )
    return values


def _one_of(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        needed = ", ".join(str(c) for c in choices)
        raise ConfigError(f"Cannot build the model: {name} is {str(value)[:80]!r}. It can be: {needed}.")


def _within(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ConfigError(f"Cannot build the model: {name} is {value}. It can be {least:g} to {most:g}.")


def _divides(name: str, part: int, of: str, whole: int) -> None:
    if whole % part:
        raise ConfigError(f"Cannot build the model: {of} {whole} cannot be split among {name} {part}.")
