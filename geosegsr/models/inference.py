"""Inference: a checkpoint's network on tiles, on a CPU or a GPU."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geosegsr.context import cores_of_a_block
from geosegsr.cpu import keep_freed_memory
from geosegsr.errors import CheckpointError, ConfigError
from geosegsr.models.card import ModelCard
from geosegsr.models.checkpoint import clean_beside, load_checkpoint, read_card
from geosegsr.models.contract import Facts, FloatArray, Upscaler
from geosegsr.models.device import PRECISIONS, Returning, batch_size, choose_device, choose_precision, sent
from geosegsr.models.segsr.config import BICUBIC, SeGSRConfig
from geosegsr.models.segsr.flat import REACH, flat_bands, keep_flat
from geosegsr.models.segsr.network import SeGSR
from geosegsr.models.segsr.precision import without_tf32
from geosegsr.models.threads import one_thread
from geosegsr.notices import warn

Descriptor: TypeAlias = tuple[float, ...]
Reopen: TypeAlias = Callable[[str, str, str, str, Descriptor | None], Upscaler]
"""Opens a checkpoint again in another process, from its path, device, precision, checksum and the sensor it was told."""
_MOST_SENSORS = (
    32  # networks that stay loaded, each told another sensor: a batch of scenes meets ever new ones
)
NARROW = 40
"""Sides up to so many pixels: such tiles are those of narrow scenes, which cost little in float32 and lose most in 16 bits."""


class _Checkpoint:
    """Base of Upscalers made from a checkpoint: its facts, and pickling."""

    def __init__(
        self,
        path: str | Path,
        card: ModelCard,
        wanted_device: str,
        precision: str,
        reopen: Reopen,
        *,
        descriptor: Descriptor | None = None,
        device: str = "",
        batch: int = 1,
    ) -> None:
        self.path = Path(path).absolute()
        self.card = card
        self.reopen = reopen
        self.descriptor = descriptor
        self.wanted_device = wanted_device
        self.precision = precision
        halo = max(card.halo, REACH)
        overlap = max(card.overlap, 2 * halo)
        least = (overlap // card.multiple_of + 1) * card.multiple_of  # the first multiple above the overlap
        self.facts = Facts(
            name=card.name,
            fingerprint="-".join([card.sha256, precision, *(f"{value:.6g}" for value in descriptor or ())]),
            scale=card.scale,
            bands=card.bands,
            tile=max(card.tile, least),
            overlap=overlap,
            halo=halo,
            multiple_of=card.multiple_of,
            min_size=card.min_size,
            batch=batch,
            device=device,
            precision=precision,
            takes_sensor=bool(SeGSRConfig.from_dict(card.config).sensor_width),
            card=card,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the path: another process opens the same file on its own device, and refuses a different one."""
        own = (str(self.path), self.wanted_device, self.precision, self.card.sha256, self.descriptor)
        return self.reopen, own


