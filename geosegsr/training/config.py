"""What a training run is: one frozen dataclass a section, written to and read from TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from geosegsr.errors import ConfigError, did_you_mean
from geosegsr.imagery.config import DataConfig
from geosegsr.models.catalogue import is_foreign, located
from geosegsr.models.contract import BUNDLED
from geosegsr.models.segsr.presets import presets
from geosegsr.models.segsr.registry import UNITS
from geosegsr.schema import Checked, Rule, bounds, build, nested, one_of, overlaid, plain_values, read_toml
from geosegsr.sensor.degradation import Degradation
from geosegsr.training.losses import Loss

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
EQUIVARIANCES = ("none", "p4", "p4m")
TRACKERS = ("tensorboard", "wandb", "mlflow")
_DEVICE = Rule(
    lambda device: device.partition(":")[0] in ("auto", "cpu", "cuda"),
    "auto, cpu, cuda or cuda:N",
    {"pattern": "^(auto|cpu|cuda)(:.*)?$"},
)
AUTO_PRESET = "auto"
"""The `preset` of a run from bundled weights that nobody chose a preset for: `as_found` chooses among `BUNDLED_PRESETS`."""
GROUPS = "groups"
RANDOM = "none"
"""The `init` of a network with random weights."""
BUNDLED_PRESETS = {"compact": "sharp and clean scenes", "compact-sensor": "any sensor"}
"""Presets that have a bundled network for each scale, and what these networks are for."""
FOREIGN = "foreign"
"""Name of the recipe of runs that start from another project's network, and the preset of such runs."""
_TUNING = "fine_tuning"
"""Section of a recipe: what differs where a run starts from a checkpoint."""
_WHOLE = ("loss", "degradation")
"""Sections that are one description each, so that a change replaces all of them."""


@dataclass(frozen=True)
class ModelConfig(Checked):
    """Which network."""

    preset: str = "compact"
    """Name of a network preset. `resolve_config` takes "auto" where none is named and the bundled weights are the start:
    "compact" for sharp and clean lr, else "compact-sensor"."""
    scale: Annotated[int, bounds(2)] = 4
    """Output pixels per input pixel."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Fields of the network's configuration that shall differ from the preset."""
    init: str = RANDOM
    """What to start from: a checkpoint, also a converted one of another project, "bundled" or "none" (random weights).
    `resolve_config` takes "bundled" by default, where the preset has a bundled network."""
    train: Annotated[str, one_of(("all", "trunk", "lora"))] = "all"
    """What is trained: "all", "trunk" (all but the tower) or "lora" (the tower's adapters only)."""
    equivariance: Annotated[str, one_of(EQUIVARIANCES)] = "none"
    """Turns of the image that the trunk commutes with, where it is made of plain convolutions: "none", "p4" (by quarters)
    or "p4m" (mirrors too). The same network learns more from the same images."""
    bands: Annotated[str, one_of((GROUPS, "together"))] = "together"
    """Of images with bands that a checkpoint lacks. "groups": the network keeps the checkpoint's bands, and the others go
    through it as grey, one at a time, as in `upscale`; the default of `resolve_config`, if the checkpoint knows grey.
    "together": the network gets all bands as inputs and outputs, which takes a longer training and runs faster."""
    unit_from: str | None = None
    """A SwinIR, HAT or RCAN network of another project, whose trunk the network starts with; the preset gives the rest."""
    tower: str | None = None
    """Weights of the semantic tower: a name or a file; None for the preset's own start."""


@dataclass(frozen=True)
class TeacherConfig(Checked):
    """Another model that the network learns from, beside hr."""

    model: str = ""
    """A checkpoint of the same scale and bands; empty for none."""
    share: Annotated[float, bounds(gt=0, le=1)] = 0.5
    """How far targets lie from hr, 0, towards the teacher's results, 1."""


@dataclass(frozen=True)
class ToldError(Checked):
    """Standard deviations of the error in what the network is told of a patch's sensor; estimates have such errors too."""

    mtf: Annotated[float, bounds(0, lt=1)] = 0.03
    """Of the responses at 1/4 and 1/2 cycle per lr pixel."""
    noise: Annotated[float, bounds(0, lt=1)] = 0.15
    """Of the noise, as a share of it."""
    quantisation: Annotated[float, bounds(0, lt=1)] = 0.15
    """Of the scale of a JPEG's quantisation tables, as a share of it."""


