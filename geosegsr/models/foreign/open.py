"""Opening a network of another project, of whatever kind its file is."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from geosegsr.errors import CheckpointError, ConfigError
from geosegsr.models.checkpoint import has_card, load_tensors
from geosegsr.models.conversion import read_saved
from geosegsr.models.foreign.known import known_program, picked
from geosegsr.models.foreign.onnx_file import onnx_program
from geosegsr.models.foreign.program import Program
from geosegsr.models.foreign.programs import torch_program
from geosegsr.models.torchscript import is_torchscript


def open_program(path: Path, device: torch.device, dtype: torch.dtype, *, trusted: bool = False) -> Program:
    """The network in a file.

    Tensors of an architecture that spandrel knows are preferred, since they hold no code; the tensors of a
    TorchScript archive too.

    Args:
        path: The file; its suffix tells ONNX and torch.export from the rest.
        device: What it computes on.
        dtype: What it computes in; ONNX computes in its own types.
        trusted: Whether a program in the file may run.

    Raises:
        CheckpointError: The file is damaged, foreign, or would run code.
        ConfigError: A package that it needs is not installed.
    """
    try:
        if path.suffix.lower() == ".onnx":
            return onnx_program(path, device)
        if path.suffix.lower() == ".pt2":
            return _program(path, device, dtype, trusted, "it is a torch.export program")
        try:
            return known_program(known_tensors(path), device, dtype)
        except CheckpointError as error:
            if not is_torchscript(path):
                raise
            return _program(path, device, dtype, trusted, str(error))
    except CheckpointError as error:
        raise refused(path, error) from error


def known_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a file that holds no more than them, by the names that spandrel knows.

    Raises:
        CheckpointError: The file is damaged, foreign, or would run code.
    """
    return load_tensors(path)[0] if has_card(path) else read_saved(path, picked)


def refused(path: Path, error: CheckpointError) -> CheckpointError:
    """The error of a file that is no model, in one line."""
    reason = str(error).removeprefix(f"Cannot read '{path}': ").rstrip(".")
    return CheckpointError(f"Cannot use '{path}' as a model: {' '.join(reason.split())[:400]}.")


def _program(path: Path, device: torch.device, dtype: torch.dtype, trusted: bool, why: str) -> Program:
    if not trusted:
        raise CheckpointError(
            f"{why}, and such a file holds code that can do anything you can. "
            "If you trust whoever made it, pass --trust-model"
        )
    return torch_program(path, device, dtype)


def check_span(span: tuple[float, float]) -> tuple[float, float]:
    """The range of a network's pixels, checked.

    Raises:
        ConfigError: Its ends are not two finite numbers, the smaller first.
    """
    lo, hi = (float(value) for value in span)
    if not -1e9 < lo < hi < 1e9:
        raise ConfigError(
            f"Cannot use a model range of {lo:g} to {hi:g}. Pass --model-range 0 1, or --model-range 0 255."
        )
    return lo, hi
