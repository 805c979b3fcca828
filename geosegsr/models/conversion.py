"""Conversion of the published weights into checkpoints."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from geosegsr.errors import CheckpointError, ConfigError, MissingPackageError
from geosegsr.models.card import ModelCard
from geosegsr.models.checkpoint import check_new_file, save_checkpoint
from geosegsr.models.segsr.blank import without_weights
from geosegsr.models.segsr.network import SeGSR
from geosegsr.models.segsr.published import convert, infer_config, is_published, unwrapped
from geosegsr.models.torchscript import is_torchscript, read_torchscript
from geosegsr.notices import warn

_PROMPT = re.compile(r"^text_locals\.(\d+)$")


def convert_published(
    source: str | Path,
    target: str | Path,
    *,
    prompts: str | Path | None = None,
    prompt_seed: int | None = None,
    name: str | None = None,
    licence: str = "",
    trained_on: str = "",
    overwrite: bool = False,
) -> ModelCard:
    """Turn a published state dict into a checkpoint that computes the same values, in float32.

    The units' prompts are not in such a file: the authors' program draws them anew each time it starts.

    Args:
        source: A .pth or .safetensors file; tensors under params_ema, under params, or bare.
        target: The .safetensors checkpoint to write.
        prompts: A file with tensors text_locals.0, text_locals.1, .. of shape (D, 1).
        prompt_seed: Draw them at random from this seed instead; the result is then one of many networks.
        name: Of the model; default: the source's file name.
        licence: Of the weights, as their authors say.
        trained_on: Data of the training.
        overwrite: Whether an existing target may be replaced.

    Returns:
        The card of the checkpoint.

    Raises:
        CheckpointError: A file is damaged, foreign, or would run code.
        ConfigError: Neither or both of prompts and prompt_seed are given.
        JobError: The target exists.
    """
    source, target = Path(source), Path(target)
    if (prompts is None) == (prompt_seed is None):
        fault = "and both were given" if prompts is not None else "which it does not hold"
        raise ConfigError(
            f"Cannot convert '{source}': the network needs the prompts it was trained with, {fault}. "
            "Pass --prompts FILE (tensors text_locals.0, text_locals.1, ..) if you have them, or "
            "--prompt-seed N to draw them at random, which changes what the network computes."
        )
    check_new_file(target, ".safetensors", "a checkpoint's name", overwrite=overwrite)
    state = read_tensors(source)
    try:
        model = _network(state, prompts, prompt_seed)
    except CheckpointError as error:
        raise CheckpointError(f"Cannot convert '{source}': {error}") from error
    if prompt_seed is None:
        notes = f"Converted from {source.name}, prompts from {Path(str(prompts)).name}."
    else:
        notes = f"Converted from {source.name}; its prompts were drawn at random from seed {prompt_seed}."
        warn(
            f"the prompts of '{target}' are drawn at random from seed {prompt_seed}, so that its results differ from its "
            "authors'. Pass --prompts FILE if you have the originals"
        )
    card = ModelCard.of(
        model.config, name or source.stem, notes=notes, licence=licence,
        trained_on=trained_on or "see the authors of the weights",
    )  # fmt: skip
    return save_checkpoint(target, model, card, replace_existing=overwrite)


def holds_published(source: str | Path) -> bool:
    """Whether a file holds what the authors' program saves.

    Raises:
        CheckpointError: It cannot be read, or would run code.
    """
    return is_published(read_saved(Path(source), _table))


def _table(contents: Any) -> dict[str, Tensor]:
    try:
        return unwrapped(contents)
    except CheckpointError:
        return {}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .pth or .safetensors file, or of a TorchScript archive; no code in it is executed.

    Raises:
        CheckpointError: It cannot be read, or holds anything but tensors.
    """
    return read_saved(path, unwrapped)


def read_saved(path: Path, pick: Callable[[Any], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Tensors of a file such as `read_tensors` takes.

    Args:
        path: The file.
        pick: Finds the tensors among what a training program saved; raises CheckpointError where there are none.

    Raises:
        CheckpointError: It cannot be read, or would run code.
        MissingPackageError: `pick` needs one.
    """
    try:
        return pick(_contents(path))
    except OSError as error:
        raise CheckpointError(f"Cannot read '{path}': {error.strerror or error}.") from error
    except UnpicklingError as error:
        raise CheckpointError(
            f"Cannot read '{path}': it is damaged, or holds more than tensors and would run code when "
            "it is read; that is refused. Save its state dict alone: torch.save(model.state_dict(), FILE)."
        ) from error
    except CheckpointError as error:
        raise CheckpointError(f"Cannot read '{path}': {error}") from error
    except MissingPackageError:  # a ValueError, too
        raise
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"Cannot read '{path}': it is damaged, or not a file of tensors.") from error


def _contents(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise CheckpointError("it is damaged, or not a safetensors file.") from error
    if is_torchscript(path):
        return read_torchscript(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _network(state: dict[str, Tensor], prompts: str | Path | None, seed: int | None) -> SeGSR:
    if prompts is not None:
        found = _prompts_of(Path(prompts))
    else:
        config = infer_config(state)
        found = drawn_prompts(len(config.depths), config.tower_output, seed or 0)
    config, tensors = convert(state, found)
    with without_weights():
        model = SeGSR(config)
    needed = model.state_dict()
    missing = sorted(needed.keys() - tensors.keys())
    wrong = sorted(k for k in tensors if k not in needed or tensors[k].shape != needed[k].shape)
    if missing or wrong:
        fault = (
            f"lacks what becomes '{missing[0]}'"
            if missing
            else f"has another shape for what becomes '{wrong[0]}'"
        )
        raise CheckpointError(f"it is not a complete SeG-SR network: it {fault}.")
    model.load_state_dict(tensors, assign=True)
    return model.eval()


def drawn_prompts(units: int, length: int, seed: int) -> Tensor:
    """Random prompts, as the authors' program draws them: float32, shape (units, length)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randn(length, generator=generator) * length**-0.5 for _ in range(units)])


def _prompts_of(path: Path) -> Tensor:
    tensors = {int(m[1]): t for name, t in read_tensors(path).items() if (m := _PROMPT.match(name))}
    if (
        not tensors
        or sorted(tensors) != list(range(len(tensors)))
        or len({t.numel() for t in tensors.values()}) > 1
    ):
        raise CheckpointError(
            f"the prompts file '{path}' must hold text_locals.0, text_locals.1, .. "
            "without a gap, all of one length."
        )
    return torch.stack([tensors[i].flatten().float() for i in range(len(tensors))])
