"""The contract between the raster pipeline and whatever model enlarges its tiles."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from geosegsr.paths import is_file

FloatArray: TypeAlias = NDArray[np.floating[Any]]

BUNDLED = "bundled"
"""The name of the model of this package that fits the scale."""


@runtime_checkable
class Upscaler(Protocol):
    """A model as the pipeline sees it: pixels in, more pixels out, and the few facts needed to tile a scene.

    Calling it is deterministic and depends on nothing but its arguments: the pipeline computes a tile
    again in another block, or another process, and relies on the same values coming out.
    """

    @property
    def name(self) -> str:
        """What a person calls the model; written into the tags of the result."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the model would compute other values; part of the key of a resumable job."""

    @property
    def scale(self) -> int:
        """Output pixels per input pixel, along each side."""

    @property
    def bands(self) -> int | None:
        """Bands the model takes together; None if it treats every band alone and so takes any number."""

    @property
    def tile(self) -> int:
        """Side of a tile that suits the model, in lr pixels."""

    @property
    def overlap(self) -> int:
        """Pixels that neighbouring tiles should share, in lr pixels; at least twice the halo."""

    @property
    def halo(self) -> int:
        """Margin of a tile that is context only: results closer to an inner edge are not used (lr pixels)."""

    @property
    def multiple_of(self) -> int:
        """Tile sides must be a multiple of this."""

    @property
    def min_size(self) -> int:
        """The smallest tile side the model accepts, in lr pixels."""

    @property
    def batch(self) -> int:
        """Tiles handed over in one call, at most."""

    @property
    def linear(self) -> bool:
        """True if output follows input in offset and gain, so that DN pass through without a model range."""

    def __call__(self, lr: FloatArray, guide: FloatArray | None = None) -> FloatArray:
        """Enlarge a batch of tiles; several threads may call at a time.

        Args:
            lr: float32 (float64 too, for a linear model), shape (N, C, h, w), in the model's range
                (0 to 1 unless the model is linear); no NaN.
            guide: Red, green, blue of the same ground, shape (N, 3, h, w), same dtype and range, for a model
                whose guidance comes from colours that `lr` does not hold; None to use `lr` itself.

        Returns:
            Same dtype, shape (N, C, scale*h, scale*w), not clipped.
        """


def resolve_upscaler(
    model: str | Path | Upscaler,
    scale: int,
    *,
    device: str = "auto",
    precision: str = "auto",
    elsewhere: bool = False,
) -> Upscaler:
    """The model behind a name, a checkpoint file or an Upscaler that is already one.

    Args:
        model: "bundled"; "nearest", "bilinear", "bicubic" or "lanczos"; the path of a .safetensors checkpoint; or an
            Upscaler.
        scale: Output pixels per input pixel, along each side.
        device: "auto", "cpu", "cuda" or "cuda:N"; interpolation always runs on the CPU.
        precision: "auto", "fp32", "bf16" or "fp16"; interpolation ignores it.
        elsewhere: Whether only other processes compute with it, on devices of their own: a checkpoint is then
            described and not loaded.

    Raises:
        ConfigError: No such model, or it was made for another scale.
        CheckpointError: The file is not a checkpoint.
    """
    from geosegsr import interpolation
    from geosegsr.bundled import bundled_checkpoint
    from geosegsr.errors import ConfigError

    if not isinstance(model, str | Path):
        found = model
    elif str(model) in interpolation.KERNELS:
        found = interpolation.Interpolator(str(model), scale)
    elif model == BUNDLED or Path(model).suffix == ".safetensors" or is_file(model):
        from geosegsr.inference import describe_upscaler, load_upscaler

        path = bundled_checkpoint(scale) if model == BUNDLED else Path(model)
        found = (describe_upscaler if elsewhere else load_upscaler)(path, device=device, precision=precision)
    else:
        names = ", ".join([BUNDLED, *interpolation.KERNELS])
        raise ConfigError(
            f"Cannot find a model '{model}': it is no file and none of the built-in ones ({names}). "
            "Pass --model NAME or --model FILE.safetensors."
        )
    if found.scale != scale:
        raise ConfigError(
            f"Cannot upscale by {scale} with model '{found.name}': it was made for a scale of {found.scale}. "
            f"Pass --scale {found.scale}, or another model."
        )
    return found


def workspace_bytes(upscaler: Upscaler, height: int, width: int) -> int:
    """Memory that a call takes for a tile of lr pixels, beside what it is given and gives; 0 for a model that does not say."""
    tell = getattr(getattr(upscaler, "base", upscaler), "workspace_bytes", None)
    return 0 if tell is None else int(tell(height, width))


_loaded: dict[tuple[str, int, str, str], Upscaler] = {}
_loading = threading.Lock()


def shared_upscaler(
    model: str | Path | Upscaler,
    scale: int,
    *,
    device: str = "auto",
    precision: str = "auto",
    elsewhere: bool = False,
) -> Upscaler:
    """As `resolve_upscaler`, loaded once for all threads of this process.

    Only the last model stays loaded. A checkpoint file that changed is loaded anew.
    """
    if elsewhere or not isinstance(model, str | Path):
        return resolve_upscaler(model, scale, device=device, precision=precision, elsewhere=elsewhere)
    path = Path(model)
    version = f"{model} {path.stat().st_mtime_ns}" if is_file(path) else str(model)
    key = (version, scale, device, precision)
    with _loading:
        if key not in _loaded:
            found = resolve_upscaler(model, scale, device=device, precision=precision)
            _loaded.clear()
            _loaded[key] = found
        return _loaded[key]
