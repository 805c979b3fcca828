"""Checkpoints: one safetensors file with the tensors of a model and its card.

The card is JSON in the metadata of the header. Reading checks the sizes first, then the card, then the shapes that a
network of this configuration has, and last the tensors.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import replace
from os.path import lexists
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geosegsr.errors import CheckpointError, ConfigError, JobError
from geosegsr.files import whole_file
from geosegsr.models.card import SEGSR, STORAGE, ModelCard
from geosegsr.models.segsr.config import SeGSRConfig

if TYPE_CHECKING:
    from torch import Tensor

    from geosegsr.models.segsr.network import SeGSR

FORMAT = 1
METADATA_KEY = "geosegsr"
MOST_HEADER_BYTES = 16 * 2**20
_BYTES = {"F32": 4, "BF16": 2, "F16": 2}
_INDICES = {"I64": 8, "I32": 4, "U8": 1, "BOOL": 1}  # of windows, in networks of other architectures


def save_checkpoint(
    path: str | Path, model: SeGSR, card: ModelCard, *, replace_existing: bool = True
) -> ModelCard:
    """Write a model to a file; the same model and card give the same bytes.

    The file is written complete or not at all.

    Args:
        path: Ends in .safetensors.
        model: Its own configuration goes into the card.
        card: Its description; sha256 is set here.
        replace_existing: Whether to replace an existing file.

    Returns:
        The card as written.

    Raises:
        CheckpointError: The file cannot be written.
        ConfigError: The card does not fit the model.
    """
    import torch

    dtype = getattr(torch, card.storage)
    tensors = {k: v.to(dtype) for k, v in model.state_dict().items()}
    return save_tensors(
        path, tensors, replace(card, config=model.config.to_dict()), replace_existing=replace_existing
    )


def save_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], card: ModelCard, *, replace_existing: bool = True
) -> ModelCard:
    """Write a network's tensors to a file; arguments, result and errors as of `save_checkpoint`."""
    from safetensors.torch import save

    path = Path(path)
    tensors = {k: v.detach().to("cpu").contiguous() for k, v in sorted(tensors.items())}
    card = replace(card, sha256=_sha256(tensors))
    entry = {"format": FORMAT, "card": card.to_dict()}
    data = save(tensors, {METADATA_KEY: json.dumps(entry, sort_keys=True, allow_nan=False)})
    try:
        with whole_file(path, sync=True, replace=replace_existing) as file:
            file.write(data)
    except OSError as error:
        raise CheckpointError(f"Cannot write checkpoint '{path}': {error.strerror or error}.") from error
    return card


def read_card(path: str | Path) -> ModelCard:
    """The card of a checkpoint; reads the header only.

    Raises:
        CheckpointError: The file cannot be read, or is not a checkpoint of this package.
    """
    return _read_header(Path(path))[0]


def count_parameters(path: str | Path) -> int:
    """Numbers in the tensors of a checkpoint; reads the header only.

    Raises:
        CheckpointError: As `read_card`.
    """
    return sum(math.prod(shape) for shape in _read_header(Path(path))[1].values())


def load_checkpoint(path: str | Path) -> tuple[SeGSR, ModelCard]:
    """The model and the card of a checkpoint.

    Returns:
        The network in eval mode, in float32 on the CPU; and the card.

    Raises:
        CheckpointError: The file is damaged, cut short, foreign, or its tensors are not those of its card.
    """
    import torch

    path = Path(path)
    card, shapes = _read_header(path)
    if card.architecture != SEGSR:
        raise _refused(path, f"it holds a network of architecture {card.architecture}, and SeG-SR is needed")
    model = _empty_network(path, card, shapes)
    tensors = _tensors(path, card)
    trained = {name: p.requires_grad for name, p in model.named_parameters()}
    model.load_state_dict({k: v.to(torch.float32, copy=True) for k, v in tensors.items()}, assign=True)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trained[name])
    return model.eval(), card


