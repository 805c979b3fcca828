"""TorchScript and torch.export files. They hold a program, which can do anything that this process can."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from geosegsr.errors import CheckpointError
from geosegsr.models.foreign.program import Program

_BANDS: tuple[int, ...] = (3, 1, 4, 2, *range(5, 17))  # tried in this order: the file does not say
_SIDE = 64


def torch_program(path: Path, device: torch.device, dtype: torch.dtype = torch.float32) -> Program:
    """The program of a TorchScript (.pt, .ts) or torch.export (.pt2) file. Loading it may already run its code.

    Raises:
        CheckpointError: The file is damaged, or the program takes no (N, bands, h, w) tensor.
    """
    exported = path.suffix.lower() == ".pt2"
    try:
        with _without_traceback():
            network = (
                torch.export.load(path).module()
                if exported
                else torch.jit.load(path, map_location="cpu").eval()
            )
        network.to(device, dtype)
    except Exception as error:  # of any kind: it is the file's own code that runs
        raise CheckpointError(f"its program cannot be loaded ({error})") from error

    def call(lr: Tensor) -> Tensor:
        sr = network(lr)
        if not isinstance(sr, Tensor):
            raise CheckpointError(f"its program gives a {type(sr).__name__}, and a tensor is needed")
        return sr

    return Program("torch.export" if exported else "TorchScript", call, bands=_bands(call, device, dtype))


@contextmanager
def _without_traceback() -> Iterator[None]:
    """torch.export logs the traceback of a fault before it raises another."""
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _bands(call: Callable[[Tensor], Tensor], device: torch.device, dtype: torch.dtype) -> int:
    """How many bands a program takes: the first number that it accepts."""
    for bands in _BANDS:
        try:
            with torch.inference_mode():
                call(torch.full((1, bands, _SIDE, _SIDE), 0.5, device=device, dtype=dtype))
        except CheckpointError:
            raise
        except Exception as error:  # the program's own refusal of this number of bands
            fault = error
            continue
        return bands
    raise CheckpointError(f"its program takes no tensor (1, bands, {_SIDE}, {_SIDE}): {fault}")
