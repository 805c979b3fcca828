"""Configuration of a SeG-SR network: a frozen dataclass, checked when it is made."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from geosegsr.errors import ConfigError
from geosegsr.models.segsr.registry import UNITS
from geosegsr.schema import Checked, bounds, build, length, one_of

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


_MOST_BLOCKS = 512


@dataclass(frozen=True)
class Compat(Checked):
    """Where the authors' program departs from the paper; the defaults are the paper's.

    Source:
        The method's paper, sections III-B to III-D, against the behaviour of the published program.
    """

    positions: Annotated[str, one_of(("grid", "line"))] = "grid"
    """Position table at other input sizes: "grid" (2-D bicubic, class token apart) or "line" (1-D linear
    over all entries, class token included)."""
    global_token: Annotated[str, one_of(("class", "first patch"))] = "class"
    """Token of the global feature: "class", or "first patch" (which is normalised twice)."""
    tower_input: Annotated[str, one_of(("clip", "trunk"))] = "clip"
    """Normalisation of what the tower sees: "clip" (tower_mean and tower_std) or "trunk" (band_mean only)."""
    unit_prompts: bool = True
    """Whether the prompt of each unit has length one, so that guidance is a cosine."""

    @classmethod
    def published(cls) -> Compat:
        """As the authors' program computes."""
        return cls(positions="line", global_token="first patch", tower_input="trunk", unit_prompts=False)


