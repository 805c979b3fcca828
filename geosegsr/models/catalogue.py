"""Models by name or file: interpolations, bundled checkpoints, checkpoint files."""

from __future__ import annotations

import re
import threading
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from geosegsr.errors import CheckpointError, ConfigError, did_you_mean
from geosegsr.files import is_file
from geosegsr.models import interpolation
from geosegsr.models.card import SEGSR
from geosegsr.models.checkpoint import has_card, holds_tensors, read_card
from geosegsr.models.contract import BUNDLED, Upscaler, for_sensor
from geosegsr.models.library import find_in_library
from geosegsr.models.segsr.config import SCALES

if TYPE_CHECKING:
    from geosegsr.models.inference import DistantUpscaler, TorchUpscaler

_loaded: dict[tuple[str, int, str, str], Upscaler] = {}
_loading = threading.Lock()
_BUILT_IN = (BUNDLED, *interpolation.KERNELS)
FOREIGN_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".onnx", ".pt2", ".ts")
"""Of files that hold networks of other projects; theirs may be .safetensors too."""
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
_FOLDER = Path(__file__).resolve().parents[1] / "weights"


def resolve_upscaler(
    model: str | Path | Upscaler,
    scale: int,
    *,
    device: str = "auto",
    precision: str = "auto",
    elsewhere: bool = False,
) -> Upscaler:
    """The model for a name or a checkpoint file; an Upscaler is returned as it is.

    Args:
        model: "bundled"; "nearest", "bilinear", "bicubic" or "lanczos"; a name of the library; the path of a .safetensors
            checkpoint, or of another project's network (`load_foreign`); or an Upscaler.
        scale: Output pixels per input pixel, along each side.
        device: "auto", "cpu", "cuda" or "cuda:N"; interpolation always runs on the CPU.
        precision: "auto", "fp32", "bf16" or "fp16"; interpolation ignores it.
        elsewhere: Whether only other processes compute with it, on their own devices. A checkpoint is then
            described, not loaded.

    Raises:
        ConfigError: No such model, or it was made for another scale.
        CheckpointError: The file is not a checkpoint.
    """
    model = located(model)
    if not isinstance(model, str | Path):
        found = model
    elif str(model) in interpolation.KERNELS:
        if not _DEVICE.fullmatch(device):
            raise ConfigError(
                f"Cannot run on device '{device}': a device is auto, cpu, cuda or cuda:N. Pass --device auto."
            )
        found = interpolation.Interpolator(str(model), scale)
    elif model == BUNDLED or Path(model).suffix == ".safetensors" or is_file(model):
        path = bundled_checkpoint(scale) if model == BUNDLED else Path(model)
        if is_foreign(path):
            found = load_foreign(path, device=device, precision=precision)
        else:
            found = (describe_upscaler if elsewhere else load_upscaler)(
                path, device=device, precision=precision
            )
    else:
        raise _unknown(model)
    if not isinstance(found, Upscaler):
        raise ConfigError(
            f"Cannot use an object of type '{type(found).__name__}' as a model: it has no 'facts', or cannot be called. "
            "Pass a model's name, a checkpoint file or an Upscaler."
        )
    if found.facts.scale != scale:
        raise ConfigError(
            f"Cannot upscale by {scale} with model '{found.facts.name}': it was made for a scale of {found.facts.scale}. "
            f"Pass --scale {found.facts.scale}, or another model."
        )
    return found


def located(model: str | Path | Upscaler) -> str | Path | Upscaler:
    """The file of a model that was added under a name; anything else as it is.

    Built-in names come first, then files, then the user's folder.
    """
    if not isinstance(model, str | Path) or str(model) in _BUILT_IN or is_file(model):
        return model
    return find_in_library(model) or model


def shared_upscaler(
    model: str | Path | Upscaler,
    scale: int,
    *,
    device: str = "auto",
    precision: str = "auto",
    elsewhere: bool = False,
) -> Upscaler:
    """Like `resolve_upscaler`, but loaded once for all threads of this process.

    Only the last model stays loaded. A checkpoint file that changed is loaded anew.
    """
    if elsewhere or not isinstance(model, str | Path):
        return resolve_upscaler(model, scale, device=device, precision=precision, elsewhere=elsewhere)
    model = located(model)
    assert isinstance(model, str | Path)
    path = Path(model)
    version = f"{model} {path.stat().st_mtime_ns}" if is_file(path) else str(model)
    key = (version, scale, device, precision)
    with _loading:
        if key not in _loaded:
            found = resolve_upscaler(model, scale, device=device, precision=precision)
            _loaded.clear()
            _loaded[key] = found
        return _loaded[key]


def model_at(scale: int, model: str | Path | Upscaler) -> str | Upscaler:
    """What enlarges pixels: the model, as a name or an object; at a scale of 1 they stay as they are.

    Raises:
        ConfigError: A model is chosen, and none runs at a scale of 1.
    """
    if scale == 1:
        if not isinstance(model, str | Path):
            raise _runs_nowhere(f"'{model.facts.name}'" if isinstance(model, Upscaler) else "the model")
        if str(model) not in (BUNDLED, "nearest"):
            known = str(model) in _BUILT_IN or is_file(str(located(model)))
            raise _runs_nowhere(f"'{model}'") if known else _unknown(model)
        return "nearest"
    return str(model) if isinstance(model, Path) else model


