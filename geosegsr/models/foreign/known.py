"""State dicts of known architectures, through spandrel: ESRGAN, SwinIR, HAT, DAT, SPAN, PLKSR and many more.

Only tensors are read from a file. The networks are spandrel's own code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from geosegsr.errors import CheckpointError, ConfigError, require
from geosegsr.models.foreign.program import Program

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

_HALF = {torch.float16: "supports_half", torch.bfloat16: "supports_bfloat16"}


def known_program(
    tensors: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype = torch.float32
) -> Program:
    """The network that a state dict belongs to.

    Raises:
        CheckpointError: Spandrel knows no such architecture, the file is incomplete, or it does not enlarge images.
        ConfigError: Spandrel is not installed, or the network cannot compute in this type.
    """
    found = known_network(tensors)
    name = found.architecture.name
    if dtype in _HALF and not getattr(found, _HALF[dtype]):
        raise ConfigError(
            f"Cannot compute a network of architecture {name} in 16 bits. Pass --precision fp32."
        )
    found.to(device, dtype).eval()
    return program_of(found)


def known_network(tensors: Mapping[str, Tensor]) -> ImageModelDescriptor[Any]:
    """The network that a state dict belongs to, with what spandrel knows of it; float32, on the CPU.

    Raises:
        CheckpointError: As of `known_program`.
        ConfigError: Spandrel is not installed.
    """
    found = _descriptor(tensors)
    name = found.architecture.name
    if found.purpose != "SR" or found.input_channels != found.output_channels:
        raise CheckpointError(
            f"it is a network of architecture {name} for another purpose ({found.purpose}, "
            f"{found.input_channels} bands to {found.output_channels}): it does not enlarge images"
        )
    return found


def program_of(found: ImageModelDescriptor[Any]) -> Program:
    """How to call a network, and what it takes."""
    # The descriptor's own call clips its results to 0..1, and reflectance may lie beyond.
    run, network = found._call_fn, found.model
    return Program(
        architecture=found.architecture.name,
        call=lambda lr: run(network, lr.clone()),  # RCAN scales its input in place
        bands=found.input_channels,
        multiple_of=found.size_requirements.multiple_of,
        min_size=max(1, found.size_requirements.minimum),
        windows=tuple(_windows(network)),
    )


def picked(contents: Any) -> dict[str, Tensor]:
    """The tensors of a network among what a training program saved, by the names that spandrel knows.

    Raises:
        CheckpointError: There are none.
    """
    require("spandrel", "use a network of another project", "spandrel")
    import spandrel

    table = spandrel.canonicalize_state_dict(contents) if isinstance(contents, Mapping) else {}
    tensors = {str(name): value for name, value in table.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError("it holds no table of tensors")
    return tensors


def _windows(network: torch.nn.Module) -> Iterator[int]:
    """Sides of windows, by the attributes that such networks have."""
    for name in ("window_size", "split_size"):
        found = getattr(network, name, ())
        yield from (
            side for side in (found if isinstance(found, list | tuple) else (found,)) if isinstance(side, int)
        )


def _descriptor(tensors: Mapping[str, Tensor]) -> ImageModelDescriptor[Any]:
    require("spandrel", "use a network of another project", "spandrel")
    import spandrel

    try:
        found = spandrel.ModelLoader("cpu").load_from_state_dict(dict(tensors))
    except spandrel.UnsupportedModelError as error:
        raise CheckpointError("spandrel knows no architecture that has its tensors") from error
    except Exception as error:  # detection reads shapes and names of tensors that may be anybody's
        raise CheckpointError(f"its tensors are not those of a complete network ({error})") from error
    if not isinstance(found, spandrel.ImageModelDescriptor) or found.size_requirements.square:
        raise CheckpointError(f"a network of architecture {found.architecture.name} cannot be run on tiles")
    return found
