"""What a training run is: one frozen dataclass a section, written to and read from TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

from geosegsr.errors import ConfigError
from geosegsr.training.degradation import Degradation
from geosegsr.training.losses import Loss
from geosegsr.training.strict import refuse_unknown_keys

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
EQUIVARIANCES = ("none", "p4", "p4m")
RADIOMETRIES = ("auto", "dtype", "declared", "percentiles", "standard", "range")


@dataclass(frozen=True)
class SourceConfig:
    """One kind of images among several that a model is trained on together."""

    hr: tuple[str, ...] = ()
    """Folders, patterns or files of high-resolution images of one kind."""
    share: float = 1.0
    """How often patches come from here, beside the shares of the others."""
    bands: tuple[int, ...] = ()
    """1-based bands to use, in this order; empty for all. Where they are more than the model's, every patch
    draws as many of them at random; a single one is repeated."""
    nodata: float | None = None
    """Overrides the files' own nodata value."""
    radiometry: str = "auto"
    """Where the range of each image comes from: "auto", "dtype", "declared", "percentiles" (its own, of all bands
    together) or "bands" (percentiles of each band)."""
    grey: float = 0.0
    """Share of patches whose bands are all replaced by one of them, or by a mixture."""
    shuffle_bands: float = 0.0
    """Share of patches whose bands change places."""
    blur: tuple[float, float] = (0.0, 0.0)
    """Widths (standard deviation, hr pixels) of a blur over hr itself, drawn for each patch: imagery that was
    resampled from coarser pixels and has no detail to be restored."""
    zoom: tuple[float, float] = (1.0, 1.0)
    """Factors by which hr is reduced, drawn for each patch and axis: the same things in other sizes and shapes. An image
    smaller than a patch times its factor is reduced as far as it reaches."""
    degradation: Degradation | None = None
    """hr to lr, where it is not the run's."""


@dataclass(frozen=True)
class DataConfig:
    """Which images, and how patches are cut from them."""

    hr: tuple[str, ...] = ()
    """Folders, patterns or files of high-resolution images."""
    sources: tuple[SourceConfig, ...] = ()
    """Images of several kinds, in place of `hr`; the first one's bands are the model's."""
    lr: tuple[str, ...] = ()
    """The same for the low-resolution side of real pairs; empty to make it by degradation."""
    val: tuple[str, ...] = ()
    """Images to validate on; empty to set a part of the ground aside."""
    val_lr: tuple[str, ...] = ()
    """Low-resolution side of `val`, for real pairs."""
    val_share: float = 0.1
    """Share of the ground set aside where `val` is empty."""
    bands: tuple[int, ...] = ()
    """1-based bands to train on; empty for all."""
    nodata: float | None = None
    """Overrides the files' own nodata value."""
    radiometry: str = "auto"
    """Where the model's range comes from: "auto", "dtype", "declared" (scale and offset tags),
    "percentiles" (of all training images), "standard" (mean and deviation of each band) or "range"."""
    range: tuple[float, ...] = ()
    """LO and HI in DN, for the radiometry "range"."""
    patch: int = 48
    """Side of a patch, in lr pixels."""
    texture: float = 0.5
    """How strongly textured places are preferred: 0 not at all, 1 in proportion to their texture."""
    augment: bool = True
    """Flips, quarter turns, and patches that begin at any hr pixel instead of every scale-th."""
    grey: float = 0.0
    """Share of patches whose bands are all replaced by one of them, or by a mixture."""
    shuffle_bands: float = 0.0
    """Share of patches whose bands change places, for models that shall not depend on their order."""
    max_shift: float = 3.0
    """Largest shift in a pair that is corrected, in lr pixels; pairs beyond it are left out."""
    match_pairs: bool = True
    """Give hr of a real pair the mean and deviation of its lr in each band."""
    cache_gb: float = 4.0
    """Images are kept decoded in memory as long as they fit into this; others are read by windows."""
    workers: int = 1
    """Threads that prepare batches."""


