"""Decode packed images into chips, one .npy for each source, on all cores.

    python -m benchmarks.gpu.prepare runs/gpu/pack.zip runs/gpu/chips

Do this once, before any training starts: several trainings that decode for themselves stand in each other's way.
Sources that are there already are left as they are. Needs numpy, and Pillow with AVIF.
"""

from __future__ import annotations

import argparse
import io
import os
import time
import zipfile
from collections.abc import Iterator
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.gpu.chips import CHIP, CORE, EDGE, LARGEST, STEPS

LARGEST_DN = {"wv3": 2047}
"""DN that a network sees as 1; for others percentiles, of each band where there are thirteen."""
COARSE = "s2_60m"
"""The source of bands of Sentinel-2 that hold no detail of their own at 10 m."""
COMPOSITES = {
    1: ((0, 0, 0),),
    4: ((0, 1, 2), (3, 0, 1), (3, 3, 3)),
    13: (
        *((band, band, band) for band in range(13)),
        (3, 2, 1), (7, 2, 3), (3, 2, 1), (4, 5, 6), (8, 11, 12), (6, 8, 11), (12, 11, 3),
    ),
}  # fmt: skip
"""By number of bands, those that are shown as red, green and blue; otherwise the first three."""
COARSE_COMPOSITES = ((0, 0, 0), (9, 9, 9), (10, 10, 10), (10, 10, 10), (0, 9, 10))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pack", type=Path, help="The file that benchmarks.gpu.pack wrote.")
    parser.add_argument(
        "out", type=Path, help="Folder for SOURCE.npy, and for val/ with the validation images."
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    args = parser.parse_args()
    began = time.perf_counter()
    args.out.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(args.pack) as packed:
        names = packed.namelist()
        packed.extractall(args.out, [name for name in names if name.startswith("val/")])
    members: dict[str, list[str]] = {}
    for name in names:
        if name.startswith(("images/", "deep/")):
            members.setdefault(source_of(name), []).append(name)
    members[COARSE] = [name for name in members.get("s2", ()) if "13band" in name]
    with Pool(args.processes) as pool:
        for source, own in sorted(members.items()):
            target = args.out / f"{source}.npy"
            if own and not target.exists():
                found = pool.map(partial(chips_of, args.pack, source), own, chunksize=4)
                chips, steps = (np.concatenate(parts) for parts in zip(*found, strict=True))
                if steps.any():
                    (args.out / STEPS.format(source)).parent.mkdir(exist_ok=True)
                    np.save(args.out / STEPS.format(source), steps)
                save_whole(chips, target)
                print(f"{source}: {len(chips)} chips of {len(own)} images", flush=True)
    print(f"{time.perf_counter() - began:.1f} s")


def source_of(name: str) -> str:
    """The source that a packed image belongs to; all photographs are one."""
    source = Path(name).name.split("__")[0]
    return "photo" if source.startswith("photo") else source


def chips_of(pack: Path, source: str, name: str) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """All chips that a source takes of one packed image, shape (chips, 3, CHIP, CHIP), and what one DN is in each."""
    with zipfile.ZipFile(pack) as packed:
        data = io.BytesIO(packed.read(name))
    if name.endswith(".npy"):
        images = composites(source, np.load(data))
    else:
        pixels = np.asarray(Image.open(data).convert("RGB")).transpose(2, 0, 1)
        images = iter([(pixels.astype(np.uint16) * (LARGEST // 255), 0.0)])
    chips, steps = [], []
    for image, step in images:
        chips.append(cut(image))
        steps.append(np.full(len(chips[-1]), step, np.float32))
    return np.concatenate(chips), np.concatenate(steps)


def composites(source: str, pixels: NDArray[np.generic]) -> Iterator[tuple[NDArray[np.uint16], float]]:
    """Three bands at a time of an image (bands, height, width), in the range of chips, and what one DN is if that matters."""
    values = pixels.astype(np.float32)
    apart = len(values) == 13  # each band by its own range, as `upscale` sees them
    if source in LARGEST_DN:
        ends: NDArray[Any] = np.array([0, LARGEST_DN[source]])
    elif apart:
        ends = np.percentile(values, [0.1, 99.9], axis=(1, 2))
    else:
        ends = np.percentile(values[values > 0], [0.01, 99.95])
    low, high = np.broadcast_to(np.reshape(ends, (2, -1)), (2, len(values)))  # of each band
    fine = (values - low[:, None, None]) / (high - low)[:, None, None]
    whole = (fine.clip(0, 1) * LARGEST).round().astype(np.uint16)
    chosen = COARSE_COMPOSITES if source == COARSE else COMPOSITES.get(len(whole), ((0, 1, 2),))
    for bands in chosen:
        single = apart and len(set(bands)) == 1
        yield whole[list(bands)], 1 / float(high[bands[0]] - low[bands[0]]) if single else 0.0


def cut(image: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """An image (3, height, width) as chips (chips, 3, CHIP, CHIP) that cover it evenly."""
    starts = []
    missing = [(0, 0)]
    for side in image.shape[1:]:
        padded = max(side + 2 * EDGE, CHIP)
        missing.append((EDGE, padded - side - EDGE))
        starts.append(np.linspace(0, padded - CHIP, max(1, round(side / CORE))).round().astype(int))
    whole = np.pad(image, missing, mode="reflect")
    return np.stack(
        [
            whole[:, row : row + CHIP, column : column + CHIP]
            for row in starts[0].tolist()
            for column in starts[1].tolist()
        ]
    )


def save_whole(chips: NDArray[np.uint16], target: Path) -> None:
    """The file appears whole or not at all."""
    part = target.with_suffix(".part")
    with part.open("wb") as opened:
        np.save(opened, chips)
    part.replace(target)


if __name__ == "__main__":
    main()
