"""Time one step of a training: eager, captured as a graph of kernels, and captured with compiled units.

    python -m benchmarks.gpu.steps runs/gpu/chips --scale 4 --clean 1

Options are those of benchmarks.gpu.train; with --compile the compiled variant runs alone. All variants begin at the same
weights and see the same patches, so their losses should agree to a few hundredths of a dB. Needs what benchmarks.gpu.train
needs.
"""

from __future__ import annotations

import argparse
import time
import traceback

import torch

from benchmarks.gpu.batches import batch
from benchmarks.gpu.chips import Chips
from benchmarks.gpu.train import Training, arguments

VARIANTS = {
    "eager": {"eager": True, "compile": False},
    "captured": {"eager": False, "compile": False},
    "captured, compiled": {"eager": False, "compile": True},
}
STEPS = 40
ROWS = 24  # of the profile


def main() -> None:
    args = arguments(out=False)
    compiled_alone = args.compile
    torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True
    chips = Chips(args.chips, torch.device(args.device), args.copies)
    print(f"{len(chips.chips)} chips", flush=True)
    for name, options in VARIANTS.items():
        if compiled_alone and not options["compile"]:
            continue
        began = time.perf_counter()
        try:
            measure(name, argparse.Namespace(**{**vars(args), **options}), chips)
        except (RuntimeError, torch._dynamo.exc.TorchDynamoException):
            traceback.print_exc()
        print(f"  {time.perf_counter() - began:.1f} s in all", flush=True)


def measure(name: str, args: argparse.Namespace, chips: Chips) -> None:
    """Print the time of a step, with and without making its batch, and the losses."""
    torch.manual_seed(args.seed)
    training = Training(args)
    first = batch(chips, args)
    update = training.prepared_update(first)
    began = 0.0
    losses = []
    torch.manual_seed(args.seed)
    for step in range(STEPS + 5):
        if step == 5:
            training.wait()
            began = time.perf_counter()
        training.set_rate()
        losses.append(update(*batch(chips, args)).clone())
        training.follow()
    training.wait()
    whole = (time.perf_counter() - began) / STEPS
    began = time.perf_counter()
    for _ in range(STEPS):
        update(*first)
    training.wait()
    alone = (time.perf_counter() - began) / STEPS
    means = [float(torch.stack(losses[i : i + 15]).mean()) for i in (0, 15, 30)]
    print(
        f"{name}: {1e3 * whole:.1f} ms a step, {1e3 * alone:.1f} ms without its batch; loss of 15 steps each: "
        + ", ".join(f"{mean:.3f}" for mean in means),
        flush=True,
    )
    if args.eager:
        profile(training, chips, args)


def profile(training: Training, chips: Chips, args: argparse.Namespace) -> None:
    """Print the kernels that take most of five eager steps."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if training.device.type == "cuda":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=kinds) as seen:
        for _ in range(5):
            training.update(*batch(chips, args))
        training.wait()
    order = "self_device_time_total" if training.device.type == "cuda" else "self_cpu_time_total"
    print(seen.key_averages().table(sort_by=order, row_limit=ROWS, max_name_column_width=60), flush=True)


if __name__ == "__main__":
    main()