@dataclass(frozen=True)
class ModelConfig:
    """Which network."""

    preset: str = "compact"
    """Name of a network preset."""
    scale: int = 4
    """Output pixels per input pixel."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Fields of the network's configuration that shall differ from the preset."""
    init: str | None = None
    """A checkpoint to start from, or "bundled"."""
    train: str = "all"
    """What is trained: "all", "trunk" (all but the tower) or "lora" (the tower's adapters only)."""
    equivariance: str = "none"
    """Turns of the image that the trunk commutes with, where it is made of plain convolutions: "none", "p4" (by quarters)
    or "p4m" (mirrors too). The same network learns more from the same images."""
    tower: str | None = None
    """Weights of the semantic tower: a name or a file; None for the preset's own start."""


@dataclass(frozen=True)
class TeacherConfig:
    """Another model that the network learns from, beside hr."""

    model: str = ""
    """A checkpoint of the same scale and bands; empty for none."""
    share: float = 0.5
    """How far targets lie from hr, 0, towards the teacher's results, 1."""


@dataclass(frozen=True)
class OptimiserConfig:
    """Steps downhill."""

    name: str = "adamw"
    """"adam", "adamw", or "muon" (orthogonal steps for matrices and kernels, AdamW for the rest)."""
    learning_rate: float = 1e-3
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
    ema: float = 0.999
    """Memory of the averaged weights that are validated and shipped; 0: the plain weights."""
    batch: int = 16
    """Patches in a step, in each process."""
    accumulate: int = 1
    """Batches whose gradients are summed before a step."""


@dataclass(frozen=True)
class ScheduleConfig:
    """How long, and how the learning rate goes."""

    steps: int = 20000
    """Length of the run; ignored when `minutes` is given."""
    minutes: float | None = None
    """Length of the run by the clock: the schedule follows the elapsed share of it."""
    shape: str = "cosine"
    """"cosine", "steps" or "constant"."""
    warmup: float = 0.02
    """Share of the run in which the learning rate rises from 0."""
    floor: float = 0.01
    """Lowest learning rate of a cosine, as a share of the highest."""
    milestones: tuple[float, ...] = (0.5, 0.75, 0.9)
    """Shares of the run at which "steps" halves the learning rate."""


@dataclass(frozen=True)
class ValidationConfig:
    """How often, and on how much."""

    every: int = 1000
    """Steps between two validations."""
    tiles: int = 64
    """Most tiles that are looked at."""
    tile: int = 256
    """Side of a validation tile, in hr pixels."""
    pictures: int = 4
    """Tiles shown in the picture of each validation."""


