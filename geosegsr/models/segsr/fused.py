"""Convolutions with what follows them, in one pass over memory where oneDNN computes: at inference on a CPU.

The sum or activation is taken of the convolution's float32 sums, so in 16 bits it is rounded once instead of twice.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


def conv_leaky(conv: nn.Conv2d, x: Tensor, slope: float) -> Tensor:
    """A leaky ReLU of a convolution: (N, C, h, w) to (N, W, h, w)."""
    if not _fuses(conv, x):
        return F.leaky_relu_(conv(x), slope)
    fused: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x,
        conv.weight,
        conv.bias,
        conv.padding,
        conv.stride,
        conv.dilation,
        conv.groups,
        "leaky_relu",
        [slope],
        "",
    )
    return fused


def conv_add(conv: nn.Conv2d, x: Tensor, other: Tensor) -> Tensor:
    """A convolution of x, plus other: (N, C, h, w) and (N, W, h, w) to (N, W, h, w)."""
    if not _fuses(conv, x):
        summed: Tensor = conv(x) + other
        return summed
    fused: Tensor = torch.ops.mkldnn._convolution_pointwise.binary(
        x,
        other,
        conv.weight,
        conv.bias,
        conv.padding,
        conv.stride,
        conv.dilation,
        conv.groups,
        "add",
        1.0,
        None,
        [],
        None,
    )
    return fused


def _fuses(conv: nn.Conv2d, x: Tensor) -> bool:
    if torch.compiler.is_compiling():  # or exporting: other programs do not know these operators
        return False
    wanted = x.device.type == "cpu" and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
    return wanted and x.dtype == conv.weight.dtype and _has_fusion(x.dtype)


@lru_cache(maxsize=8)
def _has_fusion(dtype: torch.dtype) -> bool:
    """Whether this build of torch, which keeps these operators for its compiler, has them for this CPU."""
    operators = torch.ops.mkldnn
    if not (torch.backends.mkldnn.is_available() and hasattr(operators, "_convolution_pointwise")):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and operators._is_mkldnn_bf16_supported())
