"""Train the regressor that reads blur and noise off a scene: geosegsr/weights/sensor.safetensors.

    python benchmarks/quality/sensor_training.py imagery/train runs/sensor --minutes 25 --out geosegsr/weights/sensor.safetensors

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

from geosegsr.sensor.jpeg import CHROMINANCE, LUMINANCE, YCC, dct_matrix
from geosegsr.sensor.regressor import Regressor, noise_to_score, planes_of

# Scale, lr pixels along a side, share. Patches begin where JPEG's blocks do.
SIZES = ((4, 64, 0.47), (4, 48, 0.14), (2, 64, 0.22), (2, 104, 0.03), (3, 64, 0.1), (8, 48, 0.04))
ZOOM = 1.34  # images are reduced by up to this first: there are few
REACH = 6  # lr pixels that a kernel reaches
TAPS = 3  # per hr pixel, of the kernels
SHARES = {
    "naip": 0.3,
    "naip_rgbn": 0.15,
    "oam": 0.06,
    "neon": 0.07,
}  # of sources with many images; others alike
CLEAN, BLURRED, NOISY, PACKED, GREY = 0.1, 0.9, 0.45, 0.4, 0.2


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


def keys(x: Tensor) -> Tensor:
    """Keys' cubic kernel with a = -0.5."""
    x = x.abs()
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, near, torch.where(x <= 2, far, 0.0))


