"""A model as an ONNX file, for programs that run such files: onnxruntime, and the Deepness plugin of QGIS."""

from __future__ import annotations

import json
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from geosegsr.errors import CheckpointError, ConfigError, require
from geosegsr.files import whole_file
from geosegsr.models.checkpoint import check_new_file
from geosegsr.models.contract import for_sensor
from geosegsr.models.foreign.onnx_file import TILES
from geosegsr.models.foreign.program import TileSizes
from geosegsr.models.inference import TorchUpscaler
from geosegsr.models.segsr.config import BICUBIC
from geosegsr.models.segsr.enlarge import bicubic
from geosegsr.models.segsr.flat import flat_share
from geosegsr.models.segsr.network import SeGSR

MOST_DIFFERENCE = 1e-4
"""From torch, in the model's range: a fortieth of a DN of 8 bits."""
_OPSET = 18
_EXAMPLE = (2, 43, 58)  # a batch whose sides are no multiple of anything
_TRIED = ((1, 48, 48), (1, 64, 32), (2, 43, 58), (3, 33, 47))


@dataclass(frozen=True)
class Exported:
    """An ONNX file that was written and tried."""

    path: str
    name: str
    """Of the model."""
    scale: int
    bands: int
    bytes: int
    largest_difference: float
    """Between onnxruntime and torch, in the model's range, over random images of several sizes."""


def require_packages() -> None:
    """Refuse before the work.

    Raises:
        MissingPackageError: The packages of the extra `onnx` are not installed.
    """
    require("onnx", "export a model", "onnx", "onnxruntime", "onnxscript")