class NetworkUpscaler:
    """Runs a network on batches of tiles, as an Upscaler does.

    Tiles of one shape go through the network in batches of one size, so a tile's values never depend on the other tiles
    of its batch. Calls from several threads take turns on a GPU. On a CPU they run in parallel, each on as many cores as
    `cores_of_a_block` says. Tiles of narrow scenes are computed in float32, whatever the precision.
    """

    facts: Facts

    def __init__(
        self,
        network: Callable[[Tensor, Tensor | None], Tensor],
        device: torch.device,
        batch: int,
        precision: str,
    ) -> None:
        self.network = network
        self.device = device
        self.precision = precision
        self.batch = batch  # halved where memory runs out
        self._lock = threading.Lock()
        self._threads = torch.get_num_threads()
        self._exact: NetworkUpscaler | None = None

    def __call__(self, lr: FloatArray, guide: FloatArray | None = None) -> FloatArray:
        """Enlarge a batch of tiles; see Upscaler.

        Raises:
            ConfigError: The arrays do not fit the model, or even a part of a tile does not fit into memory.
            CheckpointError: The file was replaced since it was loaded.
        """
        self._check(lr, guide)
        if self._computes_in(*lr.shape[2:]) != self.precision:
            return self.in_float32()(lr, guide)
        parts: list[FloatArray] = []
        with torch.inference_mode():
            start = 0
            while start < len(lr):  # a batch that did not fit is tried again from its first tile
                batch = self.batch
                part = slice(start, start + batch)
                try:
                    parts.append(self._run(lr[part], None if guide is None else guide[part]))
                    start = part.stop
                    continue
                except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                    _reraise_unless_memory(error)
                self._free()
                if batch > 1:
                    self.batch = min(self.batch, batch // 2)  # other threads may have run out of memory, too
                    warn(f"out of memory on {self.device}: continuing with {self.batch} tiles at a time")
                else:
                    parts.append(self._in_pieces(lr[part], None if guide is None else guide[part]))
                    start = part.stop
        sr = parts[0] if len(parts) == 1 else np.concatenate(parts)  # one part needs no copy
        return sr.astype(lr.dtype, copy=False)

    def in_float32(self) -> NetworkUpscaler:
        """The same model in float32; loaded once.

        Raises:
            CheckpointError: The file was replaced since it was loaded.
        """
        with self._lock:
            if self._exact is None:
                self._exact = self._loaded_again("fp32")
            return self._exact

    def _loaded_again(self, precision: str) -> NetworkUpscaler:
        """The same model in another precision."""
        raise NotImplementedError

    def _computes_in(self, height: int, width: int) -> str:
        return "fp32" if min(height, width) <= NARROW else self.precision

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Exclusive use of a GPU, or a share of the CPU's cores."""
        cores = cores_of_a_block.get()
        if self.device.type == "cuda":
            with self._lock, without_tf32():
                yield
        elif cores is None:
            yield
        else:
            torch.set_num_threads(cores)  # of this thread, and of those that torch meets later
            try:
                yield
            finally:
                torch.set_num_threads(self._threads)

    def _run(self, lr: FloatArray, guide: FloatArray | None) -> FloatArray:
        """Run the network on a batch, padded to the fixed size with copies of its last tile.

        A GPU is held while the work is sent to it, not while it computes: other threads send theirs meanwhile.
        """
        padded, guiding = self._padded(lr), None if guide is None else self._padded(guide)
        with self._turn():
            tensor = sent(padded, self.device)
            sr = self.network(tensor, None if guiding is None else sent(guiding, self.device)).float()
            returning = Returning(self._finished(sr, tensor, padded)[: len(lr)])
        return returning.array()

    def _finished(self, sr: Tensor, lr: Tensor, padded: FloatArray) -> Tensor:
        """The network's result as it leaves the model.

        Args:
            sr: float32, shape (batch, C, scale*h, scale*w).
            lr: Its input, on the same device.
            padded: The same input on the host.
        """
        return sr

    def _padded(self, array: FloatArray) -> NDArray[np.float32]:
        """A batch of the fixed size; float32, contiguous."""
        missing = self.batch - len(array)
        if missing > 0:
            array = np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
        return np.ascontiguousarray(array, np.float32)

    def _in_pieces(self, lr: FloatArray, guide: FloatArray | None) -> FloatArray:
        """Compute one tile as two overlapping halves, each split again if needed."""
        height, width = lr.shape[-2:]
        axis = 2 if height >= width else 3
        side, margin = lr.shape[axis], max(self.facts.halo, self.facts.multiple_of)
        if side <= 2 * margin:
            raise ConfigError(
                f"Cannot upscale a tile of {width} x {height} pixels on {self.device}: out of memory. "
                "Close other programs that use it, or pass --device cpu."
            )
        middle = side // 2 // self.facts.multiple_of * self.facts.multiple_of or side // 2
        warn(f"out of memory on {self.device}: splitting a tile of {width} x {height} pixels")
        halves = []
        for first, last, keep in (
            (0, min(middle + margin, side), slice(0, middle * self.facts.scale)),
            (max(middle - margin, 0), side, slice(min(margin, middle) * self.facts.scale, None)),
        ):
            cut = tuple(slice(first, last) if i == axis else slice(None) for i in range(4))
            piece = self._piece(lr[cut], None if guide is None else guide[cut])
            halves.append(piece[tuple(keep if i == axis else slice(None) for i in range(4))])
        return np.concatenate(halves, axis)

    def _piece(self, lr: FloatArray, guide: FloatArray | None) -> FloatArray:
        try:
            return self._run(lr, guide)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            _reraise_unless_memory(error)
        self._free()
        return self._in_pieces(lr, guide)

    def _free(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _check(self, lr: FloatArray, guide: FloatArray | None) -> None:
        if lr.ndim != 4 or self.facts.bands not in (None, lr.shape[1]):
            raise ConfigError(
                f"Cannot upscale an array of shape {lr.shape} with '{self.facts.name}': "
                f"it takes (N, {self.facts.bands}, h, w)."
            )
        if guide is not None and guide.shape != (len(lr), 3, *lr.shape[2:]):
            raise ConfigError(
                f"Cannot guide an array of shape {lr.shape} by one of shape {guide.shape}: "
                f"it must be {(len(lr), 3, *lr.shape[2:])}."
            )


class TorchUpscaler(_Checkpoint, NetworkUpscaler):
    """A checkpoint as an Upscaler."""

    def __init__(
        self,
        path: str | Path,
        device: str,
        precision: str,
        reopen: Reopen,
        descriptor: Descriptor | None = None,
    ) -> None:
        chosen = choose_device(device)
        precision = choose_precision(precision, chosen)
        if chosen.type == "cpu":
            keep_freed_memory()
        model, card = load_checkpoint(path)
        batch = 1 if chosen.type == "cpu" else _batch_on(chosen, card, precision)
        _Checkpoint.__init__(
            self, path, card, device, precision, reopen,
            descriptor=descriptor, device=chosen.type, batch=batch,
        )  # fmt: skip
        with one_thread():
            model.specialise(BICUBIC if descriptor is None else descriptor).merge_lora()
        model.requires_grad_(False).to(memory_format=torch.channels_last)
        NetworkUpscaler.__init__(self, model.to(chosen, PRECISIONS[precision]), chosen, batch, precision)
        self._sharpness = model.config.base_sharpness
        self._for_sensor: dict[Descriptor, TorchUpscaler] = {}

    def guidance(self, rgb: FloatArray) -> NDArray[np.float32]:
        """The maps that steer the units of the trunk.

        Args:
            rgb: Red, green and blue for the tower, 0 to 1; sides are multiples of `facts.multiple_of`. Shape (3, h, w).

        Returns:
            How well each token of the tower fits the prompt of each unit, shape (units, rows, columns).
        """
        assert isinstance(self.network, SeGSR)
        with torch.inference_mode(), self._turn():
            image = sent(np.ascontiguousarray(rgb[None], np.float32), self.device)
            maps = torch.cat(self.network.guidance(image, image), dim=1)[0].float()
        return np.asarray(maps.cpu().numpy())

    def for_sensor(self, descriptor: Sequence[float]) -> TorchUpscaler:
        """The same model, told how a scene was imaged; loaded once for each descriptor.

        Raises:
            CheckpointError: The file was replaced since it was loaded.
        """
        key = tuple(float(value) for value in descriptor)
        with self._lock:
            if key not in self._for_sensor:
                path, told = _file_for(self.path, key)
                self._for_sensor[key] = self._opened_again(path, self.precision, told)
                if len(self._for_sensor) > _MOST_SENSORS:
                    del self._for_sensor[next(iter(self._for_sensor))]
            return self._for_sensor[key]

    def _loaded_again(self, precision: str) -> TorchUpscaler:
        return self._opened_again(self.path, precision, self.descriptor)

    def _opened_again(self, path: Path, precision: str, told: Descriptor | None) -> TorchUpscaler:
        other = TorchUpscaler(path, self.wanted_device, precision, self.reopen, told)
        if other.path == self.path and other.card.sha256 != self.card.sha256:
            raise CheckpointError(
                f"Cannot use '{self.path}': the file was replaced during the run. Give the command again."
            )
        return other

    def workspace_bytes(self, height: int, width: int) -> int:
        """Bytes of main memory that a call takes for one tile, beside the weights; 0 on a GPU, which has its own."""
        from geosegsr.models.segsr.workspace import workspace_bytes

        if self.device.type != "cpu":
            return 0
        config = SeGSRConfig.from_dict(self.card.config)
        return workspace_bytes(config, height, width, PRECISIONS[self._computes_in(height, width)])

    def _finished(self, sr: Tensor, lr: Tensor, padded: FloatArray) -> Tensor:
        """Flat ground stays flat. The host finds it, so that it need not wait for a GPU."""
        flat = flat_bands(torch.from_numpy(padded))
        return keep_flat(sr, lr, self.facts.scale, self._sharpness, flat)


def _batch_on(device: torch.device, card: ModelCard, precision: str) -> int:
    from geosegsr.models.segsr.workspace import workspace_bytes

    config = SeGSRConfig.from_dict(card.config)
    free, _ = torch.cuda.mem_get_info(device)
    return batch_size(card.tile, workspace_bytes(config, card.tile, card.tile, PRECISIONS[precision]), free)


class DistantUpscaler(_Checkpoint):
    """A checkpoint's facts without its network, for a process that plans what other processes compute.

    It is unpickled as a TorchUpscaler.
    """

    def __init__(
        self,
        path: str | Path,
        device: str,
        precision: str,
        reopen: Reopen,
        descriptor: Descriptor | None = None,
    ) -> None:
        precision = _distant_precision(precision, device)
        super().__init__(path, read_card(path), device, precision, reopen, descriptor=descriptor)

    def for_sensor(self, descriptor: Sequence[float]) -> DistantUpscaler:
        """The facts of the same model, told how a scene was imaged."""
        path, told = _file_for(self.path, tuple(float(value) for value in descriptor))
        return DistantUpscaler(path, self.wanted_device, self.precision, self.reopen, told)

    def __call__(self, lr: FloatArray, guide: FloatArray | None = None) -> FloatArray:
        """Not possible: there is no network in this process."""
        raise AssertionError(f"'{self.facts.name}' was only described in this process")


def _file_for(path: Path, descriptor: Descriptor) -> tuple[Path, Descriptor | None]:
    """The checkpoint for a scene, and what it is told.

    A sharp and clean scene goes through a network that was trained on nothing else, where one lies beside the checkpoint
    under its name with "-clean".
    """
    clean = clean_beside(path)
    return (clean, None) if descriptor == BICUBIC and clean.is_file() else (path, descriptor)


def _distant_precision(name: str, device: str) -> str:
    """One precision for all workers, so that all compute alike: this machine's, or that of GPUs if asked for."""
    if name == "auto":
        return "bf16" if device.startswith("cuda") else choose_precision(name, choose_device(device))
    return choose_precision(name, torch.device("cpu" if device == "cpu" else "cuda"))


def _reraise_unless_memory(error: BaseException) -> None:
    if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate memory" not in str(
        error
    ):
        raise error