@dataclass(frozen=True)
class TrainConfig:
    """A whole run. Sections are tables of the TOML file."""

    data: DataConfig = field(default_factory=DataConfig)
    """Images and patches."""
    degradation: Degradation = field(default_factory=Degradation)
    """hr to lr, where lr is made."""
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
    device: str = "auto"
    """"auto", "cpu" or "cuda"."""
    precision: str = "auto"
    """"auto", "fp32", "bf16" or "fp16"."""
    threads: int = 0
    """Threads for arithmetic on a processor; 0: as many as it has idle cores when the run starts. Other
    numbers of threads round differently, so a run keeps its own."""
    seed: int = 0
    """Everything random follows from it."""
    checkpoint_every: int = 500
    """Steps between two checkpoints."""

    def __post_init__(self) -> None:
        data, steps, plan = self.data, self.optimiser, self.schedule
        Loss(self.loss)
        _choose("precision", self.precision, PRECISIONS)
        _choose("device", self.device.split(":")[0], ("auto", "cpu", "cuda"))
        _choose("data.radiometry", data.radiometry, RADIOMETRIES)
        _choose("optimiser.name", steps.name, ("adam", "adamw", "muon"))
        _choose("schedule.shape", plan.shape, ("cosine", "steps", "constant"))
        _choose("model.train", self.model.train, ("all", "trunk", "lora"))
        _choose("model.equivariance", self.model.equivariance, EQUIVARIANCES)
        for name, value, least in (
            ("model.scale", self.model.scale, 2),
            ("data.patch", data.patch, 8),
            ("data.workers", data.workers, 1),
            ("optimiser.batch", steps.batch, 1),
            ("optimiser.accumulate", steps.accumulate, 1),
            ("schedule.steps", plan.steps, 1),
            ("validation.every", self.validation.every, 1),
            ("validation.tiles", self.validation.tiles, 1),
            ("validation.tile", self.validation.tile, 16),
            ("checkpoint_every", self.checkpoint_every, 1),
            ("threads", self.threads, 0),
        ):
            if value < least:
                raise ConfigError(f"Cannot train with {name} = {value}: it must be at least {least}.")
        for name, share in (
            ("data.val_share", data.val_share),
            ("data.grey", data.grey),
            ("data.shuffle_bands", data.shuffle_bands),
            ("schedule.warmup", plan.warmup),
            ("optimiser.ema", steps.ema),
        ):
            if not 0 <= share < 1:
                raise ConfigError(f"Cannot train with {name} = {share:g}: it must be at least 0 and below 1.")
        if not 0 < self.teacher.share <= 1:
            raise ConfigError(
                f"Cannot train with teacher.share = {self.teacher.share:g}: it must be above 0 and at most 1."
            )
        if steps.learning_rate <= 0 or (plan.minutes is not None and plan.minutes <= 0):
            raise ConfigError("Cannot train with a learning rate or a time that is not above 0.")
        if (data.radiometry == "range") != (len(data.range) == 2):
            raise ConfigError(
                f"Cannot train with data.radiometry '{data.radiometry}' and data.range {list(data.range)}: "
                "the radiometry 'range', and only that, needs LO and HI."
            )
        for number, source in enumerate(data.sources, 1):
            _check_source(source, f"data.sources, entry {number}")
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
        built: TrainConfig = _build(cls, values, where, "")
        return built

    def to_dict(self) -> dict[str, Any]:
        """Plain values without None, for TOML; from_dict gives the same configuration back."""
        plain: dict[str, Any] = _plain(asdict(self))
        plain["degradation"] = self.degradation.to_dict()
        return plain


def resolve_config(
    preset: str | None = None, file: str | Path | None = None, changes: Mapping[str, Any] | None = None
) -> TrainConfig:
    """The defaults, then a recipe, then a file, then single changes: later ones win.

    Args:
        preset: Name of a recipe that comes with the package; the file's own preset or "compact" by default.
        file: A TOML file.
        changes: Dotted names and values, such as {"optimiser.batch": 8}.

    Raises:
        ConfigError: No such recipe or file, or a key that nobody reads.
    """
    written = read_toml(file) if file else {}
    name = preset or written.get("model", {}).get("preset", "compact")
    merged = _merged(load_recipe(name), written)
    if preset:
        merged = _merged(merged, {"model": {"preset": preset}})
    for key, value in (changes or {}).items():
        merged = _merged(merged, _nested(key, value))
    return TrainConfig.from_dict(merged, f"'{file}'" if file else "the configuration")


def recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("geosegsr.training") / "recipes"
    return sorted(
        entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")
    )


