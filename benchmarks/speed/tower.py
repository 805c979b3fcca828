"""What guidance costs: CPU time of each bundled network with and without its tower, prompts and modulation.

    python benchmarks/speed/tower.py

One thread, tiles of 288 x 288 input pixels in the precision that `upscale` takes; the least CPU time of several calls, taken in
turn. Freed memory is kept, as in a run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor

import geosegsr
from geosegsr.cpu import keep_freed_memory
from geosegsr.models.catalogue import load_upscaler
from geosegsr.models.segsr.modulation import Modulation
from geosegsr.models.segsr.network import SeGSR

SIDE = 288
WEIGHTS = Path(geosegsr.__file__).parent / "weights"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=12)
    args = parser.parse_args()
    keep_freed_memory(of_any_size=True)
    torch.set_num_threads(1)
    print("| network | CPU s a tile | tower and prompts | tower, prompts and modulation |")
    print("|---|---|---|---|")
    for file in sorted(WEIGHTS.glob("compact-*.safetensors")):
        whole, tower, bare = seconds_of(load_upscaler(file, device="cpu").network, args.repeats)
        print(f"| {file.stem} | {whole:.3f} | {tower / whole:.1%} | {1 - bare / whole:.1%} |", flush=True)


@torch.inference_mode()
def seconds_of(network: object, repeats: int) -> tuple[float, float, float]:
    """Least CPU seconds of a tile: the whole network, the tower with its prompts, and the network without guidance."""
    assert isinstance(network, SeGSR)
    lr = torch.rand(1, 3, SIDE, SIDE)
    maps = network.guidance(lr)
    least = [float("inf")] * 3
    for _ in range(repeats):
        found = [timed(network, lr), timed(network.guidance, lr)]
        with unguided(network, maps):
            found.append(timed(network, lr))
        least = [min(pair) for pair in zip(least, found, strict=True)]
    return least[0], least[1], least[2]


def timed(call: Callable[[Tensor], object], lr: Tensor) -> float:
    began = time.process_time()
    call(lr)
    return time.process_time() - began


@contextmanager
def unguided(network: SeGSR, maps: list[Tensor]) -> Iterator[None]:
    """The trunk alone: no tower, no maps at the size of features, no modulation."""
    with (
        patch.object(network, "guidance", lambda *_: maps),
        patch.object(network, "_steering", lambda *_: None),
        patch.object(Modulation, "forward", lambda _, x, guidance: x),
    ):
        yield


if __name__ == "__main__":
    main()
