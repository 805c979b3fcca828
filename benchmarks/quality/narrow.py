"""Narrow scenes in 16 bits beside 32 bits: the largest difference in DN, and whether two runs are alike.

    python benchmarks/quality/narrow.py [--scales 2 3 4 8] [--widths 40] [--lengths 16 97 320] [--precision bf16]

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
from scipy import ndimage

import geosegsr
from geosegsr.models.catalogue import bundled_checkpoint, load_upscaler

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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scales", type=int, nargs="+", default=[2, 3, 4, 8])
    parser.add_argument("--widths", type=int, default=40, help="1 to this one")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--precision", default="bf16")
    args = parser.parse_args()
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
