"""Small networks of other projects with random weights, saved as their projects save them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn


def _swinir(scale: int = 2) -> nn.Module:
    from spandrel.architectures.SwinIR import SwinIR

    return SwinIR(
        img_size=16, window_size=8, depths=[2], embed_dim=12, num_heads=[2], mlp_ratio=2,
        upscale=scale, upsampler="pixelshuffle", resi_connection="1conv",
    )  # fmt: skip


def _hat(scale: int = 2) -> nn.Module:
    from spandrel.architectures.HAT import HAT

    return HAT(
        img_size=64, window_size=16, depths=[2], embed_dim=12, num_heads=[2], mlp_ratio=2, upscale=scale,
        upsampler="pixelshuffle", overlap_ratio=0.5, compress_ratio=3, squeeze_factor=6, resi_connection="1conv",
    )  # fmt: skip


def _dat(scale: int = 2) -> nn.Module:
    from spandrel.architectures.DAT import DAT

    return DAT(
        img_size=16,
        depth=[2],
        embed_dim=32,
        num_heads=[2],
        split_size=[8, 8],
        upscale=scale,
        expansion_factor=2,
    )


def _swin2sr(scale: int = 2) -> nn.Module:
    from spandrel.architectures.Swin2SR import Swin2SR

    return Swin2SR(
        img_size=16, window_size=8, depths=[2], embed_dim=12, num_heads=[2], mlp_ratio=2,
        upscale=scale, upsampler="pixelshuffle", resi_connection="1conv",
    )  # fmt: skip


def _esrgan(scale: int = 4) -> nn.Module:
    from spandrel.architectures.ESRGAN import ESRGAN

    return ESRGAN(num_blocks=1, num_filters=8, scale=scale)


def _span(scale: int = 4) -> nn.Module:
    from spandrel.architectures.SPAN import SPAN

    return SPAN(num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=scale)


def _plksr(scale: int = 4) -> nn.Module:
    from spandrel.architectures.PLKSR import PLKSR

    return PLKSR(dim=8, n_blocks=2, upscaling_factor=scale)


def rcan_network(*, mean: bool = True) -> nn.Module:
    """RCAN, whose channel attention averages over all pixels of a tile.

    Args:
        mean: Whether it subtracts the mean of each band, and computes in 0 to 255.
    """
    from spandrel.architectures.RCAN import RCAN

    torch.manual_seed(0)
    return RCAN(scale=2, n_resgroups=2, n_resblocks=2, n_feats=16, reduction=4, norm=mean).eval()


def _safmn(scale: int = 4) -> nn.Module:
    from spandrel.architectures.SAFMN import SAFMN

    return SAFMN(dim=8, n_blocks=1, upscaling_factor=scale)


def _compact(scale: int = 4, bands: int = 3) -> nn.Module:
    from spandrel.architectures.Compact import Compact

    return Compact(num_in_ch=bands, num_out_ch=bands, num_feat=8, num_conv=2, upscale=scale)


NETWORKS: dict[str, tuple[str, Callable[..., nn.Module]]] = {
    "SwinIR": ("params", _swinir),
    "Swin2SR": ("params", _swin2sr),
    "HAT": ("params_ema", _hat),
    "DAT": ("params", _dat),
    "ESRGAN": ("", _esrgan),
    "SPAN": ("params_ema", _span),
    "PLKSR": ("params_ema", _plksr),
    "SAFMN": ("params", _safmn),
    "RealESRGAN Compact": ("params_ema", _compact),
}
"""By spandrel's name: the key under which the project saves its tensors, and a small network of a scale."""
SEES_ALL = "DAT"
"""The one of them whose attention over channels averages over all pixels of a tile."""


def foreign_network(architecture: str, scale: int | None = None) -> nn.Module:
    """A network with the same random weights each time, of the scale that is usual for it or another."""
    torch.manual_seed(0)
    build = NETWORKS[architecture][1]
    return (build(scale) if scale else build()).eval()


def saved(network: nn.Module, path: Path, key: str = "params_ema") -> Path:
    """Write a state dict as training programs do."""
    state: dict[str, Any] = network.state_dict()
    torch.save({key: state} if key else state, path)
    return path


def saved_foreign(architecture: str, folder: Path, scale: int | None = None) -> Path:
    """The file of one of `NETWORKS`."""
    key = NETWORKS[architecture][0]
    return saved(foreign_network(architecture, scale), folder / f"{architecture.replace(' ', '_')}.pth", key)


def grey_network() -> nn.Module:
    """A network of one band."""
    torch.manual_seed(0)
    return _compact(bands=1).eval()
