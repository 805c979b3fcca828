"""Attention inside square windows, as hat and swin use it.

A window near the scene's wrap (the tile is rolled by half a window) holds pixels that are not neighbours.
Which ones depends only on whether the window lies in the last row or column, so four masks serve every size:

    0 0 0 1      0 inside, 1 last column,
    0 0 0 1      2 last row, 3 both
    2 2 2 3
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

APART = -100.0  # added to the attention between pixels that only the roll made neighbours


class PositionBias(nn.Module):
    """A learned number for every head and relative position of a key to its query.

    Gathered into an attention mask once for each dtype and device, unless gradients are wanted.
    """

    def __init__(self, heads: int, query_side: int, key_side: int) -> None:
        super().__init__()
        self.query_side, self.key_side = query_side, key_side
        self.table = nn.Parameter(torch.zeros((query_side + key_side - 1) ** 2, heads))
        nn.init.trunc_normal_(self.table, std=0.02)
        self._cache: dict[tuple[object, ...], Tensor] = {}

    def forward(self, wrap: Tensor | None = None) -> Tensor:
        """The mask, shape (1, heads, queries, keys), or (kinds, heads, queries, keys) with `wrap` added."""
        places = relative_positions(self.query_side, self.key_side)
        index = torch.from_numpy(places).to(self.table.device)
        bias: Tensor = self.table[index].permute(2, 0, 1)[None]  # (1, heads, queries, keys)
        return bias if wrap is None else bias + wrap[:, None].to(bias)  # (kinds, heads, queries, keys)

    def mask(self, dtype: torch.dtype, wrap: int = 0) -> Tensor:
        """The bias plus the wrap masks of a shift by `wrap` pixels, ready for attention in `dtype`."""
        masks = torch.from_numpy(wrap_masks(self.query_side, wrap)) if wrap else None
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self.forward(masks).to(dtype).contiguous()
        version = 0 if self.table.is_inference() else self.table._version
        key = (dtype, self.table.device, self.table.data_ptr(), version, wrap)
        if key not in self._cache:
            with torch.inference_mode(False), torch.no_grad():
                self._cache = {key: self.forward(masks).to(dtype).contiguous()}
        return self._cache[key]


@lru_cache(maxsize=16)
def relative_positions(query_side: int, key_side: int) -> NDArray[np.int64]:
    """Row of the bias table for each query and key, shape (queries, keys).

    Key minus query along rows counts for query_side + key_side - 1 columns of the table; for windows of one
    size it is query minus key, as in the published tables.
    """
    queries, keys = _coordinates(query_side), _coordinates(key_side)
    offset = keys[None] - queries[:, None] + query_side - 1  # (queries, keys, 2), from 0
    if query_side == key_side:
        offset = 2 * (query_side - 1) - offset
    rows: NDArray[np.int64] = offset[..., 0] * (query_side + key_side - 1) + offset[..., 1]
    return rows


@lru_cache(maxsize=16)
def wrap_masks(side: int, shift: int) -> NDArray[np.float32]:
    """What to add to the attention in the four kinds of window, shape (4, side**2, side**2)."""
    beyond = np.arange(side) >= side - shift
    rows, cols = np.repeat(beyond, side), np.tile(beyond, side)
    apart_rows, apart_cols = rows[:, None] != rows[None], cols[:, None] != cols[None]
    kinds = np.stack([np.zeros_like(apart_rows), apart_cols, apart_rows, apart_rows | apart_cols])
    return kinds * np.float32(APART)


def _coordinates(side: int) -> NDArray[np.int64]:
    rows, cols = np.indices((side, side))
    return np.stack([rows.ravel(), cols.ravel()], -1)


def to_windows(x: Tensor, side: int) -> Tensor:
    """(N, h, w, C) to (N, h/side, w/side, side*side, C)."""
    n, height, width, channels = x.shape
    x = x.view(n, height // side, side, width // side, side, channels).transpose(2, 3)
    return x.reshape(n, height // side, width // side, side * side, channels)


def from_windows(x: Tensor, side: int) -> Tensor:
    """(N, rows, cols, side*side, C) to (N, rows*side, cols*side, C)."""
    n, rows, cols, _, channels = x.shape
    x = x.view(n, rows, cols, side, side, channels).transpose(2, 3)
    return x.reshape(n, rows * side, cols * side, channels)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attention of (B, L, heads, d) on (B, M, heads, d) with mask (1 or B, heads, L, M): (B, L, heads*d)."""
    width = q.shape[-1]
    # Kernels are fast only where heads are a multiple of 8 wide; zeros change neither products nor sums.
    q, k, v = (F.pad(t, (0, -width % 8)).transpose(1, 2) for t in (q, k, v))  # (B, heads, L or M, d)
    by_hand = q.device.type == "cpu" and q.dtype == torch.bfloat16 and not torch.is_grad_enabled()
    attention = _plain_attention if by_hand else F.scaled_dot_product_attention
    out = attention(q, k, v, attn_mask=mask, scale=width**-0.5)
    return out[..., :width].transpose(1, 2).flatten(2)


def _plain_attention(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor, scale: float) -> Tensor:
    """What scaled_dot_product_attention computes; for short bfloat16 windows on a CPU, half as long."""
    scores = (q * scale).contiguous() @ k.contiguous().transpose(-1, -2)  # (B, heads, L, M)
    return scores.add_(attn_mask).softmax(-1) @ v.contiguous()  # (B, heads, L, d)


class WindowAttention(nn.Module):
    """Self-attention inside windows, of a rolled image where `shift` is not 0."""

    def __init__(self, channels: int, heads: int, side: int, shift: int) -> None:
        super().__init__()
        self.heads, self.side, self.shift = heads, side, shift
        self.bias = PositionBias(heads, side, side)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, h, w, C) to the same shape."""
        shift = self.shift
        if shift:
            x = torch.roll(x, (-shift, -shift), (1, 2))
        windows = to_windows(x, self.side)  # (N, R, Q, L, C)
        mixed = self.proj(self._mix(windows))  # (N, R, Q, L, C)
        x = from_windows(mixed, self.side)  # (N, h, w, C)
        out: Tensor = torch.roll(x, (shift, shift), (1, 2)) if shift else x
        return out

    def _mix(self, windows: Tensor) -> Tensor:
        qkv: Tensor = self.qkv(windows)  # (N, R, Q, L, 3C)
        mask = self.bias.mask(qkv.dtype, self.shift)  # (1 or 4, heads, L, L)
        if not self.shift:
            return self._attend(qkv, mask)
        out = qkv.new_empty(windows.shape)
        for kind, rows, cols in (
            (0, slice(None, -1), slice(None, -1)),
            (1, slice(None, -1), slice(-1, None)),
            (2, slice(-1, None), slice(None, -1)),
            (3, slice(-1, None), slice(-1, None)),
        ):
            part = qkv[:, rows, cols]
            if part.numel():
                out[:, rows, cols] = self._attend(part, mask[kind : kind + 1])
        return out

    def _attend(self, qkv: Tensor, mask: Tensor) -> Tensor:
        n, rows, cols, length, _ = qkv.shape
        q, k, v = qkv.reshape(n * rows * cols, length, 3, self.heads, -1).unbind(2)  # (B, L, heads, d)
        return attend(q, k, v, mask).view(n, rows, cols, length, -1)


class MLP(nn.Sequential):
    """Two linear layers with GELU between."""

    def __init__(self, channels: int, ratio: float) -> None:
        hidden = round(channels * ratio)
        super().__init__(nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels))
