"""The fixed enlargement equals torch's own, in any layout and under autocast."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from geosegsr.models.segsr.enlarge import bicubic


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(1, 3, 9, 7), (2, 1, 5, 6), (1, 4, 1, 8)])
@pytest.mark.parametrize("autocast", [False, True])
def test_bicubic_is_torchs(shape: tuple[int, ...], layout: torch.memory_format, autocast: bool) -> None:
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=layout)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        ours = bicubic(image, 3)
    expected = F.interpolate(image, scale_factor=3, mode="bicubic", align_corners=False)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_keys_kernel_leaves_parabolas_as_they_are_and_torchs_does_not(scale: int) -> None:
    centres = torch.arange(12) + 0.5
    fine = (torch.arange(12 * scale) + 0.5) / scale
    image, truth = ((x[:, None] ** 2 + x[:, None] * x)[None, None] / 100 for x in (centres, fine))
    inner = (..., slice(3 * scale, -3 * scale), slice(3 * scale, -3 * scale))
    torch.testing.assert_close(bicubic(image, scale, -0.5)[inner], truth[inner], atol=1e-5, rtol=0)
    assert (bicubic(image, scale)[inner] - truth[inner]).abs().max() > 1e-3
