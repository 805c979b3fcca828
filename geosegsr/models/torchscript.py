"""The tensors of a TorchScript archive, such as OpenAI's ViT-B-16.pt, without running the program in it.

An archive is a zip file: `data.pkl` is a pickle of the module's attributes, `data/N` are the bytes of its tensors, and
`code/` is the program, which is not read. The pickle can name nothing but the inert classes of this module; the tensors
are made afterwards, from what it says of them.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from geosegsr.errors import CheckpointError

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, rather than one that torch.save wrote."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """The parameters and buffers of an archive's module, by the names of its state dict.

    Tensors of a module that several others share are given once, under one of its names.

    Raises:
        CheckpointError: The archive is damaged, or not made as torch makes them.
        UnpicklingError: It names functions or classes that could do harm; they were not called.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            contents = _Contents(archive)
            module = _Unpickler(contents.read("data.pkl")).load()
            return {name: _made(tensor, contents) for name, tensor in _tensors(module).items()}
    except (zipfile.BadZipFile, NotImplementedError, OverflowError) as error:
        raise CheckpointError(f"it is a damaged TorchScript archive ({error}).") from error


class _Contents:
    """The files of an archive, each read once."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        found = [n for n in archive.namelist() if n.endswith("/data.pkl") and n.count("/") == 1]
        if len(found) != 1:
            raise CheckpointError("it is a damaged TorchScript archive (no data.pkl, or several).")
        self._archive = archive
        self._folder = found[0].removesuffix("data.pkl")  # named after the file that torch wrote
        self._known: dict[str, bytearray] = {}

    def read(self, name: str) -> bytearray:
        if name not in self._known:
            try:
                entry = self._archive.getinfo(self._folder + name)
            except KeyError as error:
                raise CheckpointError(f"it is a damaged TorchScript archive ({name} is missing).") from error
            if (
                entry.compress_type != zipfile.ZIP_STORED
            ):  # torch compresses none, and unpacking knows no bound
                raise CheckpointError(f"it is not an archive as torch writes them ({name} is compressed).")
            self._known[name] = bytearray(self._archive.read(entry))
        return self._known[name]


class _Storage(NamedTuple):
    dtype: torch.dtype
    key: str
    """Name of its file in the archive's folder `data`."""


class _Inert:
    """Stands for what is no tensor and no module, such as a typed list or a device."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


class _Module(_Inert):
    """Stands for any module: its attributes, and no behaviour."""

    attributes: Any = None

    def __setstate__(self, state: Any) -> None:
        self.attributes = state


class _StoredTensor(_Inert):
    """A tensor's place in a storage, from the arguments of torch._utils._rebuild_tensor_v2."""

    def __init__(
        self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
    ) -> None:
        self.storage = storage
        self.offset = offset  # in elements, as the strides
        self.shape = shape
        self.strides = strides


class _Unpickler(pickle.Unpickler):
    """Reads a pickle in which every name stands for something inert."""

    def __init__(self, pickled: bytearray) -> None:
        for step, argument, _ in pickletools.genops(bytes(pickled)):
            if "PUT" in step.name and isinstance(argument, int) and argument > len(pickled):
                raise pickle.UnpicklingError("a memo lies beyond the pickle's length")  # a table of that size
        super().__init__(io.BytesIO(pickled))

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "__torch__":
            return _Module
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _StoredTensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module == "torch.jit._pickle" or (module, name) in (
            ("collections", "OrderedDict"),
            ("torch", "device"),
        ):
            return _Inert
        raise pickle.UnpicklingError(f"'{module}.{name}' is not part of a TorchScript module")

    def persistent_load(self, reference: Any) -> _Storage:
        kind, dtype, key, _location, _count = reference
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise pickle.UnpicklingError("a persistent reference is not to a tensor's data")
        return _Storage(dtype, key)


def _tensors(root: Any) -> dict[str, _StoredTensor]:
    """Tensors of a module and of the modules inside it, each of which is visited once, whatever refers to it."""
    found: dict[str, _StoredTensor] = {}
    seen: set[int] = set()
    waiting = [("", root)]
    while waiting:
        prefix, module = waiting.pop()
        if id(module) in seen or not isinstance(module.attributes, dict):
            continue
        seen.add(id(module))
        for name, value in module.attributes.items():
            if isinstance(value, _StoredTensor):
                found[f"{prefix}{name}"] = value
            elif isinstance(value, _Module):
                waiting.append((f"{prefix}{name}.", value))
    return found


def _made(tensor: _StoredTensor, contents: _Contents) -> Tensor:
    """A tensor over the bytes of its storage; refuses one that holds more than they, or reaches beyond them."""
    dtype = tensor.storage.dtype
    if not math.prod(tensor.shape):
        return torch.empty(tensor.shape, dtype=dtype)
    stored = contents.read(f"data/{tensor.storage.key}")
    held = len(stored) // dtype.itemsize
    if math.prod(tensor.shape) > held:
        raise CheckpointError("it is a damaged TorchScript archive (a tensor is larger than its data).")
    flat = torch.frombuffer(stored, dtype=dtype, count=held)
    return flat.as_strided(tensor.shape, tensor.strides, tensor.offset)  # checks bounds itself