def load_recipe(name: str) -> dict[str, Any]:
    """The recipe of that name, as plain values.

    Raises:
        ConfigError: There is none.
    """
    if name not in recipes():
        near = get_close_matches(name, recipes(), n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ConfigError(f"Cannot find a preset '{name}': there are {', '.join(recipes())}.{hint}")
    file = resources.files("geosegsr.training") / "recipes" / f"{name}.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: It cannot be read or is no TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"Cannot read a configuration from '{path}': {error}.") from error


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


def _build(cls: Any, values: Any, where: str, prefix: str) -> Any:
    if not isinstance(values, Mapping):
        raise ConfigError(f"Cannot read {where}: '{prefix.rstrip('.')}' is {values!r}, not a table.")
    if cls is Degradation:
        return Degradation.from_dict(dict(values), f"[degradation] of {where}")
    section = f" [{prefix.rstrip('.')}]" if prefix else ""
    refuse_unknown_keys(values, [entry.name for entry in fields(cls)], where + section)
    hints = get_type_hints(cls)
    ready: dict[str, Any] = {}
    for key, value in values.items():
        if hints[key] == tuple[SourceConfig, ...]:
            ready[key] = tuple(
                _build(SourceConfig, entry, where, f"{prefix}{key}.")
                for entry in _entries(value, prefix + key)
            )
        elif hints[key] == (Degradation | None):
            ready[key] = None if value is None else _build(Degradation, value, where, f"{prefix}{key}.")
        elif is_dataclass(hints[key]):
            ready[key] = _build(hints[key], value, where, f"{prefix}{key}.")
        else:
            ready[key] = _checked(value, hints[key], f"{prefix}{key}", where)
    return cls(**ready)


def _checked(value: Any, hint: Any, name: str, where: str) -> Any:
    """The value as the field's type, or an error that names the field."""
    kind = str(hint)
    if kind.startswith("tuple"):
        items = [value] if isinstance(value, str | int | float) else list(value)
        inner = str if "str" in kind else (int if "int" in kind else float)
        return tuple(_scalar(item, inner, name, where) for item in items)
    if kind.startswith("dict"):
        if not isinstance(value, Mapping):
            raise ConfigError(f"Cannot read {where}: {name} is {value!r}, not a table.")
        return dict(value)
    for inner in (bool, int, float, str):
        if hint is inner or kind.startswith(inner.__name__):
            return None if value is None and "None" in kind else _scalar(value, inner, name, where)
    raise AssertionError(kind)


def _scalar(value: Any, kind: type, name: str, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"Cannot read {where}: {name} is {value!r}, and needed is {_NAMES[kind]}.")
    return value


def _entries(value: Any, name: str) -> list[Any]:
    if isinstance(value, list | tuple):
        return list(value)
    raise ConfigError(f"Cannot read {name}: it is {value!r}, not a list of tables.")


def _check_source(source: SourceConfig, where: str) -> None:
    if not source.hr:
        raise ConfigError(f"Cannot train on {where}: it names no images. Give it hr.")
    if source.share <= 0:
        raise ConfigError(f"Cannot train on {where}: its share is {source.share:g}; it must be above 0.")
    _choose(
        f"radiometry of {where}", source.radiometry, ("auto", "dtype", "declared", "percentiles", "bands")
    )
    for name, span, least in (("blur", source.blur, 0), ("zoom", source.zoom, 1)):
        if len(span) != 2 or not least <= span[0] <= span[1]:
            raise ConfigError(
                f"Cannot train with {name} {list(span)} in {where}: it must be two numbers, upwards from {least}."
            )
    for name, share in (("grey", source.grey), ("shuffle_bands", source.shuffle_bands)):
        if not 0 <= share <= 1:
            raise ConfigError(f"Cannot train with {name} = {share:g} in {where}: it must be from 0 to 1.")


_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _choose(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        near = get_close_matches(value, known, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ConfigError(f"Cannot train with {name} = '{value}': it can be {', '.join(known)}.{hint}")


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        # A loss or a degradation is one description: its parts are replaced together, not mixed.
        both = isinstance(old, Mapping) and isinstance(value, Mapping) and key not in ("loss", "degradation")
        merged[key] = _merged(old or {}, value) if both else value
    return merged


def _nested(dotted: str, value: Any) -> dict[str, Any]:
    head, _, rest = dotted.partition(".")
    return {head: _nested(rest, value)} if rest else {head: value}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
