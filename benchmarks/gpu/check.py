"""What to know first of the networks on a GPU: equality in each precision, TF32, speed, memory, copies to the host.

    python -m benchmarks.gpu.check                          about two minutes on one GPU
    python -m benchmarks.gpu.check --device cpu --small     seconds, to see that it runs

Prints Markdown. Needs torch, numpy and safetensors. Equality is measured against the golden file of the tests and,
where it is there, the output of the published program.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.speed.models import TILES, least_time, network
from geosegsr.models.checkpoint import load_checkpoint
from geosegsr.models.segsr.config import BICUBIC
from geosegsr.models.segsr.network import SeGSR
from geosegsr.models.segsr.published import convert

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "kits"))

from published_kit import GOLDEN, REFERENCE, published_state

CASES = ((1, torch.bfloat16), (16, torch.bfloat16), (16, torch.float32), (64, torch.bfloat16))
"""Batches and precisions that are timed."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="The smallest network of each table alone.")
    parser.add_argument("--reference", type=Path, default=REFERENCE, help="Folder with what the published program computed.")  # fmt: skip
    args = parser.parse_args()
    device = torch.device(args.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    print(f"torch {torch.__version__}, {name}\n", flush=True)
    equality(device, [GOLDEN] if args.small else [GOLDEN, args.reference])
    constant(device)
    speed(device, small=args.small)
    if device.type == "cuda":
        copies(device)


@contextmanager
def tf32(on: bool | None) -> Iterator[None]:
    """With or without TF32 for float32 products and convolutions; None: as torch comes."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    if on is not None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = on
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@torch.inference_mode()
def equality(device: torch.device, folders: list[Path]) -> None:
    """Largest difference from the published network over its largest value, and whether batches keep bits."""
    print("| network | fp32, TF32 off | TF32 on | as torch comes | bf16 | three tiles together, in bits |")
    print("|---|---|---|---|---|---|")
    for file in (file for folder in folders for file in sorted(folder.glob("segsr_*.npz"))):
        data = np.load(file)
        config, tensors = convert(*published_state(file.stem, file.parent))
        model = SeGSR(config)
        model.load_state_dict(tensors)
        model = model.eval().merge_lora().to(device)
        lr = torch.from_numpy(data["input"]).to(device)
        cells = []
        for setting in (False, True, None):
            with tf32(setting):
                cells.append(f"{difference(model(lr), data['output']):.1e}")
        with tf32(False):
            three = lr[:1].repeat(3, 1, 1, 1)
            alone = torch.cat([model(tile[None]) for tile in three])
            same = bool((model(three) == alone).all())
            cells.append(f"{difference(model.to(torch.bfloat16)(lr), data['output']):.1e}")
        print(f"| {file.stem} | {' | '.join(cells)} | {'as alone' if same else 'not as alone'} |", flush=True)


def difference(ours: Tensor, theirs: NDArray[np.float32]) -> float:
    return float(np.abs(ours.float().cpu().numpy() - theirs).max() / np.abs(theirs).max())


@torch.inference_mode()
def constant(device: torch.device) -> None:
    """Smallest and largest value that the bundled x4 model gives for a constant image."""
    model, _ = load_checkpoint(Path(str(files("geosegsr"))) / "weights" / "compact-x4.safetensors")
    model = model.specialise(BICUBIC).merge_lora().to(device)
    lr = torch.full((1, 3, 64, 64), 0.3017, device=device)
    print("\n| a constant image of 0.3017, fp32 | least | largest |\n|---|---|---|")
    for on in (False, True):
        with tf32(on):
            sr = model(lr)[..., 64:-64, 64:-64]  # away from the border
        print(f"| TF32 {'on' if on else 'off'} | {float(sr.min()):.6f} | {float(sr.max()):.6f} |")


@torch.inference_mode()
def speed(device: torch.device, *, small: bool) -> None:
    """Time of a call, output pixels a second and memory, x4; random weights, TF32 off."""
    print("\n| network | tile | batch | precision | ms a call | output Mpx/s | peak GB |")
    print("|---|---|---|---|---|---|---|")
    cases = [("compact", *CASES[0])] if small else [(name, *case) for name in TILES for case in CASES]
    for name, batch, dtype in cases:
        model = network(name, 4).specialise(BICUBIC).merge_lora()
        model = model.to(device, dtype).to(memory_format=torch.channels_last)
        lr = torch.rand(batch, 3, TILES[name], TILES[name], device=device)
        with tf32(False):
            peak, seconds = measured(partial(model, lr), 1 if small else 10, device)
        pixels = batch * (4 * TILES[name]) ** 2 / seconds / 1e6
        print(
            f"| {name} | {TILES[name]} | {batch} | {str(dtype).removeprefix('torch.')} | {seconds * 1e3:.2f} "
            f"| {pixels:.3g} | {peak:.1f} |",
            flush=True,
        )


def measured(run: partial[Tensor], repeats: int, device: torch.device) -> tuple[float, float]:
    """Peak memory in GB (0 on a CPU), and the least time of a call in seconds."""
    if device.type != "cuda":
        return 0.0, least_time(run, repeats)
    torch.cuda.reset_peak_memory_stats(device)
    seconds = least_time(run, repeats, device)
    return torch.cuda.max_memory_allocated(device) / 1e9, seconds


def copies(device: torch.device) -> None:
    """Time to bring sixteen results of 3 x 1024 x 1024 pixels to the host."""
    sr = torch.rand(16, 3, 1024, 1024, device=device)
    pinned = torch.empty(sr.shape, pin_memory=True)
    whole = torch.empty(sr.shape, dtype=torch.uint8, pin_memory=True)

    def rounded() -> Tensor:
        return whole.copy_((sr * 255).round().clamp(0, 255).to(torch.uint8), non_blocking=True)

    print(f"\n| {sr.numel() * 4 / 1e6:.0f} MB of float32 to the host | ms |\n|---|---|")
    for name, run in (
        ("pageable", sr.cpu),
        ("pinned", lambda: pinned.copy_(sr, non_blocking=True)),
        ("pinned, rounded to uint8 on the GPU", rounded),
    ):
        print(f"| {name} | {least_time(run, 5, device) * 1e3:.0f} |")


if __name__ == "__main__":
    main()
