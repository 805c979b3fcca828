"""What the guidance of a model does: how its maps vary, what they go with, and what the result loses without them.

    python benchmarks/quality/guidance.py imagery/val/naip_rgbn                       # the bundled x4 model
    python benchmarks/quality/guidance.py imagery/val/naip_rgbn --model mine.safetensors --scale 4

Takes tiles of four bands (red, green, blue, near infrared) of 8 bits, reduced by antialiased bicubic. Correlations are over
all tokens of all tiles, with brightness, vegetation index and standard deviation of the input under the token.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from torch import Tensor

from geosegsr.evaluation.metrics import LUMA
from geosegsr.models.catalogue import resolve_upscaler
from geosegsr.models.checkpoint import load_checkpoint
from geosegsr.models.contract import BUNDLED
from geosegsr.models.segsr.network import SeGSR
from geosegsr.sensor.degradation import imresize_down

Maps = list[Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default=BUNDLED)
    parser.add_argument("--scale", type=int, default=4)
    args = parser.parse_args()
    path = args.model if args.model != BUNDLED else resolve_upscaler(BUNDLED, args.scale, device="cpu").path  # type: ignore[attr-defined]
    network, _ = load_checkpoint(path)
    network.requires_grad_(False).eval()
    tiles = [read(file, args.scale) for file in sorted(args.folder.glob("*.tif"))]
    lrs = [torch.from_numpy(lr[None, :3] / 255) for lr, _ in tiles]
    maps = [network.guidance(lr) for lr in lrs]
    describe(network, tiles, maps)
    ablate(network, tiles, lrs, maps)


def read(file: Path, scale: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A tile, shape (4, h, w), in DN rounded to whole ones; and its truth."""
    with rasterio.open(file) as scene:
        hr = scene.read()
    side = min(hr.shape[1:]) // scale * scale
    hr = hr[:, :side, :side]
    lr = np.clip(np.rint(imresize_down(hr.astype(np.float32), scale)), 0, 255)
    return lr.astype(np.float32), hr


def describe(
    network: SeGSR, tiles: list[tuple[NDArray[np.float32], NDArray[np.uint8]]], maps: list[Maps]
) -> None:
    patch = network.config.tower_patch
    ground = np.stack(
        [np.concatenate([kind(lr, patch).ravel() for lr, _ in tiles]) for kind in KINDS.values()]
    )
    print(
        "| unit | mean | deviation between tiles | within tiles | " + " | ".join(KINDS) + " | gain | offset |"
    )
    print("|---|---|---|---|" + "---|" * len(KINDS) + "---|---|")
    for unit, modulation in enumerate(network.modulations):
        own = torch.stack([m[unit][0, 0] for m in maps])  # (tiles, R, Q)
        with_ground = np.corrcoef(np.vstack([own.flatten().numpy(), ground]))[0, 1:]
        hidden = torch.relu(modulation.shared(own[:, None]))
        gain, offset = modulation.gain_offset(hidden).chunk(2, 1)  # (tiles, C, R, Q)
        print(
            f"| {unit + 1} | {own.mean():.2f} | {own.mean((1, 2)).std():.2f} | {own.std((1, 2)).mean():.2f} | "
            + " | ".join(f"{c:.2f}" for c in with_ground)
            + f" | {spread(gain):.3f} | {spread(offset):.3f} |"
        )


def spread(values: Tensor) -> float:
    """Standard deviation over places, mean over channels."""
    return float(values.transpose(0, 1).flatten(1).std(1).mean())


def brightness(lr: NDArray[np.float32], patch: int) -> NDArray[np.float32]:
    return tokens(lr[:3].mean(0), patch).mean((1, 3))


def vegetation(lr: NDArray[np.float32], patch: int) -> NDArray[np.float32]:
    """Normalised difference of near infrared and red."""
    return tokens((lr[3] - lr[0]) / np.maximum(lr[3] + lr[0], 1), patch).mean((1, 3))


def roughness(lr: NDArray[np.float32], patch: int) -> NDArray[np.float32]:
    return tokens(lr[:3].mean(0), patch).std((1, 3))


def tokens(plane: NDArray[np.float32], patch: int) -> NDArray[np.float32]:
    """(h, w) as (R, patch, Q, patch)."""
    rows, cols = plane.shape[0] // patch, plane.shape[1] // patch
    return plane[: rows * patch, : cols * patch].reshape(rows, patch, cols, patch)


KINDS: dict[str, Callable[[NDArray[np.float32], int], NDArray[np.float32]]] = {
    "brightness": brightness,
    "vegetation": vegetation,
    "roughness": roughness,
}


def ablate(
    network: SeGSR,
    tiles: list[tuple[NDArray[np.float32], NDArray[np.uint8]]],
    lrs: list[Tensor],
    maps: list[Maps],
) -> None:
    units = range(len(network.modulations))
    mean = [torch.stack([m[u] for m in maps]).mean() for u in units]

    def even(own: Maps, _: Maps) -> Maps:
        return [torch.full_like(m, float(mean[u])) for u, m in enumerate(own)]

    def level(own: Maps, _: Maps) -> Maps:
        return [torch.full_like(m, float(m.mean())) for m in own]

    def swapped(_: Maps, other: Maps) -> Maps:
        return other

    changes = {
        "as they are": lambda own, _: own,
        "each at its mean over the tile": level,
        "each at its mean over all tiles": even,
        "those of the next tile": swapped,
    }
    print("\n| maps | Y, dB |\n|---|---|")
    for name, change in changes.items():
        scores = []
        for n, ((_, hr), lr) in enumerate(zip(tiles, lrs, strict=True)):
            sr = network._enlarge(lr, change(maps[n], maps[(n + 1) % len(maps)]))[0]
            scores.append(psnr_y(sr, hr[:3], network.config.scale))
        print(f"| {name} | {np.mean(scores):.3f} |")


def psnr_y(sr: Tensor, hr: NDArray[np.uint8], border: int) -> float:
    """Of 8-bit results, the border left out."""
    error = (sr.clamp(0, 1).mul(255).round() - torch.from_numpy(hr).float()) / 255
    error = (error * torch.tensor(LUMA, dtype=torch.float32)[:, None, None]).sum(0)[
        border:-border, border:-border
    ]
    return 20 * math.log10(255) - 10 * math.log10(float(error.square().mean()))


if __name__ == "__main__":
    main()