def check_new_file(target: Path, suffix: str, name: str, *, overwrite: bool) -> None:
    """Refuse a file of a model that has another suffix than it must, or that is there already.

    Args:
        target: The file to write.
        suffix: What it must end in.
        name: What such a name is called, for the message: "a checkpoint's name".
        overwrite: Whether an existing file may be replaced.

    Raises:
        ConfigError: The suffix is another one.
        JobError: The file exists.
    """
    if target.suffix != suffix:
        raise ConfigError(f"Cannot write '{target}': {name} ends in {suffix}.")
    if lexists(target) and not overwrite:
        raise JobError(f"Cannot write '{target}': it exists. Pass --overwrite to replace it.")


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], ModelCard]:
    """The tensors of a checkpoint, of whatever architecture, and its card.

    Raises:
        CheckpointError: The file is damaged, cut short or foreign.
    """
    path = Path(path)
    card, _ = _read_header(path)
    return _tensors(path, card), card


def has_card(path: str | Path) -> bool:
    """Whether a file is a checkpoint of this package; False too for one that cannot be read."""
    metadata = _metadata(path)
    return metadata is not None and METADATA_KEY in metadata


def holds_tensors(path: str | Path) -> bool:
    """Whether a file is a safetensors file of somebody else's."""
    metadata = _metadata(path)
    return metadata is not None and METADATA_KEY not in metadata


def _metadata(path: str | Path) -> Mapping[str, Any] | None:
    try:
        found = _header_json(Path(path))[0].get("__metadata__") or {}
    except CheckpointError:
        return None
    return found if isinstance(found, dict) else None


def clean_beside(path: Path) -> Path:
    """Where the network lies that was trained on sharp and clean images only, if a checkpoint has one."""
    return path.with_stem(f"{path.stem}-clean")


def _tensors(path: Path, card: ModelCard) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _refused(path, f"it is damaged ({error})") from error
    if _sha256(tensors) != card.sha256:
        raise _refused(path, "it is damaged: the checksum of its tensors is not the one in its card")
    return tensors


def _empty_network(path: Path, card: ModelCard, shapes: Mapping[str, tuple[int, ...]]) -> SeGSR:
    """A network without memory behind it, once the file is known to hold exactly its tensors."""
    from geosegsr.models.segsr.blank import without_weights
    from geosegsr.models.segsr.network import SeGSR

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
        raise _refused(path, f"its card is invalid ({error})") from error
    known = _BYTES | _INDICES if card.architecture != SEGSR else {STORAGE[card.storage]: 0}
    shapes = {name: _shape(path, name, entry, data_bytes, known) for name, entry in header.items()}
    widths = {name: (_BYTES | _INDICES)[entry["dtype"]] for name, entry in header.items()}
    if sum(math.prod(shape) * widths[name] for name, shape in shapes.items()) != data_bytes:
        raise _refused(path, "it is damaged or cut short: its size is not that of its tensors")
    return card, shapes


def _header_json(path: Path) -> tuple[dict[str, Any], int]:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))[0]
            if size < 8 or not 2 <= length <= min(size - 8, MOST_HEADER_BYTES):
                raise _refused(path, "it is not a safetensors file, or it is cut short")
            header = json.loads(file.read(length))
    except OSError as error:
        raise CheckpointError(f"Cannot read checkpoint '{path}': {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise _refused(path, "it is not a safetensors file: its header is not JSON") from error
    if not isinstance(header, dict):
        raise _refused(path, "it is not a safetensors file: its header is not a table")
    return header, size - 8 - length


def _shape(path: Path, name: str, entry: Any, data_bytes: int, known: Iterable[str]) -> tuple[int, ...]:
    shape = entry.get("shape") if isinstance(entry, dict) else None
    whole = isinstance(shape, list) and all(isinstance(n, int) and 0 <= n <= data_bytes for n in shape)
    if not whole or entry.get("dtype") not in known:
        raise _refused(
            path, f"tensor {name[:80]!r} is not described as {' or '.join(known)}, the type in its card"
        )
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
