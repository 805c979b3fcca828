"""CPU time of the bundled networks: the one for sharp and clean scenes, and the one that is told the sensor.

    python benchmarks/speed/bundled.py [--scale 4]

One thread; tiles of 256 x 256 input pixels and three bands; the least CPU time of several calls, taken in turn.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from geosegsr.models.catalogue import resolve_upscaler
from geosegsr.models.contract import for_sensor
from geosegsr.sensor.descriptor import BICUBIC, SensorDescriptor

SIDE = 256
BLURRED = SensorDescriptor(0.8, 0.3, 0.01)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=6)
    args = parser.parse_args()
    torch.set_num_threads(1)
    bundled = resolve_upscaler("bundled", args.scale)
    networks = {
        "sharp and clean": for_sensor(bundled, BICUBIC.numbers),
        "told": for_sensor(bundled, BLURRED.numbers),
    }
    tile = np.random.default_rng(0).random((1, 3, SIDE, SIDE), dtype=np.float32)
    least = dict.fromkeys(networks, float("inf"))
    for _ in range(args.repeats):
        for name, network in networks.items():
            began = time.process_time()
            network(tile)
            least[name] = min(least[name], time.process_time() - began)
    print("| Network | CPU s a tile | Input, Mpx a second |\n|---|---|---|")
    for name, seconds in least.items():
        print(f"| {name} | {seconds:.3f} | {SIDE**2 / seconds / 1e6:.3f} |")


if __name__ == "__main__":
    main()
