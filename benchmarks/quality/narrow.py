"""Narrow scenes in 16 bits beside 32 bits: the largest difference in DN, and whether two runs are alike.

    python benchmarks/quality/narrow.py [--scales 2 3 4 8] [--widths 40] [--lengths 16 97 320] [--precision bf16]
    python benchmarks/quality/narrow.py --network [--lengths 16 17 ...]    the network alone, in either precision

Every width from 1 is combined with every length, lying and standing. Freed memory is filled with NaN before each run in
16 bits, so that whatever reads memory that was never written shows. Scenes are smooth noise of 8 bits, from the size alone.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage

import geosegsr
from geosegsr.models.catalogue import bundled_checkpoint, load_upscaler
from geosegsr.models.inference import NetworkUpscaler

LENGTHS = (16, 17, 31, 40, 64, 97, 160, 233, 320)


def scene(rows: int, cols: int) -> xr.DataArray:
    """A scene of three bands, uint8."""
    noise = np.random.default_rng(rows * 1000 + cols).normal(size=(3, rows + 8, cols + 8))
    smooth = ndimage.gaussian_filter(noise, (0, 1.5, 1.5))[:, 4:-4, 4:-4]
    return xr.DataArray(np.clip(128 + 120 * smooth, 0, 255).astype(np.uint8), dims=("band", "y", "x"))


def fill_freed_memory_with_nan() -> None:
    """Whatever torch allocates next holds NaN until it is written."""
    for size in (2**power * part // 2 for power in range(6, 21) for part in (2, 3)):
        held = [torch.full((size,), float("nan"), dtype=torch.bfloat16) for _ in range(4)]
        del held


def lr_of(rows: int, cols: int) -> NDArray[np.float32]:
    """The same scene as a network takes it: shape (1, 3, rows, cols), 0 to 1."""
    return (scene(rows, cols).values.astype(np.float32) / 255)[None]


def network_alone(scale: int, sizes: list[tuple[int, int]], precision: str) -> str:
    """The bundled network in float32 and in 16 bits, each twice after freed memory was filled with NaN; a row of a table."""
    began = time.process_time()
    models = [
        load_upscaler(bundled_checkpoint(scale), device="cpu", precision=of) for of in ("fp32", precision)
    ]
    unlike, endless, most = [0, 0], [0, 0], 0.0
    for rows, cols in sizes:
        lr, results = lr_of(rows, cols), []
        for number, model in enumerate(models):
            runs = []
            for _ in range(2):
                fill_freed_memory_with_nan()
                runs.append(NetworkUpscaler.__call__(model, lr))  # whatever the width
            unlike[number] += not np.array_equal(*runs)
            endless[number] += not np.isfinite(runs[0]).all()
            results.append(runs[0])
        most = max(most, float(np.abs(results[1] - results[0]).max()) * 255)
    count = len(sizes)
    alike, finite = ([count - wrong for wrong in of] for of in (unlike, endless))
    return (
        f"| {scale} | {count} | {alike[0]} | {finite[0]} | {alike[1]} | {finite[1]} | {most:.1f} | "
        f"{time.process_time() - began:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scales", type=int, nargs="+", default=[2, 3, 4, 8])
    parser.add_argument("--widths", type=int, default=40, help="1 to this one")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--network", action="store_true", help="without the product around it")
    args = parser.parse_args()
    if args.network:
        # Shorter sides are padded to 16 pixels before the network. Every other size lies, the others stand.
        pairs = [(w, n) for w in range(16, args.widths + 1) for n in args.lengths]
        sizes = [pair[:: (-1) ** number] for number, pair in enumerate(pairs)]
        print(
            "| scale | sizes | fp32 alike | fp32 finite | bf16 alike | bf16 finite | apart, most, DN | CPU, s |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for scale in args.scales:
            print(network_alone(scale, sizes, args.precision), flush=True)
        return
    print(
        "| scale | sizes | most, DN | mean, DN | two runs alike | sizes by their largest difference | CPU, s |"
    )
    print("|---|---|---|---|---|---|---|")
    for scale in args.scales:
        began = time.process_time()
        rough, fine = (
            load_upscaler(bundled_checkpoint(scale), device="cpu", precision=name)
            for name in (args.precision, "fp32")
        )
        sizes = {
            shape for width in range(1, args.widths + 1) for length in args.lengths
            for shape in ((width, length), (length, width))
        }  # fmt: skip
        most: Counter[int] = Counter()
        means, unlike = [], 0
        for rows, cols in sorted(sizes):
            narrow = scene(rows, cols)
            runs = []
            for _ in range(2):
                fill_freed_memory_with_nan()
                runs.append(geosegsr.super_resolve(narrow, scale, rough).values.astype(int))
            off = np.abs(runs[0] - geosegsr.super_resolve(narrow, scale, fine).values.astype(int))
            unlike += not np.array_equal(*runs)
            most[int(off.max())] += 1
            means.append(off.mean())
        spread = ", ".join(f"{dn} DN: {count}" for dn, count in sorted(most.items()))
        print(
            f"| {scale} | {len(sizes)} | {max(most)} | {np.mean(means):.4f} | {len(sizes) - unlike} of {len(sizes)} | "
            f"{spread} | {time.process_time() - began:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