@dataclass(frozen=True)
class OptimiserConfig(Checked):
    """Steps downhill."""

    name: Annotated[str, one_of(("adam", "adamw", "muon"))] = "adamw"
    """"adam", "adamw", or "muon" (orthogonal steps for matrices and kernels, AdamW for the rest)."""
    learning_rate: Annotated[float, bounds(gt=0)] = 1e-3
    """At its highest."""
    tower_share: float = 0.05
    """Learning rate of a tower that is trained as a whole, and of the prompts, over that of the trunk; adapters of a frozen
    tower learn as fast as the trunk. At the trunk's rate a tower ends up with one feature for all places."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Memory of mean and variance of gradients."""
    weight_decay: float = 0.0
    """Decoupled, for "adamw" and "muon"."""
    momentum: float = 0.95
    """Memory of gradients, for "muon"."""
    clip_norm: float = 1.0
    """Gradients longer than this are shortened to it; 0: never."""
    ema: Annotated[float, bounds(0, lt=1)] = 0.999
    """Memory of the averaged weights that are validated and shipped; 0: the plain weights."""
    batch: Annotated[int, bounds(1)] = 16
    """Patches in a step, in each process."""
    accumulate: Annotated[int, bounds(1)] = 1
    """Batches whose gradients are summed before a step."""


@dataclass(frozen=True)
class ScheduleConfig(Checked):
    """How long, and how the learning rate goes."""

    steps: Annotated[int, bounds(1)] = 20000
    """Length of the run; ignored when `minutes` is given."""
    minutes: Annotated[float, bounds(gt=0)] | None = None
    """Length of the run by the clock: the schedule follows the elapsed share of it."""
    shape: Annotated[str, one_of(("cosine", "steps", "constant"))] = "cosine"
    """"cosine", "steps" or "constant"."""
    warmup: Annotated[float, bounds(0, lt=1)] = 0.02
    """Share of the run in which the learning rate rises from 0."""
    warmup_steps: Annotated[int, bounds(0)] = 100
    """Fewest steps of that rise, so that a short run is not thrown off its start."""
    floor: float = 0.01
    """Lowest learning rate of a cosine, as a share of the highest."""
    milestones: tuple[float, ...] = (0.5, 0.75, 0.9)
    """Shares of the run at which "steps" halves the learning rate."""


@dataclass(frozen=True)
class ValidationConfig(Checked):
    """How often, and on how much."""

    every: Annotated[int, bounds(1)] | None = None
    """Steps between two validations; None: at even shares of the run, see `times`."""
    times: Annotated[int, bounds(5)] = 20
    """Validations after that of the start. A run of few steps has fewer, and so has a run of `minutes` of which they would
    take more than a fifth; at least five."""
    tiles: Annotated[int, bounds(1)] = 64
    """Most tiles that are looked at."""
    tile: Annotated[int, bounds(16)] = 256
    """Side of a validation tile, in hr pixels."""
    patience: Annotated[int, bounds(0)] = 8
    """A run ends when this many validations in a row gain less than 0.01 dB over the one before them; 0: never."""
    bundled: bool = True
    """Whether the bundled model is scored on the same tiles at the end; the run's model has to be better."""
    forget: Annotated[float, bounds(gt=0)] = 0.02
    """What sharp and clean scenes of the run's ground may lose by a start from given weights, in dB, by an estimate; other ground
    lost up to five times as much, where it was measured. If the best weights lose more, weights nearer to the start become the
    model, as long as they keep a quarter of the gain over the strongest that was beaten."""
    pictures: Annotated[int, bounds(1)] = 4
    """Tiles shown in the picture of each validation."""