def matrices(kind: Tensor, sigma: Tensor, scale: int, side: int) -> tuple[Tensor, Tensor]:
    """Blur and sampling along one side.

    Args:
        kind: Shape (B,): 0 antialiased bicubic, 1 box, 2 none; a Gaussian follows it.
        sigma: Shape (B,), of the Gaussian, in lr pixels.
        scale: hr pixels per lr pixel.
        side: lr pixels.

    Returns:
        Matrices (B, side, (side + 2 REACH) * scale), and responses at 1/4 and 1/2 cycle per lr pixel (B, 2).
    """
    half = REACH * scale * TAPS
    t = torch.arange(-half, half + 1, device=sigma.device) / (TAPS * scale)  # lr pixels
    base = torch.stack([keys(t), (t.abs() <= 0.5).float(), (t.abs() < 0.5 / (TAPS * scale)).float()])[kind]
    gauss = torch.exp(-0.5 * (t / sigma.clamp_min(1e-3)[:, None]) ** 2)
    n = 2 * len(t)
    both = torch.fft.rfft(base / base.sum(1, keepdim=True), n) * torch.fft.rfft(
        gauss / gauss.sum(1, keepdim=True), n
    )
    kernel = torch.fft.irfft(both, n)[:, half : half + len(t)]
    columns = torch.arange((side + 2 * REACH) * scale, device=sigma.device, dtype=torch.float32)
    rows = torch.arange(side, device=sigma.device, dtype=torch.float32)
    at = columns - ((rows[:, None] + REACH) * scale + (scale - 1) / 2)  # hr pixels from an lr pixel's centre
    place = (at * TAPS + half).clamp(0, 2 * half)
    first = place.floor().long()
    share = place - first
    weights = kernel[:, first] * (1 - share) + kernel[:, (first + 1).clamp_max(2 * half)] * share
    weights = torch.where((at * TAPS).abs() <= half, weights, 0.0)
    weights = weights / weights.sum(2, keepdim=True)
    middle, x = weights[:, side // 2], at[side // 2] / scale
    waves = [torch.exp(-2j * math.pi * f * x) for f in (0.25, 0.5)]
    return weights, torch.stack([(middle * wave).sum(1).abs() for wave in waves], 1)


def quantised(planes: Tensor, table: tuple[int, ...], scales: Tensor) -> Tensor:
    """Through the quantised DCT and back; planes (B, c, h, w) about 0, sides multiples of 8."""
    n, c, h, w = planes.shape
    dct = torch.from_numpy(dct_matrix()).to(planes)
    blocks = planes.view(n, c, h // 8, 8, w // 8, 8).transpose(3, 4)
    steps = torch.tensor(table, device=planes.device).view(8, 8) * scales[:, None, None] + 50
    steps = (steps / 100).floor().clamp(1, 255)[:, None, None, None]
    back = dct.T @ ((dct @ blocks @ dct.T / steps).round() * steps) @ dct
    return back.transpose(3, 4).reshape(n, c, h, w)


def jpeg(lr: Tensor, scales: Tensor, subsampled: Tensor, grey: Tensor, shifted: bool) -> Tensor:
    """Compressed and decoded; (B, 3, h, w) in 0 to 1. `shifted`: the patch begins in the middle of a 16 x 16 unit."""
    h, w = lr.shape[2:]
    before = 8 if shifted else 0
    x = F.pad(lr, (before, -(w + before) % 16, before, -(h + before) % 16), mode="replicate")
    dn = (x.clamp(0, 1) * 255).round()
    ycc = torch.einsum("ij,njhw->nihw", dn.new_tensor(YCC), dn)
    luma = quantised(ycc[:, :1] - 128, LUMINANCE, scales) + 128
    full = quantised(ycc[:, 1:].contiguous(), CHROMINANCE, scales)
    small = quantised(F.avg_pool2d(ycc[:, 1:], 2), CHROMINANCE, scales)
    chroma = torch.where(_wide(subsampled), F.interpolate(small, scale_factor=2, mode="bilinear"), full)
    chroma = torch.where(_wide(grey), 0.0, chroma)
    rgb = torch.einsum("ij,njhw->nihw", torch.linalg.inv(dn.new_tensor(YCC)), torch.cat([luma, chroma], 1))
    return (rgb.round().clamp(0, 255) / 255)[..., before : before + h, before : before + w]


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def degraded(hr: Tensor, deep: Tensor, scale: int, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """One image of a sensor for each region.

    Blur: bicubic with a Gaussian, a Gaussian alone or a box with one; axes differ a little. Noise is white or soft,
    constant or growing with the signal. Images of 8 bits are rounded, compressed or not.

    Returns:
        lr (B, 3, side, side); the truth (B, 4) in a descriptor's order; which images are grey (B,).
    """
    count, device = len(hr), hr.device

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, device=device) * (high - low) + low

    def chance(share: float) -> Tensor:
        return torch.rand(count, device=device) < share

    spoilt, drawn = ~chance(CLEAN), uniform(0, 1)
    blurred = spoilt & (drawn < BLURRED)
    kind = torch.where(blurred & (drawn < 0.2), 2, torch.where(blurred & (drawn < 0.28), 1, 0))
    sigma = torch.where(kind == 2, uniform(0.3, 0.78), uniform(0, 1.35) * torch.where(kind == 1, 0.8, 1.0))
    sigma = torch.where(blurred, sigma, 0.0)
    uneven = torch.exp(0.08 * torch.randn(count, 2, device=device))
    down, mtf_down = matrices(kind, sigma * uneven[:, 0], scale, side)
    across, mtf_across = matrices(kind, sigma * uneven[:, 1], scale, side)
    lr, grey = varied(down[:, None] @ hr @ across[:, None].transpose(2, 3))
    noise = torch.where(spoilt & chance(NOISY), uniform(0, 1) ** 1.5 * 12.5 / 255, 0.0)
    lr = lr + noisy(lr, noise, grey, soft=chance(0.25), shot=chance(0.4))
    packed = spoilt & chance(PACKED) & ~deep
    quality = uniform(36, 98.5).round()
    scales = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    rounded = (lr * 255).round().clamp(0, 255) / 255
    lr = torch.where(_wide(packed), jpeg(lr, scales, chance(0.5), grey, bool(torch.rand(()) < 0.5)), torch.where(
        _wide(~deep | chance(0.3)), rounded, lr))  # fmt: skip
    truth = torch.cat(
        [(mtf_down + mtf_across) / 2, noise[:, None], torch.where(packed, scales, 0.0)[:, None]], 1
    )
    return lr, truth, grey


def varied(lr: Tensor) -> tuple[Tensor, Tensor]:
    """Turned and mirrored, with less or more contrast, bands shuffled or grey; and which images are grey (B,)."""
    count, device = len(lr), lr.device
    for swap in (lambda x: x.transpose(2, 3), lambda x: x.flip(2), lambda x: x.flip(3)):
        lr = torch.where(_wide(torch.rand(count, device=device) < 0.5), swap(lr), lr)
    grey = (torch.rand(count, device=device) < GREY) | (lr[:, 0] == lr[:, 1]).all(2).all(1)
    pick = torch.randint(0, 3, (count,), device=device)
    lr = torch.where(_wide(grey), lr[torch.arange(count, device=device), pick][:, None], lr)
    lr = torch.where(_wide(torch.rand(count, device=device) < 0.06), lr[:, [2, 0, 1]], lr)
    gain = torch.exp(torch.rand(count, device=device) * 1.7 - 1.4)
    gain = torch.where(torch.rand(count, device=device) < 0.3, gain, 1.0)
    middle = lr.mean((1, 2, 3), keepdim=True)
    return (lr - middle) * _wide(gain) + middle, grey


def noisy(lr: Tensor, noise: Tensor, grey: Tensor, soft: Tensor, shot: Tensor) -> Tensor:
    """Noise to add: white or correlated between neighbours, of one strength or growing with the signal's root."""
    z = torch.randn_like(lr)
    z = torch.where(_wide(grey), z[:, :1], z)
    smooth = F.avg_pool2d(F.pad(z, (1, 1, 1, 1), mode="circular"), 3, 1)
    z = torch.where(_wide(soft), (z + 2 * smooth) / math.sqrt(1 + 4 / 9 + 4 / 9), z)
    mean = lr.mean((1, 2, 3), keepdim=True).clamp_min(0.02)
    strength = torch.where(_wide(shot), (lr.clamp_min(0) / mean).sqrt().clamp_max(3), 1.0)
    return _wide(noise) * strength * z


def loss_of(network: Regressor, lr: Tensor, truth: Tensor, grey: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """Gaussian log-likelihood, weighted by the standard deviation; and the absolute errors (B, 3).

    Source:
        M. Seitzer et al., "On the pitfalls of heteroscedastic uncertainty estimation", ICLR 2022, equation 5.
    """
    told = truth[:, 3]  # what is read off the lattice is exact, but for the finest steps
    told = torch.where((told < 10) & (torch.rand_like(told) < 0.5), 0.0, told)
    planes = torch.where(_wide(grey), planes_of(lr[:, :1]), planes_of(lr))
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
    state, step, spent = args.run / "state.pt", 0, 0.0
    if state.exists():
        kept = torch.load(state, map_location=device, weights_only=True)
        network.load_state_dict(kept["network"])
        mean.load_state_dict(kept["mean"])
        optimiser.load_state_dict(kept["optimiser"])
        step, spent = kept["step"], kept["spent"]
    images = read_images(args.images)
    cutter = Cutter(images, device)
    print(
        f"{len(images)} images, {sum(p.numel() for p in network.parameters()):,} numbers, step {step}",
        flush=True,
    )
    shares = np.array([share for *_, share in SIZES])
    began, saved, errors = time.perf_counter() - spent, spent, []
    while spent < args.minutes * 60:
        rng = np.random.default_rng((args.seed, step))
        torch.manual_seed(args.seed * 1_000_003 + step)
        scale, side, _ = SIZES[rng.choice(len(SIZES), p=shares / shares.sum())]
        share = spent / (args.minutes * 60)
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
        spent = time.perf_counter() - began
        if step % 100 == 0:
            print(
                f"step {step}, {spent:.0f} s: mean errors "
                + " ".join(f"{v:.4f}" for v in torch.stack(errors).mean(0)),
                flush=True,
            )
            errors = []
        if spent - saved > 60 or spent >= args.minutes * 60:
            saved = spent
            keep = {
                "network": network.state_dict(),
                "mean": mean.state_dict(),
                "optimiser": optimiser.state_dict(),
            }
            torch.save({**keep, "step": step, "spent": spent}, args.run / "state.tmp")
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
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(1)
    train(args)


if __name__ == "__main__":
    main()