def _runs_nowhere(named: str) -> ConfigError:
    return ConfigError(
        f"Cannot use model {named} at --scale 1: no model runs there, for the result ends at the guide's grid. "
        "Leave --model out, or pass --scale 2."
    )


def _unknown(model: str | Path) -> ConfigError:
    return ConfigError(
        f"Cannot find a model '{model}': it is neither a file nor a built-in model ({', '.join(_BUILT_IN)}), nor one that "
        f"geosegsr models lists.{did_you_mean(str(model), _BUILT_IN)} Pass --model NAME or --model FILE.safetensors."
    )


def check_scale(scale: int, *, guided: bool = False) -> None:
    """Refuse a scale that no model can have.

    Args:
        scale: Output pixels per input pixel, along each side.
        guided: Whether a guide sharpens the scene. Then 1 stops at the guide's grid.
    """
    if scale == 1 and not isinstance(scale, bool):
        if guided:
            return
        raise ConfigError(
            "Cannot upscale by 1: that stops at the grid of a guide, and there is none. "
            "Pass --guide FILE, a sharper raster of the same ground, or --scale 4."
        )
    if isinstance(scale, bool) or scale not in SCALES:
        raise ConfigError(
            f"Cannot upscale by {scale}: the scale must be one of {', '.join(map(str, SCALES))}. Pass --scale 4."
        )


def bundled_checkpoints() -> tuple[Path, ...]:
    """All checkpoint files of the installed package, by name."""
    return tuple(sorted(_FOLDER.glob("*-x[2348].safetensors")))


@lru_cache
def bundled_checkpoint(scale: int) -> Path:
    """The checkpoint for a scale.

    Raises:
        ConfigError: There is none.
    """
    scales = {read_card(path).scale: path for path in bundled_checkpoints()}
    if scale not in scales:
        known = ", ".join(map(str, sorted(scales))) or "none"
        raise ConfigError(
            f"Cannot find a bundled model for a scale of {scale}: there are models for {known}. "
            "Pass --model bicubic or --model FILE.safetensors, or another --scale."
        )
    return scales[scale]


def load_upscaler(path: str | Path, *, device: str = "auto", precision: str = "auto") -> TorchUpscaler:
    """Open a checkpoint for inference.

    Args:
        path: A .safetensors checkpoint.
        device: "auto" (a CUDA device if there is one), "cpu", "cuda" or "cuda:N".
        precision: "fp32", "bf16", "fp16" (CUDA only), or "auto": bf16 where the hardware has it, else fp32.

    Raises:
        CheckpointError: The file is not a checkpoint.
        ConfigError: There is no such device, or it does not know the precision.
    """
    from geosegsr.models.inference import TorchUpscaler

    return TorchUpscaler(path, device, precision, reopen)


def is_foreign(path: str | Path) -> bool:
    """Whether a file holds the network of another project: by its suffix, or by the architecture in its card."""
    suffix = Path(path).suffix.lower()
    if suffix == ".safetensors" and has_card(path):
        return read_card(path).architecture != SEGSR
    return suffix in FOREIGN_SUFFIXES or (suffix == ".safetensors" and is_file(path) and holds_tensors(path))


def load_foreign(
    path: str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    trusted: bool = False,
    span: tuple[float, float] = (0.0, 1.0),
) -> Upscaler:
    """Open the network of another project.

    Args:
        path: Tensors of an architecture that spandrel knows, ONNX, TorchScript, or a torch.export program.
        device: As in `load_upscaler`.
        precision: Likewise, but "auto" is fp32.
        trusted: Whether a program in the file may run: TorchScript and torch.export can do anything you can.
        span: What the network takes for black and white: (0, 1), or (0, 255).

    Raises:
        CheckpointError: The file is damaged or foreign, or holds a program that is not trusted.
        ConfigError: A package that it needs is not installed; there is no such device or range.
    """
    from geosegsr.models.foreign.upscaler import ForeignUpscaler

    return ForeignUpscaler(path, device, precision, trusted=trusted, span=span)


def describe_upscaler(path: str | Path, *, device: str = "auto", precision: str = "auto") -> DistantUpscaler:
    """The facts of a checkpoint, for planning; arguments as in `load_upscaler`, but the device is a worker's.

    Raises:
        CheckpointError: The file is not a checkpoint; only its header is read.
        ConfigError: There is no such precision.
    """
    from geosegsr.models.inference import DistantUpscaler

    return DistantUpscaler(path, device, precision, reopen)


def reopen(
    path: str, device: str, precision: str, checksum: str, descriptor: tuple[float, ...] | None = None
) -> Upscaler:
    """Open the model that another process described or loaded; called by unpickling.

    Args:
        path: Of the checkpoint; one of this package is found wherever the package lies here.
        device: As in `load_upscaler`.
        precision: Likewise.
        checksum: SHA-256 of the tensors, as the card says.
        descriptor: Of the scene's sensor, if the model was told one.

    Raises:
        CheckpointError: The file of that name is another one here.
    """
    own = _FOLDER / Path(path).name
    if own.is_file() and not Path(path).is_file():
        path = str(own)  # a model of this package, which is installed elsewhere here
    card = read_card(path)
    upscaler = shared_upscaler(path, card.scale, device=device, precision=precision)
    if card.sha256 != checksum:
        raise CheckpointError(
            f"Cannot use '{path}': it is not the file that this run was planned with. "
            "Give every worker the same file, or start again."
        )
    return upscaler if descriptor is None else for_sensor(upscaler, descriptor)
