"""What stays in float32: the parts of a network that compute in it on any device, whatever the rest does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

_cudnn: Any = torch.backends.cudnn  # mypy does not see all attributes of this module
_lock = threading.Lock()
_users = 0
_before = ("", "", "")


@contextmanager
def without_tf32() -> Iterator[None]:
    """Hold a GPU's float32 products and convolutions at float32 while anyone is inside.

    By default torch lets convolutions round their float32 inputs to TF32, with 11 significant bits instead of 24. The
    settings are those of the whole process; the last one to leave restores them.
    """
    global _users
    with _lock:
        if _users == 0:
            _turn_tf32_off()
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _restore_tf32()


def _turn_tf32_off() -> None:
    global _before
    matmul = torch.backends.cuda.matmul
    # Torch 2.9 warns whoever reads the older setting, and raises an error where it contradicts the newer one.
    older = torch.get_float32_matmul_precision() if matmul.fp32_precision == "tf32" else "highest"
    _before = (_cudnn.conv.fp32_precision, matmul.fp32_precision, older)
    _cudnn.conv.fp32_precision = "ieee"
    if older != "highest":
        torch.set_float32_matmul_precision("highest")
    matmul.fp32_precision = "ieee"


def _restore_tf32() -> None:
    if _before[2] != "highest":
        torch.set_float32_matmul_precision(_before[2])
    torch.backends.cuda.matmul.fp32_precision = _before[1]
    _cudnn.conv.fp32_precision = _before[0]


def conv_in_float32(image: Tensor, weight: Tensor, bias: Tensor | None = None, padding: int = 0) -> Tensor:
    """A convolution of an image whose own steps are finer than 16 bits can tell, under autocast too.

    Args:
        image: Shape (N, C, h, w).
        weight: As F.conv2d takes it, of any float dtype.
        bias: Likewise.
        padding: Pixels, likewise.

    Returns:
        float32, channels-last.
    """
    image = image.float().contiguous(memory_format=torch.channels_last)
    with without_autocast(image):
        return F.conv2d(image, weight.float(), None if bias is None else bias.float(), padding=padding)


def without_autocast(tensor: Tensor) -> torch.autocast:
    """Where a tensor lies, compute in the dtype of what is computed with."""
    device = "cpu" if tensor.is_meta else tensor.device.type  # tensors without memory know no autocast
    return torch.autocast(device, enabled=False)


class InFloat32(nn.Module):
    """A module whose weights stay in float32 when the network around it is cast to 16 bits."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def moved(tensor: Tensor) -> Tensor:
            changed = fn(tensor)
            cut = changed.dtype in (torch.float16, torch.bfloat16) and changed.dtype != tensor.dtype
            return tensor.to(changed.device) if cut else changed

        applied: Self = super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        return applied