@dataclass(frozen=True)
class SeGSRConfig(Checked):
    """A SeG-SR network; the defaults are those of the paper (CLIP ViT-B/16 and HAT).

    Upper bounds lie far above any sensible network; they keep a hostile file from asking for a huge one.

    Raises:
        ConfigError: A value is impossible; the message names it.
    """

    scale: Annotated[int, one_of(SCALES)]
    """Output pixels per input pixel, along each side: 2, 3, 4 or 8."""
    bands: Annotated[int, bounds(1, 64)] = 3
    """Bands of the input, and of the output."""
    tower_bands: Annotated[tuple[int, ...], length(3, 3)] = (0, 1, 2)
    """Bands (from 0) that the tower sees as red, green, blue; one index three times for grey."""
    band_mean: Annotated[tuple[float, ...], bounds()] = RGB_MEAN
    """Subtracted from each band before the trunk and added to it after, in the model's range."""
    residual: bool = False
    """Whether the trunk computes the difference from the bicubically enlarged input, or the whole result."""
    base_sharpness: Annotated[float, bounds(-1, 0)] = -0.75
    """Parameter a of that bicubic enlargement: -0.5 leaves smooth ground as it is, -0.75 sharpens it."""

    unit: Annotated[str, one_of(UNITS)] = "hat"
    """Kind of SR unit, a name in `registry.UNITS`."""
    depths: Annotated[tuple[int, ...], length(1, 32), bounds(1, 64)] = (6, 6, 6, 6, 6, 6)
    """Blocks in each unit; as many units as entries."""
    width: Annotated[int, bounds(1, 2048)] = 180
    """Channels of the trunk."""
    heads: Annotated[int, bounds(1, 32)] = 6
    """Attention heads of a block (hat, swin)."""
    window: Annotated[int, bounds(1, 32)] = 16
    """Side of an attention window, in lr pixels (hat, swin)."""
    mlp_ratio: Annotated[float, bounds(0.01, 16)] = 2.0
    """Hidden width of a block's MLP over the trunk's (hat, swin)."""
    compress: Annotated[int, bounds(1, 64)] = 3
    """How many times narrower the convolutions beside the attention are (hat)."""
    squeeze: Annotated[int, bounds(1, 512)] = 30
    """How many times narrower channel attention is (hat, residual)."""
    conv_scale: Annotated[float, bounds()] = 0.01
    """Weight of the convolutions beside the attention (hat)."""
    reach: Annotated[float, bounds(0, 1)] = 0.5
    """How far the keys of overlapping attention reach beyond a window, as a share of its side (hat)."""
    embed_norm: bool = True
    """Whether features are normalised before the first unit."""
    final_norm: bool = True
    """Whether features are normalised after the last unit."""
    head: Annotated[str, one_of(("stages", "direct", "plain stages"))] = "stages"
    """Enlargement: "stages" (a convolution, then convolution and pixel shuffle by 2 or 3, repeated), "plain stages" (the
    same without the first convolution, from all channels of the trunk) or "direct" (one convolution and shuffle)."""
    head_width: Annotated[int, bounds(1, 1024)] = 64
    """Channels of the staged enlargement."""
    modulation_width: Annotated[int, bounds(1, 1024)] = 128
    """Channels between guidance and modulation."""
    modulation_kernel: Annotated[int, one_of((1, 3))] = 3
    """Side of the modulation's convolutions, in lr pixels: 1 or 3."""
    modulation_norm: bool = True
    """Whether modulation normalises the features first; without it, a modulation at rest changes nothing."""
    skip_every: Annotated[int, bounds(0, 64)] = 0
    """Convolutions between two skip connections inside a unit; 0: only the one around the unit (compact)."""
    sensor_width: Annotated[int, bounds(0, 512)] = 0
    """Hidden width of the layers that turn the sensor's descriptor into gains and offsets; 0: no descriptor (compact)."""

    tower_width: Annotated[int, bounds(1, 4096)] = 768
    """Channels of the tower."""
    tower_layers: Annotated[int, bounds(1, 64)] = 12
    """Blocks of the tower."""
    tower_heads: Annotated[int, bounds(1, 64)] = 12
    """Attention heads of the tower."""
    tower_patch: Annotated[int, bounds(1, 64)] = 16
    """Side of a token, in pixels of the tower's input."""
    tower_grid: Annotated[int, bounds(1, 128)] = 14
    """Tokens along each side of the image that the position table was made for."""
    tower_output: Annotated[int, bounds(1, 4096)] = 512
    """Length of a feature, and of a prompt."""
    tower_mlp_ratio: Annotated[float, bounds(0.01, 16)] = 4.0
    """Hidden width of a tower block's MLP over the tower's."""
    tower_act: Annotated[str, one_of(("quick_gelu", "gelu"))] = "quick_gelu"
    """Activation of the tower: "quick_gelu" (OpenAI's weights) or "gelu"."""
    tower_enlarge: bool = True
    """Whether the tower sees the bilinearly enlarged input, or the input at its own size."""
    tower_mean: Annotated[tuple[float, ...], length(3, 3), bounds()] = CLIP_MEAN
    """Mean of the red, green and blue that the tower was trained on."""
    tower_std: Annotated[tuple[float, ...], length(3, 3), bounds(1e-9, 1e9)] = CLIP_STD
    """Standard deviation of the same."""
    lora_rank: Annotated[int, bounds(0, 4096)] = 32
    """Rank of the adapters on the frozen tower; 0: no adapters, the tower itself is trained."""
    lora_alpha: Annotated[float, bounds()] = 32.0
    """The adapters' weight times their rank."""
    lora_dropout: Annotated[float, bounds(0, 0.99)] = 0.05
    """Share of an adapter's inputs that training leaves out at random."""
    prompt_heads: Annotated[int, bounds(1, 64)] = 8
    """Heads of the attention among prompts."""
    compat: Compat = field(default_factory=Compat)
    """The paper, or the authors' program."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if sum(self.depths) > _MOST_BLOCKS:
            raise ConfigError(
                f"Cannot build the model: depths add up to {sum(self.depths)} blocks; the most are {_MOST_BLOCKS}."
            )
        if not all(0 <= band < self.bands for band in self.tower_bands):
            raise ConfigError(
                f"Cannot build the model: tower_bands {list(self.tower_bands)} are not all among the {self.bands} bands, "
                "counted from 0."
            )
        if len(self.band_mean) != self.bands:
            raise ConfigError(
                f"Cannot build the model: band_mean has {len(self.band_mean)} values for {self.bands} bands."
            )
        if self.lora_rank > self.tower_width:
            raise ConfigError(
                f"Cannot build the model: lora_rank {self.lora_rank} is above tower_width {self.tower_width}."
            )
        _divides("tower_heads", self.tower_heads, "tower_width", self.tower_width)
        _divides("prompt_heads", self.prompt_heads, "tower_output", self.tower_output)
        if self.sensor_width and self.width % 4:
            raise ConfigError(
                f"Cannot build the model: width is {self.width}; with sensor_width it must be a multiple of 4."
            )
        self._check_unit()

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
        config: SeGSRConfig = build(
            cls,
            values,
            "the network's configuration",
            unknown="It was written by a newer version of this package, or by something else.",
        )
        return config

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


def _divides(name: str, part: int, of: str, whole: int) -> None:
    if whole % part:
        raise ConfigError(f"Cannot build the model: {of} {whole} cannot be split among {name} {part}.")