@dataclass(frozen=True)
class TrainConfig(Checked):
    """A whole run. Sections are tables of the TOML file."""

    data: DataConfig = field(default_factory=DataConfig)
    """Images and patches."""
    degradation: Degradation = field(default_factory=Degradation)
    """hr to lr, where lr is made."""
    find_sensor: bool = False
    """Whether blur, noise and compression of lr are found from the images, where lr is made of `data.hr`; `degradation` is
    replaced then. The command line asks for it unless a degradation is given."""
    told_error: ToldError = field(default_factory=ToldError)
    """Error of what a network with a `sensor_width` is told of each patch."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The network."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    """Whose results it learns from, too."""
    loss: dict[str, float] = field(default_factory=lambda: {"l1": 1.0})
    """Weight of each term."""
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    """Steps."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """Length and learning rate."""
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    """Validation."""
    device: Annotated[str, _DEVICE] = "auto"
    """"auto", "cpu" or "cuda"."""
    precision: Annotated[str, one_of(PRECISIONS)] = "auto"
    """"auto", "fp32", "bf16" or "fp16"."""
    threads: Annotated[int, bounds(0)] = 0
    """Threads for arithmetic on a processor; 0: as many as it has idle cores when the run starts. Other
    numbers of threads round differently, so a run keeps its own."""
    seed: int = 0
    """Everything random follows from it."""
    checkpoint_every: Annotated[int, bounds(1)] = 500
    """Steps between two checkpoints."""
    trackers: tuple[Annotated[str, one_of(TRACKERS)], ...] = ()
    """Where loss, scores and pictures are sent: "tensorboard", "wandb", "mlflow"."""

    def __post_init__(self) -> None:
        super().__post_init__()
        data = self.data
        Loss(self.loss)
        if (data.radiometry == "range") != (len(data.range) == 2):
            raise ConfigError(
                f"Cannot train with data.radiometry '{data.radiometry}' and data.range {list(data.range)}: "
                "the radiometry 'range', and only that, needs LO and HI."
            )
        if data.sources and (data.hr or data.lr):
            raise ConfigError("Cannot train on data.sources and on data.hr or data.lr: give one of them.")
        if data.sources and not data.val:
            raise ConfigError("Cannot train on data.sources without data.val: pass --val with other places.")
        if data.val_lr and not data.lr:
            raise ConfigError("Cannot validate on pairs without training on pairs: pass --lr too.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "the configuration") -> TrainConfig:
        """Build from plain values.

        Raises:
            ConfigError: A key is unknown, of the wrong type or impossible.
        """
        built: TrainConfig = build(cls, values, where)
        return built

    def to_dict(self) -> dict[str, Any]:
        """Plain values without None, for TOML; from_dict gives the same configuration back."""
        plain: dict[str, Any] = plain_values(asdict(self))
        plain["degradation"] = self.degradation.to_dict()
        return plain


def resolve_config(
    preset: str | None = None, file: str | Path | None = None, changes: Mapping[str, Any] | None = None
) -> TrainConfig:
    """The defaults, then a recipe, then a file, then single changes: later ones win.

    Args:
        preset: Name of a network preset, which brings its recipe; by default the file's own preset, or "auto" where the start
            is bundled, or "compact".
        file: A TOML file.
        changes: Dotted names and values, such as {"optimiser.batch": 8}.

    Raises:
        ConfigError: No such recipe or file, or a key that nobody reads.
    """
    wanted = read_toml(file) if file else {}
    section = wanted.get("model")
    own = section.get("preset") if isinstance(section, Mapping) else None
    if preset:
        wanted = overlaid(wanted, {"model": {"preset": preset}}, _WHOLE)
    for key, value in (changes or {}).items():
        wanted = overlaid(wanted, nested(key, value), _WHOLE)
    foreign = _starts_foreign(wanted)
    named = str(preset or own or AUTO_PRESET)
    if named == AUTO_PRESET:
        named = FOREIGN if foreign else "compact"
    recipe = load_recipe(named)
    tuning = recipe.pop(_TUNING, {})
    if foreign:  # its weights are nobody's turns
        recipe = overlaid(recipe, {"model": {"equivariance": "none"}})
    init = _init_of(overlaid(recipe, wanted, _WHOLE)["model"])
    if init != RANDOM:
        recipe = overlaid(recipe, tuning)
    unnamed = init == BUNDLED and "preset" not in wanted.get("model", {})
    start = {"model": {"init": init, "bands": GROUPS, **({"preset": AUTO_PRESET} if unnamed else {})}}
    merged = overlaid(overlaid(recipe, start), wanted, _WHOLE)
    return TrainConfig.from_dict(merged, f"'{file}'" if file else "the configuration")


def _starts_foreign(wanted: Mapping[str, Any]) -> bool:
    """Whether the settings name another project's network to start from."""
    model = wanted.get("model")
    init = model.get("init") if isinstance(model, Mapping) else None
    return isinstance(init, str) and init not in (RANDOM, BUNDLED) and is_foreign(str(located(init)))


def _init_of(model: Any) -> Any:
    """What a network starts from: as the section says, or the bundled weights of the preset."""
    if not isinstance(model, Mapping):
        return RANDOM
    alike = (
        model.get("preset") in BUNDLED_PRESETS
        and not model.get("changes")
        and not model.get("tower")
        and not model.get("unit_from")
        and model.get("equivariance") in ("none", "p4")
    )
    return model.get("init", BUNDLED if alike else RANDOM)


def load_recipe(preset: str) -> dict[str, Any]:
    """The recipe of a network preset, as plain values; a section "fine_tuning" is for runs that start from a checkpoint.

    Raises:
        ConfigError: There is no such preset.
    """
    known = presets()
    if preset == FOREIGN:
        return _read_recipe(FOREIGN, preset)
    if preset not in known:
        raise ConfigError(
            f"Cannot find a preset '{preset}': there are {', '.join(known)}.{did_you_mean(preset, known)}"
        )
    return _read_recipe(UNITS[known[preset]["unit"]].recipe, preset)


def _read_recipe(recipe: str, preset: str) -> dict[str, Any]:
    file = resources.files("geosegsr.training") / "recipes" / f"{recipe}.toml"
    return overlaid(tomllib.loads(file.read_text(encoding="utf-8")), {"model": {"preset": preset}})


def parse_change(text: str) -> tuple[str, Any]:
    """A change as typed on the command line: "optimiser.batch=8".

    Raises:
        ConfigError: There is no "=".
    """
    key, sign, value = text.partition("=")
    if not sign:
        raise ConfigError(
            f"Cannot read the setting '{text}': needed is NAME=VALUE, such as optimiser.batch=8."
        )
    try:
        return key.strip(), tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()
