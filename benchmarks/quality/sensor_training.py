"""Train the regressor that reads blur and noise off a scene: geosegsr/weights/sensor.safetensors.

    python -m benchmarks.quality.sensor_training imagery/train runs/sensor --out geosegsr/weights/sensor.safetensors

Images are the ground; degradations are made of them in torch, with the meaning that networks were taught: see `degraded`.
Runs on any device. The same command resumes a run that was interrupted.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.gpu.degradations import REACH, Mix, blurred, chance, recorded, wide
from geosegsr.sensor.regressor import Regressor, noise_to_score, planes_of

# Scale, lr pixels along a side, share. Patches begin where JPEG's blocks do.
SIZES = ((4, 64, 0.47), (4, 48, 0.14), (2, 64, 0.22), (2, 104, 0.03), (3, 64, 0.1), (8, 48, 0.04))
ZOOM = 1.34  # images are reduced by up to this first: there are few
SHARES = {
    "naip": 0.3,
    "naip_rgbn": 0.15,
    "oam": 0.06,
    "neon": 0.07,
}  # of sources with many images; others alike
GREY = 0.2  # of the images
MIX = Mix(
    clean=0.15, blurred=0.9, gaussian=0.32, box=0.08, sigma=1.35, sigma_alone=(0.05, 0.78), noisy=0.45, packed=0.4,
    quality=(36, 98.5),
)  # fmt: skip


@dataclass
class Image:
    """A picture to cut from."""

    pixels: np.ndarray  # (3, H, W), uint8 or, where deep, uint16; their largest number is 1
    deep: bool  # more than 8 bits
    weight: float


def read_images(folder: Path) -> list[Image]:
    found: dict[str, list[tuple[np.ndarray, bool]]] = {}
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    for file in sorted(path for path in folder.glob("*/*") if path.suffix in (".tif", ".png", ".webp")):
        with rasterio.open(file) as scene:
            pixels = scene.read()
        found.setdefault(file.parent.name, []).extend(triples(pixels))
    return [
        Image(pixels, deep, SHARES.get(source, 0.42 / max(len(found) - len(SHARES), 1)) / len(entries))
        for source, entries in found.items()
        for pixels, deep in entries
    ]


def triples(pixels: np.ndarray) -> list[tuple[np.ndarray, bool]]:
    """Three bands at a time: the first three, and of many bands some single ones."""
    deep = pixels.dtype != np.uint8
    if deep:
        low, high = np.percentile(pixels[pixels > 0], [0.01, 99.95])
        pixels = (((pixels.astype(np.float32) - low) / (high - low)).clip(0, 1) * 65535).astype(np.uint16)
    if len(pixels) < 3:
        return [(pixels[[0, 0, 0]], deep)]
    singles = range(3, len(pixels)) if len(pixels) < 5 else range(0, len(pixels), 3)
    return [(pixels[:3], deep), *((pixels[[band] * 3], deep) for band in singles)]


def mirrored(start: int, length: int, size: int) -> np.ndarray:
    """Indices of pixels from `start` on; beyond its ends a side is mirrored, the end pixel included."""
    at = np.arange(start, start + length) % (2 * size)
    return np.where(at < size, at, 2 * size - 1 - at)


class Cutter:
    """Batches of hr regions."""

    def __init__(self, images: list[Image], device: torch.device) -> None:
        self.images, self.device = images, device
        weights = np.array([image.weight for image in images])
        self.chances = weights / weights.sum()

    def batch(self, rng: np.random.Generator, count: int, scale: int, side: int) -> tuple[Tensor, Tensor]:
        """Regions (B, 3, (side + 2 REACH) * scale, ...) in 0 to 1, and which of them have more than 8 bits."""
        zoom = float(rng.uniform(1, ZOOM)) if rng.random() < 0.3 and side * scale * ZOOM < 260 else 1.0
        core, edge = round(side * scale * zoom), round(REACH * scale * zoom)
        hr = torch.empty(count, 3, core + 2 * edge, core + 2 * edge)
        deep = torch.zeros(count, dtype=torch.bool)
        for index in range(count):
            image = self.drawn(rng, core - 4 * scale)
            rows, columns = (
                mirrored(int(rng.integers(0, max(n - core, 0) + 1)) - edge, core + 2 * edge, n)
                for n in image.pixels.shape[1:]
            )
            cut = image.pixels[:, rows][:, :, columns]
            hr[index].copy_(torch.from_numpy(cut))
            hr[index] *= 1 / np.iinfo(cut.dtype).max
            deep[index] = image.deep
        hr = hr.to(self.device)
        whole = (side + 2 * REACH) * scale
        if hr.shape[-1] != whole:
            hr = F.interpolate(hr, size=(whole, whole), mode="bicubic", antialias=True).clamp(0, 1)
        return hr, deep.to(self.device)

    def drawn(self, rng: np.random.Generator, least: int) -> Image:
        """An image whose sides are not shorter than `least`."""
        while True:
            image = self.images[rng.choice(len(self.images), p=self.chances)]
            if min(image.pixels.shape[1:]) >= least:
                return image


def degraded(hr: Tensor, deep: Tensor, scale: int, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """One image of a sensor for each region.

    Returns:
        lr (B, 3, side, side); the truth (B, 4) in a descriptor's order; which images are grey (B,).
    """
    spoilt = ~chance(MIX.clean, len(hr), hr.device)
    lr, mtf = blurred(hr, MIX, spoilt, scale, side)
    lr, grey = varied(lr)
    lr, noise, quantisation = recorded(lr, MIX, spoilt, deep, grey)
    return lr, torch.cat([mtf, noise[:, None], quantisation[:, None]], 1), grey


def varied(lr: Tensor) -> tuple[Tensor, Tensor]:
    """Turned and mirrored, with less or more contrast, bands shuffled or grey; and which images are grey (B,)."""
    count, device = len(lr), lr.device
    for swap in (lambda x: x.transpose(2, 3), lambda x: x.flip(2), lambda x: x.flip(3)):
        lr = torch.where(wide(torch.rand(count, device=device) < 0.5), swap(lr), lr)
    grey = (torch.rand(count, device=device) < GREY) | (lr[:, 0] == lr[:, 1]).all(2).all(1)
    pick = torch.randint(0, 3, (count,), device=device)
    lr = torch.where(wide(grey), lr[torch.arange(count, device=device), pick][:, None], lr)
    lr = torch.where(wide(torch.rand(count, device=device) < 0.06), lr[:, [2, 0, 1]], lr)
    gain = torch.exp(torch.rand(count, device=device) * 1.7 - 1.4)
    gain = torch.where(torch.rand(count, device=device) < 0.3, gain, 1.0)
    middle = lr.mean((1, 2, 3), keepdim=True)
    return (lr - middle) * wide(gain) + middle, grey


def loss_of(network: Regressor, lr: Tensor, truth: Tensor, grey: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """Gaussian log-likelihood, weighted by the standard deviation; and the absolute errors (B, 3).

    Source:
        M. Seitzer et al., "On the pitfalls of heteroscedastic uncertainty estimation", ICLR 2022, equation 5.
    """
    told = truth[:, 3]  # what is read off the lattice is exact, but for the finest steps
    told = torch.where((told < 10) & (torch.rand_like(told) < 0.5), 0.0, told)
    planes = torch.where(wide(grey), planes_of(lr[:, :1]), planes_of(lr))
    with torch.autocast(lr.device.type, torch.bfloat16):
        values, variances = network(planes, told, grey.float(), torch.full_like(told, scale))
    wanted = torch.cat([truth[:, :2], noise_to_score(truth[:, 2:3])], 1)
    off = values - wanted
    likelihood = 0.5 * (off.square() / variances.exp() + variances)
    return (likelihood * variances.detach().exp().sqrt()).mean(0).sum() * 10, off.detach().abs()


def train(args: argparse.Namespace) -> None:
    device = torch.device(args.device)
    torch.manual_seed(args.seed)
    network = Regressor().to(device).to(memory_format=torch.channels_last)
    mean = copy.deepcopy(network).requires_grad_(False)
    optimiser = torch.optim.AdamW(network.parameters(), lr=args.rate, betas=(0.9, 0.99), weight_decay=0.01)
    args.run.mkdir(parents=True, exist_ok=True)
    state, step = args.run / "state.pt", 0
    if state.exists():
        kept = torch.load(state, map_location=device, weights_only=True)
        network.load_state_dict(kept["network"])
        mean.load_state_dict(kept["mean"])
        optimiser.load_state_dict(kept["optimiser"])
        step = kept["step"]
    images = read_images(args.images)
    cutter = Cutter(images, device)
    print(
        f"{len(images)} images, {sum(p.numel() for p in network.parameters()):,} numbers, step {step}",
        flush=True,
    )
    shares = np.array([share for *_, share in SIZES])
    saved, errors = time.perf_counter(), []
    while step < args.steps:
        rng = np.random.default_rng((args.seed, step))
        torch.manual_seed(args.seed * 1_000_003 + step)
        scale, side, _ = SIZES[rng.choice(len(SIZES), p=shares / shares.sum())]
        share = step / args.steps
        for group in optimiser.param_groups:
            group["lr"] = (
                args.rate * min(1, (step + 1) / 100) * max(0.5 * (1 + math.cos(math.pi * share)), 1e-3)
            )
        lr, truth, grey = degraded(*cutter.batch(rng, args.batch, scale, side), scale, side)
        loss, off = loss_of(network, lr, truth, grey, scale)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(
                list(mean.parameters()), list(network.parameters()), 1 - min(0.998, (1 + step) / (10 + step))
            )
        errors.append(off.mean(0).cpu())
        if step % 100 == 0:
            print(
                f"step {step}: mean errors " + " ".join(f"{v:.4f}" for v in torch.stack(errors).mean(0)),
                flush=True,
            )
            errors = []
        if time.perf_counter() - saved > 60 or step == args.steps:
            saved = time.perf_counter()
            keep = {
                "network": network.state_dict(),
                "mean": mean.state_dict(),
                "optimiser": optimiser.state_dict(),
            }
            torch.save({**keep, "step": step}, args.run / "state.tmp")
            (args.run / "state.tmp").replace(state)
            save_file(
                {name: value.to(torch.bfloat16).contiguous() for name, value in mean.state_dict().items()},
                args.run / "sensor.safetensors",
            )
    if args.out:
        args.out.write_bytes((args.run / "sensor.safetensors").read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path, help="A folder of folders of images, one a source.")
    parser.add_argument("run", type=Path, help="Where the state of the run is kept.")
    parser.add_argument("--out", type=Path, help="Copy the weights here at the end.")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(1)
    train(args)


if __name__ == "__main__":
    main()
