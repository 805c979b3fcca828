"""What a tower is worth at equal training time: real, as it is, and off, as one Markdown table.

    python -m benchmarks.quality.towers imagery runs/towers --tower tower.safetensors --lpips alexnet.ckpt --seconds 330

Three compact x4 networks, each with several seeds, from random weights, on all 8-bit images of imagery/train:

    real       the tower of a file, which stays as it is; prompts and modulation learn at the trunk's rate
    as it is   the tower begins at random and learns at a twentieth of the trunk's rate, as in the bundled models
    off        no tower, prompts or modulation

Time is shared out beforehand: a step of each is timed in turns, and each gets the steps that fit. So other work on the machine
does not favour any of them. Validation is on imagery/val, each source apart, input reduced by antialiased bicubic, the network
alone: PSNR of Y in dB without SCALE pixels at each edge, and LPIPS. Run the same command again to resume.

The last line is what tower, prompts and modulation cost in a bundled network: the least processor time of a tile of 256 x 256
pixels with and without them, in turns.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import rasterio
import torch
from torch import Tensor, nn

from benchmarks.quality.architectures import build, learn
from benchmarks.quality.lpips import Lpips
from benchmarks.quality.sensors import Spoilt, images_of, psnr_y
from geosegsr.models.checkpoint import load_checkpoint

SCALE, SIDE = 4, 256
KINDS = ("real", "as it is", "off")
SHARES = {"real": 1.0, "as it is": 0.05, "off": 0.05}
"""Of the learning rate, for prompts and tower. A tower that stays as it is cannot collapse."""


def main() -> None:
    args = arguments()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    hr = truths(args.imagery / "train")
    lpips = Lpips(args.lpips)
    steps = planned(hr, args)
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for seed in range(args.seeds):
        for kind in KINDS:
            path = args.out / f"{kind.replace(' ', '-')}-{seed}.json"
            if not path.exists():
                network = trained(kind, seed, steps[kind], hr, args)
                torch.save(network.state_dict(), path.with_suffix(".pt"))
                path.write_text(json.dumps(validated(network, args.imagery / "val", lpips), indent=1))
            found[f"{kind} {seed}"] = json.loads(path.read_text())
            print(f"{kind}, seed {seed}: {steps[kind]} steps", flush=True)
    for measure, digits in (("PSNR", 2), ("LPIPS", 4)):
        print(table(found, measure, digits))
    print(cost())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("imagery", type=Path, help="With the folders train and val.")
    parser.add_argument("out", type=Path, help="Folder for networks and numbers.")
    parser.add_argument("--tower", type=Path, required=True, help="Tensors of the real tower.")
    parser.add_argument("--lpips", type=Path, required=True, help="Weights for LPIPS, see lpips.py.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=330, help="Of one core, for each training.")
    parser.add_argument("--rate", type=float, default=2.5e-3)
    return parser.parse_args()


def truths(folder: Path) -> Tensor:
    """The middle of all 8-bit images of a folder that are large enough, (n, 3, SIDE, SIDE)."""
    found = []
    for path in sorted(folder.rglob("*.tif")):
        with rasterio.open(path) as scene:
            if min(scene.shape) < SIDE or scene.count < 3 or scene.dtypes[0] != "uint8":
                continue
            top, left = ((side - SIDE) // 2 for side in scene.shape)
            found.append(scene.read([1, 2, 3], window=((top, top + SIDE), (left, left + SIDE))))
    return torch.from_numpy(np.stack(found))


def settings(kind: str, seed: int, args: argparse.Namespace) -> argparse.Namespace:
    """A training as architectures.py does it."""
    return argparse.Namespace(
        trunk="unguided" if kind == "off" else "guided", width=64, depth=6, scale=SCALE, seed=seed, start=None,
        tower=args.tower if kind == "real" else None, tower_share=SHARES[kind], equivariance="p4",
        optimiser="muon", rate=args.rate, loss="mse", anywhere=True, seconds=args.seconds, steps=0,
    )  # fmt: skip


def planned(hr: Tensor, args: argparse.Namespace) -> dict[str, int]:
    """Steps of each kind in the time there is."""
    path = args.out / "steps.json"
    if not path.exists():
        path.write_text(json.dumps(timed(hr, args), indent=1))
    seconds: dict[str, float] = json.loads(path.read_text())
    print({kind: f"{1000 * s:.0f} ms a step" for kind, s in seconds.items()}, flush=True)
    return {kind: round(args.seconds / s) for kind, s in seconds.items()}


def timed(hr: Tensor, args: argparse.Namespace, rounds: int = 12, steps: int = 6) -> dict[str, float]:
    """Processor seconds a step, the median of rounds in turns."""
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    runs = {}
    for kind in KINDS:
        own = settings(kind, 0, args)
        network, equivariance = build(own)
        runs[kind] = (network.to(memory_format=torch.channels_last), equivariance, own)
    for _ in range(rounds):
        for kind, (network, equivariance, own) in runs.items():
            own.steps = steps
            began = time.process_time()
            learn(network, equivariance, hr, own)
            seconds[kind].append((time.process_time() - began) / steps)
    return {kind: float(np.median(found)) for kind, found in seconds.items()}


def trained(kind: str, seed: int, steps: int, hr: Tensor, args: argparse.Namespace) -> nn.Module:
    own = settings(kind, seed, args)
    own.steps = steps
    torch.manual_seed(seed)
    network, equivariance = build(own)
    network = network.to(memory_format=torch.channels_last)
    learn(network, equivariance, hr, own)
    return network.eval()


def validated(network: nn.Module, folder: Path, lpips: Lpips) -> dict[str, dict[str, list[float]]]:
    """PSNR and LPIPS of each image of each source."""
    found = {}
    for source in sorted(path for path in folder.iterdir() if path.is_dir()):
        rows = []
        for hr in images_of(source, SCALE, 1):
            lr = Spoilt().lr(hr.astype(np.float32) / 255, SCALE, np.random.default_rng(7))
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                sr = network(torch.from_numpy(lr)[None].float() / 255)[0]
            dn = sr.float().clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
            rows.append((psnr_y(dn, hr, SCALE), lpips(dn, hr)))
        psnr, look = zip(*rows, strict=True)
        found[source.name] = {"PSNR": list(psnr), "LPIPS": list(look)}
    return found


class Plain(nn.Module):
    """A modulation that does nothing."""

    def forward(self, x: Tensor, _: Tensor) -> Tensor:
        return x


def cost(rounds: int = 10) -> str:
    """Processor time of the bundled network for clean scenes in 16 bits, with and without guidance."""
    path = Path(str(files("geosegsr"))) / "weights" / "compact-x4-clean.safetensors"
    network = load_checkpoint(path)[0].merge_lora().eval().requires_grad_(False)
    network = network.to(torch.bfloat16, memory_format=torch.channels_last)
    plain = copy.deepcopy(network)
    plain.modulations = nn.ModuleList(Plain() for _ in plain.modulations)
    plain._steering = lambda *_: torch.empty(0)  # type: ignore[method-assign]
    unsteered = [torch.empty(0)] * len(plain.modulations)
    calls = {"with": network, "without": lambda tile: plain._enlarge(tile, unsteered)}
    tile, least = torch.rand(1, 3, 256, 256), dict.fromkeys(calls, math.inf)
    with torch.inference_mode():
        for _ in range(rounds):
            for kind, call in calls.items():
                began = time.process_time()
                call(tile)
                least[kind] = min(least[kind], time.process_time() - began)
    share = 1 - least["without"] / least["with"]
    return f"\n{least['with']:.3f} s with guidance, {least['without']:.3f} s without: {share:.0%} of the time"


def table(found: dict[str, dict[str, dict[str, list[float]]]], measure: str, digits: int) -> str:
    """A row for each source: mean and standard deviation over seeds, and the last row the mean of the sources."""
    means = {run: {source: np.mean(v[measure]) for source, v in own.items()} for run, own in found.items()}
    sources = sorted(next(iter(means.values())))
    rows = {source: {run: own[source] for run, own in means.items()} for source in sources}
    rows["mean"] = {run: np.mean(list(own.values())) for run, own in means.items()}
    lines = [f"\n| {measure} | {' | '.join(KINDS)} |", f"|---|{'---|' * len(KINDS)}"]
    for name, row in rows.items():
        cells = []
        for kind in KINDS:
            over = [value for run, value in row.items() if run.rsplit(" ", 1)[0] == kind]
            spread = np.std(over, ddof=1) if len(over) > 1 else math.nan
            cells.append(f"{np.mean(over):.{digits}f} ± {spread:.{digits}f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
