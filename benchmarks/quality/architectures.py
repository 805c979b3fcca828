"""Train small trunks for the same processor time and compare them: the experiments of docs/model-zoo.md.

    python benchmarks/quality/architectures.py IMAGERY/train/naip IMAGERY/val/naip --trunk chain --optimiser muon --rate 5e-3

One thread; the clock is the processor time of the process, so other work on the machine does not count. Prints one row.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import rasterio
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file
from torch import Tensor, nn

from geosegsr.evaluation.metrics import LUMA
from geosegsr.models.card import ModelCard
from geosegsr.models.checkpoint import load_checkpoint, save_checkpoint
from geosegsr.models.segsr.enlarge import bicubic, shuffled
from geosegsr.models.segsr.network import SeGSR, preset
from geosegsr.sensor.degradation import imresize_down
from geosegsr.training.config import EQUIVARIANCES, OptimiserConfig
from geosegsr.training.equivariance import Equivariance
from geosegsr.training.losses import TERMS
from geosegsr.training.optimisers import build_optimiser, set_rate

MEAN = 0.43  # of the images, about
SHARPNESS = -0.75  # of the bicubic enlargement under every network here
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {name: TERMS[name] for name in ("l1", "mse", "psnr")}


def conv(channels: int, out: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(channels, out, kernel, padding=kernel // 2)


class Chain(nn.Module):
    """Convolutions one after the other, and the input added."""

    def __init__(self, width: int, depth: int, act: Callable[[], nn.Module]) -> None:
        super().__init__()
        layers = [layer for _ in range(depth) for layer in (conv(width, width), act())]
        self.body = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Added(nn.Module):
    """What a module makes of its input, added to it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class ChannelGate(nn.Module):
    """Squeeze-and-excitation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(width, 12), nn.ReLU(), nn.Linear(12, width), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x.mean((2, 3)))[:, :, None, None] * 2


class Gated(nn.Module):
    """Three convolutions whose result gates itself (SPAN, arXiv 2311.12770)."""

    def __init__(self, width: int, act: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(width, width), act(), conv(width, width), act(), conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return (x + y) * (torch.sigmoid(y) - 0.5)


class SpatialGate(nn.Module):
    """A gate for every pixel and channel that sees far: computed at a sixth of the resolution (RLFN, arXiv 2205.07514)."""

    def __init__(self, width: int, inner: int = 16) -> None:
        super().__init__()
        self.narrow, self.beside = conv(width, inner, 1), conv(inner, inner, 1)
        self.down = nn.Conv2d(inner, inner, 3, 2)
        self.inside, self.wide = conv(inner, inner), conv(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        narrow = self.narrow(x)
        far = self.inside(F.max_pool2d(self.down(narrow), 7, 3))
        far = F.interpolate(far, x.shape[-2:], mode="bilinear")
        return x * torch.sigmoid(self.wide(far + self.beside(narrow)))


class LocalFeatures(nn.Module):
    """Three convolutions, their input, a mixture of channels, and the gate (RLFN)."""

    def __init__(self, width: int, act: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.body = nn.Sequential(*(layer for _ in range(3) for layer in (conv(width, width), act())))
        self.mix, self.gate = conv(width, width, 1), SpatialGate(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(self.mix(x + self.body(x)))


class HalfResolution(nn.Module):
    """Residual blocks, most of them on features of half the resolution."""

    def __init__(self, width: int, depth: int, act: Callable[[], nn.Module]) -> None:
        super().__init__()
        inner = 64
        self.before = nn.Sequential(*(Chain(width, 2, act) for _ in range(depth)))
        self.down = nn.Conv2d(width, inner, 2, 2)
        self.inside = nn.Sequential(*(Chain(inner, 2, act) for _ in range(depth + 1)))
        self.up = nn.Conv2d(inner, 4 * width, 1)
        self.after = nn.Sequential(*(Chain(width, 2, act) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        return self.after(x + F.pixel_shuffle(self.up(self.inside(self.down(x))), 2))


TRUNKS: dict[str, Callable[[int, int, Callable[[], nn.Module]], nn.Module]] = {
    "chain": lambda w, d, act: nn.Sequential(Chain(w, d, act), Chain(w, d, act)),
    "residual": lambda w, d, act: nn.Sequential(*(Chain(w, 2, act) for _ in range(d))),
    "residual, channel gates": lambda w, d, act: nn.Sequential(
        *(nn.Sequential(Chain(w, 2, act), ChannelGate(w)) for _ in range(d))
    ),
    "gated": lambda w, d, act: nn.Sequential(*(Gated(w, act) for _ in range(d))),
    "spatial gates": lambda w, d, act: nn.Sequential(*(LocalFeatures(w, act) for _ in range(d))),
    "spatial gates, residual": lambda w, d, act: nn.Sequential(
        *(Added(LocalFeatures(w, act)) for _ in range(d))
    ),
    "half resolution": HalfResolution,
}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "leaky": lambda: nn.LeakyReLU(0.1, inplace=True),
    "gelu": lambda: nn.GELU(approximate="tanh"),
}


class Trunk(nn.Module):
    """A trunk without guidance around which everything is as in the compact preset."""

    def __init__(self, body: nn.Module, width: int, scale: int) -> None:
        super().__init__()
        self.conv_first, self.body = conv(3, width), body
        self.after, self.head = conv(width, width), conv(width, 3 * scale**2)
        self.scale = scale
        nn.init.zeros_(self.head.weight)

    def forward(self, lr: Tensor) -> Tensor:
        first = self.conv_first((lr - MEAN).contiguous(memory_format=torch.channels_last))
        detail = shuffled(self.head(self.after(self.body(first)) + first), self.scale)
        return bicubic(lr, self.scale, SHARPNESS) + detail


def main() -> None:
    args = arguments()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    network, equivariance = build(args)
    network = network.to(memory_format=torch.channels_last)
    steps = learn(network, equivariance, truths(args.train, args.scale), args)
    if args.save:
        save_checkpoint(args.save, network, ModelCard.of(network.config, args.save.stem))  # type: ignore[arg-type]
    score = validate(network, images(args.val, args.scale), args.scale)
    size = sum(p.numel() for p in network.parameters())
    print(
        f"| {args.trunk} | {args.width} | {args.depth} | {args.act} | {args.optimiser} {args.rate:g} | {args.seed} "
        f"| {size / 1e3:.0f} k | {speed(network):.2f} | {steps} | {args.seconds / 60:.1f} | {score:.2f} |",
        flush=True,
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("train", type=Path)
    parser.add_argument("val", type=Path)
    parser.add_argument("--trunk", choices=[*TRUNKS, "guided", "unguided"], default="chain")
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--act", choices=ACTIVATIONS, default="leaky")
    parser.add_argument("--optimiser", choices=["adamw", "muon"], default="adamw")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=150, help="of processor time")
    parser.add_argument("--steps", type=int, default=0, help="instead of --seconds")
    parser.add_argument("--tower", type=Path, help="tensors of a compact tower, which stays as it is")
    parser.add_argument("--tower-share", type=float, default=OptimiserConfig.tower_share)
    parser.add_argument("--save", type=Path, help="keep the guided network as a checkpoint, for guidance.py")
    parser.add_argument("--loss", choices=LOSSES, default="l1")
    parser.add_argument(
        "--anywhere", action="store_true", help="begin patches at any pixel, not at every scale-th"
    )
    parser.add_argument(
        "--equivariance", choices=EQUIVARIANCES, default="none", help="of the guided and the unguided trunk"
    )
    parser.add_argument("--start", help="a checkpoint of the guided network to go on from")
    return parser.parse_args()


def build(args: argparse.Namespace) -> tuple[nn.Module, Equivariance | None]:
    if args.trunk not in ("guided", "unguided") and not args.start:
        body = TRUNKS[args.trunk](args.width, args.depth, ACTIVATIONS[args.act])
        return Trunk(body, args.width, args.scale), None
    if args.start:
        network = load_checkpoint(args.start)[0].requires_grad_(True)
    else:
        shape = {"width": args.width, "depths": (args.depth, args.depth)}
        network = SeGSR(preset("compact", scale=args.scale, base_sharpness=SHARPNESS, **shape))
    if args.tower:
        network.features.tower.vit.load_state_dict(load_file(args.tower))
        network.features.requires_grad_(False)
    equivariance = Equivariance(network, args.equivariance) if args.equivariance != "none" else None
    if equivariance is not None:
        equivariance.start(trained=bool(args.start))
    return Unguided(network) if args.trunk == "unguided" else network, equivariance


class Unguided(nn.Module):
    """The network itself without tower, prompts and modulation."""

    def __init__(self, network: SeGSR) -> None:
        super().__init__()
        self.conv_first, self.units = network.conv_first, network.units
        self.conv_after, self.head, self.config = network.conv_after, network.head, network.config

    def forward(self, lr: Tensor) -> Tensor:
        first = self.conv_first((lr - MEAN).contiguous(memory_format=torch.channels_last))
        x = first
        for unit in self.units:
            x = x + unit(x)
        base = bicubic(lr, self.config.scale, self.config.base_sharpness)
        return base + self.head(self.conv_after(x) + first)


def learn(network: nn.Module, equivariance: Equivariance | None, hr: Tensor, args: argparse.Namespace) -> int:
    """Steps along one cosine over the processor time, or over as many steps as asked for."""
    config = OptimiserConfig(name=args.optimiser, learning_rate=args.rate, tower_share=args.tower_share)
    optimiser = build_optimiser(network, config)
    patches = batches(hr, args.scale, args.seed, 1 if args.anywhere else args.scale)
    began, steps = time.process_time(), 0
    while (share := steps / args.steps if args.steps else (time.process_time() - began) / args.seconds) < 1:
        set_rate(optimiser, args.rate * min(1, share / 0.05) * (0.5 + 0.5 * math.cos(math.pi * share)))
        lr, truth = next(patches)
        with torch.autocast("cpu", torch.bfloat16):
            sr = network(lr)
        LOSSES[args.loss](sr.float(), truth).backward()
        if equivariance is not None:
            equivariance.project_gradients()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        steps += 1
    return steps


def truths(folder: Path, scale: int) -> Tensor:
    """All images of a folder, uint8, their sides a multiple of the scale."""
    found = []
    for path in sorted(folder.glob("*.tif")):
        with rasterio.open(path) as scene:
            image = scene.read([1, 2, 3])
        side = 256 // scale * scale
        image = image[:, :side, :side]
        if image.shape[1:] == (side, side):
            found.append(image)
    return torch.from_numpy(np.stack(found))


def images(folder: Path, scale: int) -> tuple[Tensor, Tensor]:
    """All images of a folder at both resolutions, uint8."""
    hr = truths(folder, scale)
    lr = [np.rint(imresize_down(image.numpy().astype(np.float32), scale)) for image in hr]
    return torch.from_numpy(np.clip(np.stack(lr), 0, 255).astype(np.uint8)), hr


def batches(
    hr: Tensor, scale: int, seed: int, step: int, size: int = 8, side: int = 48
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs in 0 to 1; the lr side is made of a patch with a margin, which is then cut off."""
    rng = np.random.default_rng(seed)
    margin = 2
    grown = (side + 2 * margin) * scale
    while True:
        patches = []
        for image in rng.integers(0, len(hr), size):
            row, col = rng.integers(0, (hr.shape[-1] - grown) // step + 1, 2) * step
            turn, flip = int(rng.integers(4)), bool(rng.integers(2))
            patch = hr[image, :, row : row + grown, col : col + grown].rot90(turn, (1, 2))
            patches.append(patch.flip(2) if flip else patch)
        fine = torch.stack(patches).float() / 255
        coarse = F.interpolate(fine, scale_factor=1 / scale, mode="bicubic", antialias=True)
        coarse = coarse.clamp(0, 1).mul(255).round() / 255
        inner = slice(margin * scale, -margin * scale)
        yield coarse[..., margin:-margin, margin:-margin], fine[..., inner, inner]


def validate(network: nn.Module, data: tuple[Tensor, Tensor], scale: int) -> float:
    """Mean PSNR of brightness, in dB, of 8-bit results cropped by the scale."""
    weights = torch.tensor(LUMA, dtype=torch.float32)[:, None, None]
    found = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for lr, hr in zip(*data, strict=True):
            sr = network.eval()(lr[None].float() / 255)[0].float().clamp(0, 1).mul(255).round()
            error = ((sr - hr.float()) / 255 * weights).sum(0)[scale:-scale, scale:-scale]
            found.append(20 * math.log10(255) - 10 * math.log10(float((error**2).mean())))
    return float(np.mean(found))


def speed(network: nn.Module) -> float:
    """Megapixels of input in a second of one core."""
    tile = torch.rand(1, 3, 256, 256)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        network.eval()(tile)
        began = time.process_time()
        for _ in range(4):
            network(tile)
    return 4 * tile[0, 0].numel() / (time.process_time() - began) / 1e6


if __name__ == "__main__":
    main()
