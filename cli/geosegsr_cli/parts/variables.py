"""Every option can also come from the environment: --scale of upscale from GEOSEGSR_UPSCALE_SCALE."""

from __future__ import annotations

import os
from collections.abc import Iterator

import click
from click.core import ParameterSource

from geosegsr.errors import did_you_mean


def prefix(command: str) -> str:
    """The prefix of a command's environment variables."""
    return f"GEOSEGSR_{command.upper()}_"


def name_variables(command: click.Command) -> None:
    """Give each option of a command its variable, named after its long form, and mention it in the help."""
    options = list(_options(command))
    for option in options:
        option.envvar = prefix(str(command.name)) + _long_name(option).upper().replace("-", "_")
    if options:
        command.epilog = (
            f"Each option can also be set by an environment variable, such as {options[0].envvar} for "
            f"{_long_name(options[0], dashes=True)}. The command line takes precedence."
        )


def refuse_unknown(command: click.Command, ctx: click.Context) -> None:
    """Refuse a variable with the command's prefix that belongs to no option: it is most likely a typo.

    Raises:
        click.UsageError: There is one.
    """
    known = [str(option.envvar) for option in _options(command)]
    for name in sorted(os.environ):
        if name.startswith(prefix(str(command.name))) and name not in known:
            hint = did_you_mean(name, known) or " Unset it."
            raise click.UsageError(f"No option belongs to the environment variable {name}.{hint}", ctx)


def variables_in_use(ctx: click.Context) -> Iterator[str]:
    """The variables that set options of the command, as NAME=VALUE."""
    for option in _options(ctx.command):
        if came_from_variable(option, ctx):
            yield f"{option.envvar}={os.environ[str(option.envvar)]}"


def came_from_variable(parameter: click.Parameter, ctx: click.Context) -> bool:
    """Whether an environment variable set the parameter."""
    return ctx.get_parameter_source(str(parameter.name)) is ParameterSource.ENVIRONMENT


def _options(command: click.Command) -> Iterator[click.Option]:
    return (parameter for parameter in command.params if isinstance(parameter, click.Option))


def _long_name(option: click.Option, *, dashes: bool = False) -> str:
    longest = max(option.opts, key=len)
    return longest if dashes else longest.removeprefix("--")
