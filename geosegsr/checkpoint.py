"""One file holds a model: its tensors, and a card that says all one needs to know to use it.

The format is safetensors, with the card as JSON in the header's metadata. A file is read from the outside in:
sizes first, then the card, then the shapes a network of that configuration has, and only then the numbers.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geosegsr.atomic import whole_file
from geosegsr.errors import CheckpointError, ConfigError
from geosegsr.models.config import SeGSRConfig

if TYPE_CHECKING:
    from torch import Tensor

    from geosegsr.models.segsr import SeGSR

FORMAT = 1
METADATA_KEY = "geosegsr"
MOST_HEADER_BYTES = 16 * 2**20
STORAGE = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
_BYTES = {"F32": 4, "BF16": 2, "F16": 2}
_RADIOMETRY = {
    "auto": (),
    "dtype": (),
    "range": ("lo", "hi"),
    "percentiles": ("lo", "hi"),
    "standard": ("mean", "std"),
}


@dataclass(frozen=True)
class ModelCard:
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
    band_names: tuple[str, ...]
    """What each band shows, such as "red"."""
    radiometry: dict[str, Any] = field(default_factory=lambda: {"kind": "auto"})
    """How digital numbers become the model's 0 to 1: {"kind": "auto" or "dtype"}, {"kind": "range" or "percentiles",
    "lo", "hi"} or {"kind": "standard", "mean": [...], "std": [...]}; see radiometry.resolve_radiometry."""
    tile: int = 64
    """Side of a tile that suits the model, in lr pixels."""
    overlap: int = 16
    """Pixels that neighbouring tiles should share, in lr pixels."""
    halo: int = 4
    """Margin of a tile that is context only, in lr pixels."""
    multiple_of: int = 1
    """Tile sides are a multiple of this, in lr pixels."""
    min_size: int = 1
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
    storage: str = "float32"
    """Type of the tensors in the file: "float32", "bfloat16" or "float16"."""
    sha256: str = ""
    """Of the tensors; filled in when they are saved."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "band_names", tuple(self.band_names))
        self._check_kinds()
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
        multiple = config.multiple_of
        # 288: at x4 a block of 2048 pixels is two tiles, and a layer's features are less than geosegsr.heap can keep.
        sides = (288, 32, 8) if config.unit == "compact" else (64, 16, 4)
        tile, overlap, halo = (sides[0] // multiple or 1) * multiple, sides[1], sides[2]
        names = (
            ("red", "green", "blue")
            if config.bands == 3
            else tuple(f"band {i + 1}" for i in range(config.bands))
        )
        known: dict[str, Any] = {"band_names": names, "tile": tile, "overlap": overlap, "halo": halo}
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
        if not isinstance(values, dict):
            raise ConfigError("Cannot read the model card: it is not a table of names and values.")
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        missing = sorted({"name", "config", "scale", "bands", "band_names"} - set(values))
        if unknown or missing:
            fault = (
                f"it lacks {', '.join(missing)}"
                if missing
                else f"it has unknown entries ({str(unknown[:5])[1:-1]})"
            )
            raise ConfigError(f"Cannot read the model card: {fault[:200]}.")
        return cls(**values)

    def _check_kinds(self) -> None:
        kinds: dict[str, Any] = {"str": str, "int": int, "bool": bool, "tuple[str, ...]": tuple}
        for f in fields(self):
            value, kind = getattr(self, f.name), kinds.get(str(f.type), dict)
            optional = f.name == "degradation" and value is None
            if not optional and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
                raise ConfigError(
                    f"Cannot use the card: {f.name} is {str(value)[:80]!r}, which is not {f.type}."
                )
        if not all(isinstance(name, str) for name in self.band_names) or len(self.band_names) != self.bands:
            raise ConfigError(
                f"Cannot use the card of '{self.name[:80]}': "
                f"it names {len(self.band_names)} of {self.bands} bands."
            )
        if self.storage not in STORAGE:
            raise ConfigError(
                f"Cannot store tensors as {self.storage[:80]!r}. It can be: {', '.join(STORAGE)}."
            )

    def _check_sizes(self) -> None:
        fits = (
            1 <= self.multiple_of <= 1024
            and 1 <= self.min_size <= self.tile <= 2**16
            and self.tile % self.multiple_of == 0
            and 0 <= 2 * self.halo <= self.overlap < self.tile
        )
        if not fits:
            raise ConfigError(
                f"Cannot use the card of '{self.name[:80]}': tile {self.tile}, overlap {self.overlap}, "
                f"halo {self.halo}, multiple_of {self.multiple_of}, min_size {self.min_size}. "
                "The tile must be a multiple of multiple_of and no smaller than min_size, "
                "the overlap less than the tile and at least twice the halo."
            )


def save_checkpoint(path: str | Path, model: SeGSR, card: ModelCard) -> ModelCard:
    """Write a model to a file; the same model and card give the same bytes.

    The file appears whole or not at all.

    Args:
        path: Ends in .safetensors.
        model: Its own configuration goes into the card.
        card: What to say about it; sha256 is filled in.

    Returns:
        The card as written.

    Raises:
        CheckpointError: The file cannot be written.
        ConfigError: The card does not fit the model.
    """
    import torch
    from safetensors.torch import save

    path = Path(path)
    dtype = getattr(torch, card.storage)
    tensors = {k: v.detach().to("cpu", dtype).contiguous() for k, v in sorted(model.state_dict().items())}
    card = replace(card, config=model.config.to_dict(), sha256=_sha256(tensors))
    entry = {"format": FORMAT, "card": card.to_dict()}
    data = save(tensors, {METADATA_KEY: json.dumps(entry, sort_keys=True, allow_nan=False)})
    try:
        with whole_file(path, sync=True) as file:
            file.write(data)
    except OSError as error:
        raise CheckpointError(f"Cannot write checkpoint '{path}': {error.strerror or error}.") from error
    return card


def read_card(path: str | Path) -> ModelCard:
    """The card of a checkpoint; reads the header only.

    Raises:
        CheckpointError: The file cannot be read, or is no checkpoint of this package.
    """
    return _read_header(Path(path))[0]


def load_checkpoint(path: str | Path) -> tuple[SeGSR, ModelCard]:
    """The model and the card of a checkpoint.

    Returns:
        The network in eval mode, in float32 on the CPU; and the card.

    Raises:
        CheckpointError: The file is damaged, cut short, foreign, or its tensors are not those of its card.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    card, shapes = _read_header(path)
    model = _empty_network(path, card, shapes)
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _refused(path, f"it is damaged ({error})") from error
    if _sha256(tensors) != card.sha256:
        raise _refused(path, "it is damaged: its tensors do not have the checksum that its card names")
    trained = {name: p.requires_grad for name, p in model.named_parameters()}
    model.load_state_dict({k: v.to(torch.float32, copy=True) for k, v in tensors.items()}, assign=True)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trained[name])
    return model.eval(), card


def _empty_network(path: Path, card: ModelCard, shapes: Mapping[str, tuple[int, ...]]) -> SeGSR:
    """A network without memory behind it, once the file is known to hold exactly its tensors."""
    from geosegsr.models.blank import without_weights
    from geosegsr.models.segsr import SeGSR

    with without_weights():
        model = SeGSR(SeGSRConfig.from_dict(card.config))
    needed = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    wrong = sorted(name for name in needed.keys() | shapes.keys() if needed.get(name) != shapes.get(name))
    if wrong:
        name = wrong[0]
        found, wanted = (str(table.get(name, "none")) for table in (shapes, needed))
        raise _refused(
            path, f"its tensors are not those of its card ({name[:80]!r}: found {found}, needed {wanted})"
        )
    return model


def _read_header(path: Path) -> tuple[ModelCard, dict[str, tuple[int, ...]]]:
    header, data_bytes = _header_json(path)
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or not isinstance(metadata.get(METADATA_KEY), str):
        raise _refused(path, "it has no model card, so it was not written by geosegsr")
    try:
        entry = json.loads(metadata[METADATA_KEY])
        if not isinstance(entry, dict) or entry.get("format") != FORMAT:
            raise _refused(path, f"its card is not of format {FORMAT}; a newer geosegsr may read it")
        card = ModelCard.from_dict(entry.get("card"))
    except (ConfigError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise _refused(path, f"its card does not hold ({error})") from error
    shapes = {
        name: _shape(path, name, entry, data_bytes, STORAGE[card.storage]) for name, entry in header.items()
    }
    if sum(math.prod(shape) for shape in shapes.values()) * _BYTES[STORAGE[card.storage]] != data_bytes:
        raise _refused(path, "it is damaged or cut short: its size is not that of its tensors")
    return card, shapes


def _header_json(path: Path) -> tuple[dict[str, Any], int]:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))[0]
            if size < 8 or not 2 <= length <= min(size - 8, MOST_HEADER_BYTES):
                raise _refused(path, "it is no safetensors file, or cut short")
            header = json.loads(file.read(length))
    except OSError as error:
        raise CheckpointError(f"Cannot read checkpoint '{path}': {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise _refused(path, "it is no safetensors file: its header is not JSON") from error
    if not isinstance(header, dict):
        raise _refused(path, "it is no safetensors file: its header is no table")
    return header, size - 8 - length


def _shape(path: Path, name: str, entry: Any, data_bytes: int, dtype: str) -> tuple[int, ...]:
    shape = entry.get("shape") if isinstance(entry, dict) else None
    whole = isinstance(shape, list) and all(isinstance(n, int) and 0 <= n <= data_bytes for n in shape)
    if not whole or entry.get("dtype") != dtype:
        raise _refused(path, f"tensor {name[:80]!r} is not described as the {dtype} its card names")
    return tuple(shape)  # type: ignore[arg-type]


def _sha256(tensors: Mapping[str, Tensor]) -> str:
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _refused(path: Path, fault: str) -> CheckpointError:
    return CheckpointError(f"Cannot use '{path}' as a model: {' '.join(fault.split())[:300]}.")


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
