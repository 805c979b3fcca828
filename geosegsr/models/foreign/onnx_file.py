"""ONNX files, through onnxruntime. They hold a graph of known operators, and no code."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geosegsr.errors import CheckpointError, ConfigError, require
from geosegsr.models.foreign.program import Program, TileSizes

TILES = "geosegsr_tiles"
"""Key of the metadata under which `geosegsr export` says how its network is tiled."""
_LARGEST = 4096
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


def onnx_program(path: Path, device: torch.device) -> Program:
    """The graph of an ONNX file with one image in and one image out.

    Raises:
        CheckpointError: The file is damaged, or its input is no (N, bands, h, w) array of floats.
        ConfigError: onnxruntime is not installed, or cannot compute on the device.
    """
    session = _session(path, device)
    taken = session.get_inputs()
    shape: list[int | str] = taken[0].shape if taken else []
    if len(taken) != 1 or len(shape) != 4 or taken[0].type not in _TYPES:
        found = ", ".join(f"{entry.name} {entry.type} {entry.shape}" for entry in taken)
        raise CheckpointError(
            f"it takes {found[:200] or 'nothing'}, and one array (N, bands, h, w) of floats is needed"
        )
    rows, cols = (side if isinstance(side, int) else None for side in shape[2:])
    if rows != cols:
        raise CheckpointError(f"it takes images of {cols} x {rows} pixels only, and square tiles are needed")
    dtype, name, one = _TYPES[taken[0].type], taken[0].name, shape[0] == 1

    def run(array: Any) -> Any:
        return session.run(None, {name: array})[0]

    def call(lr: Tensor) -> Tensor:
        array = lr.cpu().numpy().astype(dtype)
        sr = np.concatenate([run(array[i : i + 1]) for i in range(len(array))]) if one else run(array)
        return torch.from_numpy(sr.astype(np.float32)).to(lr.device)

    return Program(
        "ONNX",
        call,
        bands=shape[1] if isinstance(shape[1], int) else 3,
        fixed=rows,
        sizes=None if rows else _told(session),
    )


def _told(session: Any) -> TileSizes | None:
    """What the file says of its tiles, if it says something that can be."""
    try:
        said = json.loads(session.get_modelmeta().custom_metadata_map.get(TILES, "null"))
        sizes = TileSizes(**{name: int(said[name]) for name in TileSizes.__annotations__})  # type: ignore[typeddict-item]
    except (ValueError, TypeError, KeyError):
        return None
    fits = (
        1 <= sizes["min_size"] <= sizes["tile"] <= _LARGEST
        and sizes["multiple_of"] >= 1
        and sizes["tile"] % sizes["multiple_of"] == 0
        and 0 <= 2 * sizes["halo"] <= sizes["overlap"] < sizes["tile"]
    )
    return sizes if fits else None


def _session(path: Path, device: torch.device) -> Any:
    require("onnx", f"use '{path}'", "onnxruntime")
    import onnxruntime

    provider = "CPUExecutionProvider" if device.type == "cpu" else "CUDAExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise ConfigError(
            f"Cannot run '{path}' on {device}: this onnxruntime is made for the CPU. "
            "Install onnxruntime-gpu in its place, or pass --device cpu."
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads()))
    chosen = (provider, {"device_id": device.index or 0}) if device.type == "cuda" else provider
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[chosen])
    except Exception as error:  # onnxruntime's own classes are not public
        raise CheckpointError(f"it is damaged, or no ONNX file ({str(error)[:200]})") from error
