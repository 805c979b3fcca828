"""Train a compact network that is told of the sensor, with images and degradations on one GPU.

    python -m benchmarks.gpu.train runs/gpu/chips runs/gpu/x4.safetensors --scale 4 --seconds 465
    python -m benchmarks.gpu.train runs/gpu/chips runs/gpu/best.safetensors --scale 4 --width 128 --depths 11,11 --batch 64
    python -m benchmarks.gpu.train runs/gpu/chips runs/gpu/x4b.safetensors --start runs/gpu/x4.safetensors --rate 8e-4 --taught 0.5
    python -m benchmarks.gpu.train runs/gpu/chips runs/gpu/x4-clean.safetensors --clean 1 --batch 64 --patch 64
    python -m benchmarks.gpu.train runs/gpu/chips runs/gpu/try.safetensors --device cpu --seconds 5 --batch 8

`geosegsr upscale --model OUT.safetensors` opens the result. Needs torch, numpy, Pillow with AVIF, safetensors,
and the packages of geosegsr[train].
The state is kept beside it each minute: the same command resumes a run that was interrupted. `--seconds` sets the
length, so another device takes another number of steps.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.batches import batch
from benchmarks.gpu.captured import CapturedStep
from benchmarks.gpu.chips import Chips
from benchmarks.gpu.degradations import wide
from benchmarks.gpu.gradients import Gradients
from benchmarks.gpu.muon import BatchedMuon
from benchmarks.gpu.validation import read_images, validate
from geosegsr.models.card import ModelCard
from geosegsr.models.checkpoint import load_checkpoint, save_checkpoint
from geosegsr.models.segsr.config import BICUBIC
from geosegsr.models.segsr.network import SeGSR, preset
from geosegsr.sensor.jpeg import YCC
from geosegsr.training.equivariance import Equivariance
from geosegsr.training.optimisers import is_matrix

SIZES = {2: (64, 64), 3: (64, 56), 4: (96, 48), 8: (160, 24)}
"""By scale, patches in a batch and lr pixels along a side of them."""
TOLD = {
    "mtf_quarter": [0.1, 1.0],
    "mtf_nyquist": [0.0, 0.92],
    "noise": [0.0, 0.05],
    "quantisation": [0.0, 124.0],
}
"""Smallest and largest of what a network is told; see `batch`."""
TOWER_SHARE = 0.05
"""Of the learning rate, for the tower and its prompts."""
WARM_UP = 200  # steps
SECONDS_BETWEEN_STATES = 60


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    torch.backends.cudnn.benchmark = True
    training = Training(args)
    chips = Chips(args.chips, training.device, args.copies)
    print(
        f"{len(chips.chips)} chips: {dict(zip(chips.sources, chips.counts, strict=True))}; "
        f"{sum(p.numel() for p in training.network.parameters()):,} parameters; step {training.step}",
        flush=True,
    )
    training.run(chips)


def arguments(*, out: bool = True) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("chips", type=Path, help="The folder that benchmarks.gpu.prepare wrote.")
    if out:
        parser.add_argument("out", type=Path, help="Checkpoint; OUT.json has scores, and OUT.state what a resumed run needs.")  # fmt: skip
    parser.add_argument("--scale", type=int, choices=SIZES, default=4)
    parser.add_argument("--seconds", type=float, default=465)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--depths", default="14,14", help="Convolutions of each unit.")
    parser.add_argument("--start", type=Path, help="A checkpoint to go on from, in place of --width and --depths.")  # fmt: skip
    parser.add_argument("--batch", type=int, help="Patches; by scale.")
    parser.add_argument("--patch", type=int, help="lr pixels along a side; by scale.")
    parser.add_argument("--rate", type=float, default=2.5e-3)
    parser.add_argument(
        "--clean",
        type=float,
        default=0.4,
        help="Share of patches by bicubic reduction alone; with 1 the network is told nothing.",
    )
    parser.add_argument("--taught", type=float, default=0, metavar="SHARE", help="Share that the start's own results, means over mirror images, have in the targets.")  # fmt: skip
    parser.add_argument("--copies", type=int, default=2, help="Reduced copies of each chip.")
    parser.add_argument(
        "--saves", type=int, default=3, help="Checkpoints and scores before the end, of an eager run."
    )
    parser.add_argument("--threads", type=int, default=2, help="Of each process; several share one machine.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--eager", action="store_true", help="Do not capture the step as a graph of kernels.")
    parser.add_argument(
        "--compile", action="store_true", help="Compile units and modulations with torch.compile."
    )
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    if not out:
        args.out = args.chips / "none.safetensors"
    batch, patch = SIZES[args.scale]
    args.batch, args.patch = args.batch or batch, args.patch or patch
    return args


class Training:
    """A network, its moving average and its optimisers, and how far they are."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Start, or resume where the state of an interrupted run lies beside the checkpoint."""
        self.args, self.device = args, torch.device(args.device)
        self.network = starting_network(args).to(self.device).train()
        self.network.to(memory_format=torch.channels_last)
        self.equivariance = Equivariance(self.network, "p4")
        if args.start is None:
            self.equivariance.start(trained=False)
        self.mean = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.teacher = copy.deepcopy(self.mean).to(torch.bfloat16) if args.taught else None
        self.gradients = Gradients(self.network, self.equivariance)
        if args.compile:
            for module in (*self.network.units, *self.network.modulations):
                module.compile()
        learning = [(name, p) for name, p in self.network.named_parameters() if p.requires_grad]
        self.muon = BatchedMuon((p, share_of(name)) for name, p in learning if is_matrix(name, p))
        groups = [
            {
                "params": [p for name, p in learning if not is_matrix(name, p) and share_of(name) == share],
                "share": share,
            }
            for share in (1.0, TOWER_SHARE)
        ]
        on_gpu = self.device.type == "cuda"
        self.adamw = torch.optim.AdamW(
            groups, lr=args.rate, betas=(0.9, 0.99), weight_decay=0, fused=True, capturable=on_gpu
        )
        self.step, self.spent = 0, 0.0
        self.rate = torch.zeros((), device=self.device)
        self.images = read_images(args.chips / "val")
        self.state_file = args.out.with_suffix(".state")
        if self.state_file.exists():
            self.restore()
        for group in self.adamw.param_groups:  # tensors, which a captured step reads anew each time
            group["lr"] = torch.zeros((), device=self.device)

    def run(self, chips: Chips) -> None:
        """Train until the time is up; the first batch and step are not counted, since they choose kernels."""
        args = self.args
        torch.manual_seed(args.seed * 1_000_003 + self.step)
        first = batch(chips, args)
        update = self.prepared_update(first)
        # A captured step did not survive a validation, see docs/benchmarks-gpu.md.
        parts = 1 if self.captures else args.saves + 1
        self.wait()
        began = time.perf_counter() - self.spent
        state_kept = self.spent
        saved = math.floor(self.spent / args.seconds * parts)
        while self.spent < args.seconds:
            self.set_rate()
            value = update(*batch(chips, args))
            self.follow()
            if self.step % 200 == 0 or self.step == 1:
                print(f"step {self.step}, {self.spent:.0f} s: loss {self.finite(value):.2f}", flush=True)
            self.spent = time.perf_counter() - began
            if self.spent * parts > (saved + 1) * args.seconds and self.spent < args.seconds:
                saved += 1
                self.save(chips.sources)
            if self.spent - state_kept > SECONDS_BETWEEN_STATES:
                state_kept = self.spent
                self.keep_state()
        self.wait()
        self.spent = time.perf_counter() - began
        self.save(chips.sources)
        self.state_file.unlink(missing_ok=True)

    @property
    def captures(self) -> bool:
        """Whether a step is captured as a graph of kernels."""
        return self.device.type == "cuda" and not self.args.eager

    def prepared_update(self, example: Sequence[Tensor]) -> Callable[..., Tensor]:
        """`update`, captured for batches like the example where steps are."""
        return CapturedStep(self.update, example) if self.captures else self.update

    def set_rate(self) -> None:
        """Set the learning rate of the next step; the first are slow, and the last ones too."""
        share = min(self.spent / self.args.seconds, 1)
        warmth = min(1, (self.step + 1) / WARM_UP)
        rate = self.args.rate * warmth * max(0.5 * (1 + math.cos(math.pi * share)), 1e-3)
        self.rate.fill_(rate)
        for group in self.adamw.param_groups:
            group["lr"].fill_(rate * group["share"])

    def update(self, lr: Tensor, hr: Tensor, descriptor: Tensor, deep: Tensor) -> Tensor:
        """Learn from one batch; the loss, in dB. Nothing here waits for the device.

        Images of more than 8 bits are not taught: bands without detail of their own show a teacher's faults most.
        """
        if self.teacher is not None:
            hr = hr.lerp(mirrored_mean(self.teacher, lr, descriptor), self.args.taught * wide(~deep))
        value = loss(self.network, lr, hr, descriptor)
        value.backward()
        self.gradients.average()
        self.gradients.clip(1.0)
        self.muon.step(self.rate)
        self.adamw.step()
        self.gradients.clear()
        return value.detach()

    def follow(self) -> None:
        """Take a step into the moving average."""
        if self.step % 50 == 0:
            self.equivariance.project_weights()
        self.step += 1
        memory = min(0.999, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.mean.parameters()), list(self.network.parameters()), 1 - memory)

    def finite(self, value: Tensor) -> float:
        """A loss as a number, if it is one."""
        number = float(value)
        if not math.isfinite(number):
            raise SystemExit(
                f"Cannot go on: the loss is {number} at step {self.step}. Pass a smaller --rate."
            )
        return number

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def save(self, sources: list[str]) -> None:
        """Write the moving average as a checkpoint, and its scores beside it."""
        scores = validate(self.mean, self.images, self.device)
        args, network = self.args, copy.deepcopy(self.mean).cpu()
        other = ", the rest with blur, noise and JPEG compression that the network was told of"
        device = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "a CPU"
        card = ModelCard.of(
            network.config,
            args.out.stem,
            degradation={"kernel": "bicubic"},
            grey=True,
            told=TOLD if network.sensor is not None else {},
            trained_on=f"chips of {', '.join(sources)}, by benchmarks/gpu; {args.clean:.0%} of lr by antialiased bicubic "
            f"reduction{'' if args.clean == 1 else other}",
            notes=f"{self.step} steps of {args.batch} patches of {args.patch} x {args.patch} pixels, "
            f"{self.spent:.0f} s on {device}, {time.strftime('%Y-%m-%d')}, seed {args.seed}.",
        )
        args.out.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(args.out, network, card)
        told: dict[str, Any] = {"step": self.step, "seconds": round(self.spent, 1), "psnr_y": scores}
        told["options"] = {name: str(value) for name, value in vars(args).items()}
        args.out.with_suffix(".json").write_text(json.dumps(told, indent=1))
        parts = [f"{name} {own:.2f} ({own - simple:+.2f})" for name, (own, simple) in scores.items()]
        print(f"step {self.step}, {self.spent:.0f} s: {', '.join(parts) or 'saved'}", flush=True)

    def keep_state(self) -> None:
        """Write what a resumed run needs; the file appears whole or not at all."""
        self.args.out.parent.mkdir(parents=True, exist_ok=True)
        part = self.state_file.with_suffix(".state-part")
        state = {
            "network": self.network.state_dict(),
            "mean": self.mean.state_dict(),
            "adamw": self.adamw.state_dict(),
            "muon": self.muon.means,
            "step": self.step,
            "spent": self.spent,
        }
        torch.save(state, part)
        part.replace(self.state_file)

    def restore(self) -> None:
        """Go on from a state; its network has to be of the same shape."""
        state = torch.load(self.state_file, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.mean.load_state_dict(state["mean"])
        self.adamw.load_state_dict(state["adamw"])
        self.muon.means = state["muon"]
        self.step, self.spent = state["step"], state["spent"]


def starting_network(args: argparse.Namespace) -> SeGSR:
    """A new network, or the one of the checkpoint to go on from."""
    if args.start is not None:
        network, card = load_checkpoint(args.start)
        if card.scale != args.scale:
            raise SystemExit(f"Cannot go on from '{args.start}': it is for x{card.scale}. Pass --scale {card.scale}.")  # fmt: skip
        return network.specialise(BICUBIC) if args.clean == 1 else network
    depths = tuple(int(depth) for depth in args.depths.split(","))
    config = preset(
        "compact",
        scale=args.scale,
        width=args.width,
        depths=depths,
        sensor_width=0 if args.clean == 1 else 32,
        skip_every=2,
    )
    return SeGSR(config)


def share_of(name: str) -> float:
    """Share of the learning rate that a parameter has."""
    return TOWER_SHARE if name.startswith(("features", "localisation")) else 1.0


@torch.inference_mode()
def mirrored_mean(network: SeGSR, lr: Tensor, descriptor: Tensor) -> Tensor:
    """Of the network's results for images and their mirror images, which no quarter turn gives."""
    image = lr.to(memory_format=torch.channels_last)
    flipped = image.flip(3)
    mean: Tensor = (network(image, image, descriptor) + network(flipped, flipped, descriptor).flip(3)) / 2
    return mean


def loss(network: SeGSR, lr: Tensor, hr: Tensor, descriptor: Tensor) -> Tensor:
    """Negative PSNR in dB over bands and brightness, averaged over patches; see `geosegsr.training.losses.psnr`."""
    with torch.autocast(lr.device.type, torch.bfloat16):
        image = lr.to(memory_format=torch.channels_last)
        sr = network(image, image, descriptor).float()  # a guide spares an index that is copied from the host
    off = sr - hr
    luma = torch.einsum("c,nchw->nhw", off.new_tensor(YCC[0]), off)
    squares = 0.5 * off.square().mean((1, 2, 3)) + 0.5 * luma.square().mean((1, 2))
    return 10 * torch.log10(squares + 1e-6).mean()


if __name__ == "__main__":
    main()
