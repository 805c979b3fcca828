"""How fast the networks are, against a plain implementation and against the machine's own matmul.

    python benchmarks/speed/models.py                    CPU: full and compact, plain and fast
    python benchmarks/speed/models.py --device cuda      CUDA: batches of 1 to 64, eager and compiled

Weights are random. A time is the least of several runs; operations are counted, twice a multiply-add, by
torch's own counter. Plain means: float32, one tile at a time, attention by matmul and softmax, adapters apart
from the weights they adapt, bias tables gathered anew in each call.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from geosegsr.models.device import cpu_has_bf16
from geosegsr.models.segsr.network import SeGSR, preset
from geosegsr.models.segsr.units import attention, hat

TILES = {"segsr": 64, "compact": 256}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--model", choices=list(TILES), action="append", help="default: all")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    peak = {name: matmul_peak(device, dtype) for name, dtype in DTYPES.items()}
    place = f"{options.threads} threads" if device.type == "cpu" else torch.cuda.get_device_name(device)
    print(
        f"torch {torch.__version__}, {place}; matmul GFLOP/s: fp32 {peak['fp32']:.0f}, bf16 {peak['bf16']:.0f}\n"
    )
    for name in options.model or TILES:
        if device.type == "cpu":
            on_cpu(name, options.scale, options.repeats, peak)
        else:
            on_cuda(name, options.scale, options.repeats, peak, device)
        print()
    if device.type == "cpu":
        print(f"bf16 is native to this CPU: {'yes' if cpu_has_bf16() else 'no'}")


def on_cpu(name: str, scale: int, repeats: int, peak: dict[str, float]) -> None:
    print(
        f"| {name} x{scale}, tile {TILES[name]} | s/tile | tiles/s | Mpx/s in | GFLOP/s | of matmul peak | speed-up |"
    )
    print("|---|---|---|---|---|---|---|")
    model, lr = network(name, scale), torch.rand(1, 3, TILES[name], TILES[name])
    with torch.inference_mode(), plainly():
        operations = count(model, lr)
        plain = least_time(lambda: model(lr), repeats)
    row("plain fp32", plain, plain, operations, lr, peak["fp32"])
    model.merge_lora().to(memory_format=torch.channels_last)
    reference: Tensor | None = None
    for precision, dtype in DTYPES.items():
        model.to(dtype)
        with torch.inference_mode():
            seconds = least_time(lambda: model(lr), repeats)
            sr = model(lr)
        row(f"fast {precision}", seconds, plain, operations, lr, peak[precision])
        if reference is not None:
            difference = sr - reference
            largest = (difference.abs().max() / reference.abs().max()).item()
            rms = (difference.square().mean() / reference.square().mean()).sqrt().item()
            print(f"\nbf16 against fp32, of the output: max {largest:.2e}, rms {rms:.2e}")
        reference = sr


def on_cuda(name: str, scale: int, repeats: int, peak: dict[str, float], device: torch.device) -> None:
    print(
        f"| {name} x{scale}, tile {TILES[name]}, bf16 | batch | tiles/s | GFLOP/s | of matmul peak | memory GB |"
    )
    print("|---|---|---|---|---|---|")
    model = network(name, scale)
    operations = count(model, torch.rand(1, 3, TILES[name], TILES[name]))
    model = model.merge_lora().to(memory_format=torch.channels_last).to(device, torch.bfloat16)
    for kind, run in (("eager", model), ("compiled", torch.compile(model))):
        for batch in (1, 4, 16, 64):
            lr = torch.rand(batch, 3, TILES[name], TILES[name], device=device)
            torch.cuda.reset_peak_memory_stats(device)
            with torch.inference_mode():
                seconds = least_time(lambda run=run, lr=lr: run(lr), repeats, device)
            rate, memory = batch * operations / seconds / 1e9, torch.cuda.max_memory_allocated(device) / 1e9
            print(
                f"| {kind} | {batch} | {batch / seconds:.1f} | {rate:.0f} | {rate / peak['bf16']:.0%} | {memory:.1f} |"
            )


def network(name: str, scale: int) -> SeGSR:
    return SeGSR(preset(name, scale=scale)).eval()


@contextmanager
def plainly() -> Iterator[None]:
    """Attention by matmul and softmax, bias tables gathered in each call."""

    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        return (scaled(q, k, v, attn_mask=mask)).transpose(1, 2).flatten(2)

    def scaled(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        return (scores if attn_mask is None else scores + attn_mask).softmax(-1) @ v

    def gathered(self: attention.PositionBias, dtype: torch.dtype, wrap: int = 0) -> Tensor:
        return self.forward(attention.wrap_masks(self.query_side, wrap) if wrap else None).to(dtype)

    with (
        mock.patch.object(attention, "attend", attend),
        mock.patch.object(hat, "attend", attend),
        mock.patch.object(attention.PositionBias, "mask", gathered),
        mock.patch("torch.nn.functional.scaled_dot_product_attention", scaled),
    ):
        yield


def count(model: SeGSR, lr: Tensor) -> float:
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(lr)
    return float(counter.get_total_flops())


def least_time(run: Callable[[], object], repeats: int, device: torch.device | None = None) -> float:
    best = float("inf")
    for _ in range(repeats + 1):  # the first one is a warm-up, and never the least
        start = time.perf_counter()
        run()
        if device is not None:
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return best


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    side = 2048 if device.type == "cpu" else 8192
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / least_time(lambda: a @ b, 40, None if device.type == "cpu" else device) / 1e9


def row(label: str, seconds: float, plain: float, operations: float, lr: Tensor, peak: float) -> None:
    rate, pixels = operations / seconds / 1e9, lr.shape[-1] * lr.shape[-2] / seconds / 1e6
    print(
        f"| {label} | {seconds:.3f} | {1 / seconds:.2f} | {pixels:.3f} | {rate:.0f} | {rate / peak:.0%} "
        f"| {plain / seconds:.1f} |"
    )


if __name__ == "__main__":
    main()
