"""Other runtimes for the bundled network: time of a tile, time until it is ready, and memory, each in a process of its own.

    python benchmarks/speed/runtimes.py --workdir FOLDER
    PYTHONPATH=FOLDER_WITH_OPENVINO python benchmarks/speed/runtimes.py --workdir FOLDER --only openvino-bf16

One thread; a tile of 274 x 274 input pixels in three bands at x4, as for a scene of 2000 x 2000; the sensor is sharp and clean.
onnxruntime and OpenVINO run the file that `geosegsr export` writes. What does not end in `--limit` seconds is said to.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from memory import GEOSEGSR, high_water

SIDE = 274
REPEATS = 6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=240, help="seconds for one runtime")
    parser.add_argument("--only", nargs="*", choices=RUNTIMES, default=list(RUNTIMES))
    parser.add_argument("--alone", choices=RUNTIMES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    exported = args.workdir / "bundled.onnx"
    if args.alone:
        print(measured(RUNTIMES[args.alone], exported))
        return
    if not exported.exists():
        subprocess.run(
            [*GEOSEGSR, "export", str(sharp_network("fp32").path), "-o", str(exported)], check=True
        )
    print(
        "| runtime | ready after, CPU s | a tile, CPU s | peak MB | from torch in fp32 |\n|---|---|---|---|---|"
    )
    for name in args.only:
        command = [sys.executable, __file__, "--workdir", str(args.workdir), "--alone", name]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=args.limit)
            row = done.stdout.splitlines()[-1] if not done.returncode else done.stderr.splitlines()[-1]
        except subprocess.TimeoutExpired:
            row = f"not ready in {args.limit} s of wall"
        print(f"| {name} | {row} |", flush=True)


def measured(open_runtime: Callable[[Path], Callable[[Any], Any]], exported: Path) -> str:
    """A row of the table, for the runtime that this process is for."""
    tile = np.random.default_rng(0).random((1, 3, SIDE, SIDE), dtype=np.float32)
    run = open_runtime(exported)
    result = run(tile)
    ready, took = time.process_time(), []
    for _ in range(REPEATS):
        began = time.process_time()
        run(tile)
        took.append(time.process_time() - began)
    peak = high_water() / 1e6
    difference = np.abs(np.asarray(result) - torch_runtime("fp32")(exported)(tile)).max()
    return f"{ready:.1f} | {min(took):.3f} | {peak:.0f} | {difference:.1e}"


def sharp_network(precision: str) -> Any:
    """The bundled network for sharp and clean scenes, as `upscale` opens it."""
    from geosegsr.models.catalogue import resolve_upscaler
    from geosegsr.models.contract import for_sensor
    from geosegsr.sensor.descriptor import BICUBIC

    return for_sensor(resolve_upscaler("bundled", 4, device="cpu", precision=precision), BICUBIC.numbers)


def torch_runtime(precision: str, *, compiled: bool = False) -> Callable[[Path], Callable[[Any], Any]]:
    """The bundled network as `upscale` runs it, or compiled."""

    def opened(_: Path) -> Callable[[Any], Any]:
        import torch

        torch.set_num_threads(1)
        upscaler = sharp_network(precision)
        if compiled:
            upscaler.network = torch.compile(upscaler.network)
        return upscaler

    return opened


def onnxruntime(exported: Path) -> Callable[[Any], Any]:
    """In float32."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
    return lambda tile: session.run(None, {"lr": tile})[0]


def openvino(precision: str) -> Callable[[Path], Callable[[Any], Any]]:
    """In bfloat16 or float32."""

    def opened(exported: Path) -> Callable[[Any], Any]:
        import openvino

        hints = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": precision}
        model = openvino.Core().compile_model(str(exported), "CPU", hints)
        return lambda tile: model([tile])[0]

    return opened


RUNTIMES = {
    "torch-bf16": torch_runtime("bf16"),
    "torch-fp32": torch_runtime("fp32"),
    "onnxruntime-fp32": onnxruntime,
    "openvino-bf16": openvino("bf16"),
    "openvino-fp32": openvino("f32"),
    "torch-compiled-bf16": torch_runtime("bf16", compiled=True),
}


if __name__ == "__main__":
    main()
