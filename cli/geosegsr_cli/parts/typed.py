"""What was typed, where click itself would misread it: files that look like options, and options that look like files."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import click

from geosegsr.errors import did_you_mean
from geosegsr.files import exists

_RESULT = "--output"


def refuse_options_as_values(command: click.Command, typed: Sequence[str], ctx: click.Context) -> None:
    """Refuse an option in the place of another one's value: `--preview --report` would write a file of that name.

    Args:
        command: Whose options count.
        typed: What follows its name.
        ctx: For the message.

    Raises:
        click.UsageError: There is one.
    """
    options = {
        name: option
        for option in command.params
        if isinstance(option, click.Option)
        for name in (*option.opts, *option.secondary_opts)
    }
    rest = list(typed)
    while rest and rest[0] != "--":
        name = rest.pop(0)
        option = options.get(name)
        if option is None or option.is_flag or option.count:
            continue
        values, rest = rest[: option.nargs], rest[option.nargs :]
        wrong = next((value for value in values if value in options), None)
        if wrong:
            raise click.UsageError(
                f"Option '{name}' requires a value, and '{wrong}' is another option. Pass {name} VALUE {wrong}.",
                click.Context(command, parent=ctx, info_name=command.name),
            )


def near_option(error: click.NoSuchOption, typed: Sequence[str]) -> str:
    """What was probably meant by an option that is none; "" if nothing is near."""
    command = error.ctx.command if error.ctx else None
    known = [name for option in command.params for name in option.opts] if command else []
    if (error.option_name == "-o" or _RESULT.startswith(error.option_name)) and "--run" in known:
        return " The folder of the result is --run."
    return _file_named_like_it(typed) or did_you_mean(error.option_name, known)


def _file_named_like_it(typed: Sequence[str]) -> str:
    """How to pass files whose names begin with a dash; "" if there are none."""
    found = next((word for word in typed if word.startswith("-") and exists(word)), "")
    return f" To pass the file of that name, type './{found}'." if found else ""


def of_command(typed: Sequence[str], commands: Collection[str]) -> str:
    """The command that was typed, as its help is called: "geosegsr upscale"."""
    return " ".join(("geosegsr", *(word for word in typed[:1] if word in commands)))
