"""Convolutions fused with what follows them give what the steps one by one give, but for one rounding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from geosegsr.models.segsr import fused
from geosegsr.models.segsr.config import SeGSRConfig
from geosegsr.models.segsr.fused import conv_add, conv_leaky
from geosegsr.models.segsr.units.compact import CompactUnit

DTYPES = [torch.float32, torch.bfloat16]


@pytest.fixture
def parts() -> tuple[nn.Conv2d, Tensor, Tensor]:
    torch.manual_seed(0)
    layout = torch.channels_last
    x, other = (torch.randn(2, 16, 37, 50).to(memory_format=layout) for _ in range(2))
    return nn.Conv2d(16, 16, 3, padding=1).requires_grad_(False).to(memory_format=layout), x, other


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_fused_result_is_as_exact_as_16_bits_or_better(
    dtype: torch.dtype, parts: tuple[nn.Conv2d, Tensor, Tensor]
) -> None:
    conv, x, other = (part.to(dtype) for part in parts)
    exact = F.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding=1)
    with torch.inference_mode():
        leaky, summed = conv_leaky(conv, x, 0.1), conv_add(conv, x, other)
    assert leaky.dtype == summed.dtype == dtype
    step = torch.finfo(dtype).eps
    torch.testing.assert_close(
        leaky.double(),
        F.leaky_relu(exact, 0.1),
        rtol=step,
        atol=32 * step if dtype == torch.float32 else step,
    )
    torch.testing.assert_close(
        summed.double(), exact + other.double(), rtol=step, atol=32 * step if dtype == torch.float32 else step
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("skip_every", [0, 2])
def test_a_unit_computes_alike_with_and_without_fusion(
    skip_every: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    unit = CompactUnit(SeGSRConfig(scale=2, unit="compact", width=16, skip_every=skip_every), 5).to(dtype)
    x = torch.randn(3, 16, 24, 40).to(dtype)
    kept = x.clone()
    with torch.inference_mode():
        together = unit(x)
        monkeypatch.setattr(fused, "_has_fusion", lambda dtype: False)
        apart = unit(x)
    assert torch.equal(x, kept)
    torch.testing.assert_close(together, apart, rtol=0, atol=40 * torch.finfo(dtype).eps)
    learned = unit(x)
    assert learned.requires_grad and torch.equal(learned.detach(), apart)


def test_an_exported_unit_has_plain_operators() -> None:
    unit = CompactUnit(SeGSRConfig(scale=2, unit="compact", width=16, skip_every=2), 3)
    with torch.no_grad():
        program = torch.export.export(unit, (torch.randn(1, 16, 8, 8),), strict=False)
    assert "mkldnn" not in program.graph_module.code