def export_onnx(
    upscaler: TorchUpscaler,
    target: Path,
    *,
    descriptor: Sequence[float] = BICUBIC,
    tile: int | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a model as an ONNX file, after onnxruntime gave the same values as torch.

    Its input `lr`, float32 of shape (N, C, h, w) in the model's range (0 to 1), becomes `sr`, float32 of shape
    (N, C, scale*h, scale*w), not clipped.

    Args:
        upscaler: A checkpoint on the CPU, in float32.
        target: Ends in .onnx.
        descriptor: How the scenes were imaged, see `segsr.config.DESCRIPTOR`; the network is told once and for all.
        tile: Side that every input must have, one image at a time, as Deepness needs; None for any batch and size.
        overwrite: Whether to replace an existing file.

    Raises:
        ConfigError: The packages for it are not installed, the tiles do not suit the model, or ONNX cannot express the
            network.
        CheckpointError: The file cannot be written, or computes other values.
        JobError: The target exists.
    """
    require_packages()
    import onnx

    _check(target, upscaler, tile, overwrite=overwrite)
    told = for_sensor(upscaler, descriptor)
    assert isinstance(told, TorchUpscaler) and isinstance(told.network, SeGSR)
    network = _Whole(told.network)
    shape = _EXAMPLE if tile is None else (1, tile, tile)
    written = _converted(network, shape, dynamic=tile is None, name=told.card.name)
    _name_dimensions(written)
    for key, value in _properties(told, descriptor, tile).items():
        written.metadata_props.add(key=key, value=json.dumps(value))
    onnx.checker.check_model(written)
    data = written.SerializeToString()
    off = _difference(data, network, _TRIED if tile is None else (shape,), told.card.bands)
    if not off <= MOST_DIFFERENCE:
        raise CheckpointError(
            f"Cannot export '{told.card.name}': onnxruntime computes other values than torch (by {off:.2g} of the "
            "range). Install another version of onnxruntime or torch."
        )
    try:
        with whole_file(target, sync=True, replace=overwrite) as file:
            file.write(data)
    except OSError as error:
        raise CheckpointError(f"Cannot write '{target}': {error.strerror or error}.") from error
    return Exported(str(target), told.card.name, told.card.scale, told.card.bands, len(data), off)


class _Whole(nn.Module):
    """What `TorchUpscaler` computes, without branches on the pixels: the network, and flat ground kept flat."""

    def __init__(self, network: SeGSR) -> None:
        super().__init__()
        self.network = network

    def forward(self, lr: Tensor) -> Tensor:
        config = self.network.config
        share = F.interpolate(flat_share(lr), scale_factor=float(config.scale), mode="bilinear")
        return torch.lerp(self.network(lr), bicubic(lr, config.scale, config.base_sharpness), share)


def _check(target: Path, upscaler: TorchUpscaler, tile: int | None, *, overwrite: bool) -> None:
    check_new_file(target, ".onnx", "the name of an ONNX file", overwrite=overwrite)
    card = upscaler.card
    if tile is not None and (tile < card.min_size or tile % card.multiple_of):
        raise ConfigError(
            f"Cannot export '{card.name}' for tiles of {tile} pixels: it needs at least {card.min_size}, and a multiple "
            f"of {card.multiple_of}. Pass --tile {card.tile}."
        )


def _converted(network: nn.Module, shape: tuple[int, int, int], *, dynamic: bool, name: str) -> Any:
    """The network as an onnx.ModelProto."""
    n, height, width = shape
    example = torch.rand(n, network.network.config.bands, height, width)  # type: ignore[union-attr,arg-type]
    dimension = torch.export.Dim.DYNAMIC
    shapes = {0: dimension, 2: dimension, 3: dimension} if dynamic else None
    with torch.no_grad(), _without_remarks():
        network(example)  # fills the caches of kernels, which cannot be computed inside a graph
        try:
            program = torch.export.export(network, (example,), dynamic_shapes=(shapes,), strict=False)
            found = torch.onnx.export(
                program,
                dynamo=True,
                input_names=["lr"],
                output_names=["sr"],
                opset_version=_OPSET,
                verbose=False,
            )
        except Exception as error:  # torch has a dozen kinds, some of them private
            reason = str(error).strip().splitlines()[0]
            raise ConfigError(
                f"Cannot export '{name}': ONNX cannot express its network ({reason}). Export a model of the preset compact."
            ) from error
    assert found is not None
    return found.model_proto


@contextmanager
def _without_remarks() -> Iterator[None]:
    """The exporter reports each step of its own."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _name_dimensions(model: Any) -> None:
    """Replace the exporter's names of dynamic dimensions by batch, height and width."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    names = {
        dim.dim_param: name
        for dim, name in zip(dims, ("batch", "bands", "height", "width"), strict=True)
        if dim.dim_param
    }
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            for old, new in names.items():
                if dim.dim_param:
                    dim.dim_param = dim.dim_param.replace(old, new)
    del model.graph.value_info[:]


def _properties(told: TorchUpscaler, descriptor: Sequence[float], tile: int | None) -> dict[str, Any]:
    """The file's metadata: what Deepness reads, and the card.

    Deepness reads `model_type`, `tile_size` in pixels and `tiles_overlap` in percent, each as JSON.
    """
    card = told.card
    side = tile or card.tile
    own = ("name", "scale", "bands", "band_names", "radiometry", "trained_on", "licence", "notes", "sha256")
    return {
        "model_type": "Superresolution",
        "tile_size": side,
        "tiles_overlap": min(math.ceil(100 * told.facts.overlap / side), 90),
        "geosegsr": {name: value for name, value in card.to_dict().items() if name in own},
        TILES: None if tile else {name: getattr(told.facts, name) for name in TileSizes.__annotations__},
        "geosegsr_sensor": [round(float(value), 6) for value in descriptor],
    }


def _difference(data: bytes, network: nn.Module, shapes: Sequence[tuple[int, int, int]], bands: int) -> float:
    """The largest difference between onnxruntime and torch over random images, a part of each constant."""
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    off = 0.0
    for n, height, width in shapes:
        lr = rng.random((n, bands, height, width), np.float32)
        lr[..., : height // 2, : width // 2] = 0.5
        with torch.inference_mode():
            expected = network(torch.from_numpy(lr)).numpy()
        off = max(off, float(np.abs(session.run(None, {"lr": lr})[0] - expected).max()))
    return off
