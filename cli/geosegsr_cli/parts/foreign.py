"""Options for networks of other projects, whose files do not say everything."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from geosegsr.models.contract import Upscaler

Function = TypeVar("Function", bound=Callable[..., Any])


def foreign_options(function: Function) -> Function:
    """Add --trust-model and --model-range."""
    span = click.option(
        "--model-range", type=float, nargs=2, metavar="LO HI",
        help="What a network of another project takes for black and white: 0 1 (default), or 0 255.",
    )  # fmt: skip
    trust = click.option(
        "--trust-model", is_flag=True,
        help="Run the program in a TorchScript or torch.export file. It can do anything you can.",
    )  # fmt: skip
    return trust(span(function))


def opened(
    model: str, *, trust_model: bool, model_range: tuple[float, float] | None, device: str, precision: str
) -> str | Upscaler:
    """The model as it was named, or opened where these options say how."""
    if not trust_model and model_range is None:
        return model
    from geosegsr.files import temporary_folder
    from geosegsr.models.catalogue import is_foreign, load_foreign

    if not is_foreign(model):
        raise click.UsageError(
            f"--trust-model and --model-range are for a network of another project, and '{model}' is none. Leave them out."
        )
    click.get_current_context().with_resource(temporary_folder())  # torch wants one as soon as it is loaded
    return load_foreign(
        model, device=device, precision=precision, trusted=trust_model, span=model_range or (0.0, 1.0)
    )
