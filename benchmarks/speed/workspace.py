"""Memory that a call of a network takes on a CPU: as planned for, against what the process grows by.

    python benchmarks/speed/workspace.py

Each row is a process of its own, with random weights: resident memory at its highest in the call, less that before it.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import sys
from pathlib import Path

ROWS = (
    ("compact", 128), ("compact", 256), ("compact", 512),
    ("segsr-rcan", 64), ("segsr-rcan", 128),
    ("segsr-swinir", 96), ("segsr", 64), ("segsr", 128),
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--precision", default="bf16", choices=("bf16", "fp32"))
    parser.add_argument("--one", nargs=2, metavar=("PRESET", "SIDE"), help="a row, in this process")
    arguments = parser.parse_args()
    if arguments.one:
        name, side = arguments.one
        planned, taken = compare(name, int(side), arguments.precision)
        print(f"| {name} x4 | {side} | {planned / 1e6:.0f} | {taken / 1e6:.0f} |")
        return 0
    print("| network | tile | planned, MB | taken, MB |\n|---|---|---|---|", flush=True)
    for name, side in ROWS:
        command = [sys.executable, __file__, "--precision", arguments.precision, "--one", name, str(side)]
        subprocess.run(command, check=True)
    return 0


def compare(name: str, side: int, precision: str) -> tuple[int, int]:
    """Bytes that are planned for a call, and those that it took."""
    import torch

    from geosegsr.models.device import PRECISIONS
    from geosegsr.models.segsr.network import SeGSR, preset
    from geosegsr.models.segsr.workspace import workspace_bytes

    config, dtype = preset(name, scale=4), PRECISIONS[precision]
    network = SeGSR(config).merge_lora().eval().requires_grad_(False)
    network.to(dtype).to(memory_format=torch.channels_last)
    lr = torch.rand(1, 3, side, side)
    planned = workspace_bytes(config, side, side, dtype)
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what building took is not to be used again unseen
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far is the present
    before = _status("VmRSS")
    with torch.inference_mode():
        network(lr)
    return planned, _status("VmHWM") - before


def _status(entry: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(entry))


if __name__ == "__main__":
    sys.exit(main())
