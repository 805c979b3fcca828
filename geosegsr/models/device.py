"""What a network computes on and in, and arrays on their way to a device and back.

On a GPU both copies are only begun here, through pinned memory: the host goes on, and other threads may send their own work
meanwhile. On a CPU nothing is copied.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from geosegsr.errors import ConfigError
from geosegsr.models.contract import FloatArray

BATCH_PIXELS = 4 * 288 * 288
"""lr pixels a call on a GPU, where memory allows: the bundled models' tiles that a block has at x4."""
_MEMORY_SHARE = 0.5  # of a GPU's free memory, for one call
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """The device for a name.

    Raises:
        ConfigError: There is none; the message lists the available ones.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda:0" if count else "cpu")
    there = {
        "cpu": "cpu",
        **({"cuda": "cuda:0"} if count else {}),
        **{f"cuda:{i}": f"cuda:{i}" for i in range(count)},
    }
    if name not in there:
        raise ConfigError(
            f"Cannot run on device '{name}': this machine has {', '.join(there)}. Pass --device auto."
        )
    return torch.device(there[name])


def choose_precision(name: str, device: torch.device) -> str:
    """The precision for a name, on a device.

    Raises:
        ConfigError: No such precision, or the device cannot compute in it.
    """
    if name == "auto":
        native = torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_has_bf16()
        return "bf16" if native else "fp32"
    if name not in PRECISIONS:
        raise ConfigError(f"Cannot compute in precision '{name}'. It can be: auto, {', '.join(PRECISIONS)}.")
    if name == "fp16" and device.type == "cpu":
        raise ConfigError(
            "Cannot compute in fp16 on a CPU: its range is too narrow there. Pass --precision bf16."
        )
    return name


def cpu_has_bf16() -> bool:
    """Whether this CPU has bfloat16 instructions."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return False
    flags = next((line.split() for line in text.splitlines() if line.startswith(("flags", "Features"))), [])
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)


def batch_size(side: int, tile_bytes: int, free_bytes: int) -> int:
    """Tiles a call on a GPU.

    Args:
        side: Of a tile, in lr pixels.
        tile_bytes: Memory that a call takes for one tile.
        free_bytes: Memory that is free before the first call.
    """
    fitting = int(_MEMORY_SHARE * free_bytes) // max(tile_bytes, 1)
    return max(1, min(BATCH_PIXELS // side**2, fitting))


def sent(array: FloatArray, device: torch.device) -> Tensor:
    """A contiguous array as a tensor on a device, same dtype and shape."""
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


class Returning:
    """A result on its way from a device; what the device still computes of it is waited for in `array` only."""

    def __init__(self, result: Tensor) -> None:
        """Begin the copy, after all that was sent to the device so far by this thread."""
        self._arrived: torch.cuda.Event | None = None
        self._host = result
        if result.device.type == "cuda":
            self._host = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
            self._host.copy_(result, non_blocking=True)
            self._arrived = torch.cuda.current_stream(result.device).record_event()

    def array(self) -> FloatArray:
        """The result, once it is here; same dtype and shape."""
        if self._arrived is not None:
            self._arrived.synchronize()
        array: FloatArray = self._host.numpy()
        return array
