"""Entry point: finds the command's module by name and turns errors into exit codes.

Exit codes: 0 done, 1 one of our errors (one line on standard error), 2 wrong usage, 3 a training that gained nothing,
130 interrupted.
A bug keeps its traceback, and has exit code 1 as well.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from types import FrameType
from typing import Any

import click

from geosegsr.errors import Cancelled, GeoSegSRError, did_you_mean, redacted
from geosegsr.files import exists
from geosegsr.version import __version__
from geosegsr_cli.parts.options import Answer, one_line, paragraph
from geosegsr_cli.parts.streams import secure_streams
from geosegsr_cli.parts.typed import near_option, of_command, refuse_options_as_values
from geosegsr_cli.parts.variables import came_from_variable, name_variables, refuse_unknown

COMMANDS = {
    "convert": "geosegsr_cli.commands.convert",
    "evaluate": "geosegsr_cli.commands.evaluate",
    "export": "geosegsr_cli.commands.export",
    "info": "geosegsr_cli.commands.info",
    "models": "geosegsr_cli.commands.models",
    "report": "geosegsr_cli.commands.report",
    "train": "geosegsr_cli.commands.train",
    "upscale": "geosegsr_cli.commands.upscale",
}


class LazyGroup(click.Group):
    """Imports a command's module when the command is named; each module defines `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[cmd_name]).command
        name_variables(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise click.UsageError(f"No such command '{args[0]}'.{_instead(args[0])}", ctx)
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and not set(rest) & set(ctx.help_option_names):
            refuse_unknown(command, ctx)
            refuse_options_as_values(command, rest, ctx)
        return name, command, rest


def _instead(word: str) -> str:
    """What was probably meant by a word in the place of a command."""
    if exists(word):
        return f" Did you mean 'upscale {word}'?"
    return did_you_mean(word, COMMANDS) or f" Pass one of {', '.join(COMMANDS)}."


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    context_settings={
        "help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True,
    },
)  # fmt: skip
@click.option(
    "--version", is_flag=True, help="Show the version; with -v, those of GDAL and torch and the device, too."
)
@click.option("-v", "--verbose", is_flag=True, help="With --version.")
@click.pass_context
def cli(ctx: click.Context, version: bool, verbose: bool) -> None:
    """Super-resolution of georeferenced rasters."""
    if version:
        _show_version(verbose)
        ctx.exit()
    if verbose:
        raise click.UsageError("-v belongs after the command, such as geosegsr upscale -v, or to --version.")
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)


def _show_version(verbose: bool) -> None:
    if not verbose:
        click.echo(f"geosegsr, version {__version__}")
        return
    from geosegsr_cli.parts.versions import versions

    for name, value in versions():
        click.echo(f"{name:<10}{value}")


def main(args: list[str] | None = None, *, program: str = "geosegsr") -> None:
    """Run the command line and leave the process with its exit code.

    Args:
        args: What was typed; by default the process's own.
        program: What help and messages call the command.
    """
    secure_streams()
    signal.signal(signal.SIGTERM, _interrupt)
    sys.unraisablehook = _log_unraisable
    answer = Answer()
    try:
        left = cli.main(args=args, prog_name=program, standalone_mode=False, obj=answer)
        code = left if isinstance(left, int) else 0  # what a command passed to ctx.exit()
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.UsageError as error:
        message = _usage_message(error, sys.argv[1:] if args is None else args)
        click.echo(paragraph(f"Error: {message}", 2, err=True), err=True)
        code = error.exit_code
    except click.ClickException as error:
        click.echo(f"Error: {one_line(error.format_message())}", err=True)
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt, Cancelled):
        click.echo("Interrupted.", err=True)
        answer.failed("interrupted", "Interrupted.")
        _leave_at_once(130)
    except GeoSegSRError as error:
        message = one_line(str(error))
        click.echo(paragraph(f"Error: {message}", 2, err=True), err=True)
        answer.failed("failed", message, error)
        code = 1
    except (MemoryError, ImportError) as error:
        code = _report_lack_of_memory(error, answer)
    except Exception as bug:
        code = _report_bug(bug, answer)
    if args is None:  # this process does nothing else
        _leave(code)
    sys.exit(code)


def _report_bug(bug: Exception, answer: Answer) -> int:
    """Print a traceback; returns the exit code."""
    click.echo(redacted(traceback.format_exc()), err=True, nl=False)
    answer.failed("failed", f"{type(bug).__name__}: {bug}", bug)
    return 1


def _report_lack_of_memory(error: MemoryError | ImportError, answer: Answer) -> int:
    """Print one line where memory was too little, or else a traceback; returns the exit code."""
    message = _lack_of_memory(error)
    if message is None:
        return _report_bug(error, answer)
    click.echo(f"Error: {message}", err=True)
    answer.failed("failed", message, error)
    return 1


def _lack_of_memory(error: MemoryError | ImportError) -> str | None:
    """What to do if there was too little memory, to work or to load a library; None if that was not the cause."""
    reason = one_line(str(error)).rstrip(".") or "no memory left"
    if isinstance(error, MemoryError):
        return (
            f"Cannot continue: out of memory ({reason}). Finished blocks are kept. "
            "Pass a smaller --block, or raise the memory limit, and repeat the command."
        )
    if "failed to map segment" in reason or "annot allocate memory" in reason:
        return (
            f"Cannot load a library: too little memory ({reason}). torch alone takes some GB of address space. "
            "Raise the limit of the shell (ulimit -v), the container or the job."
        )
    return None


def _usage_message(error: click.UsageError, typed: Sequence[str]) -> str:
    where = error.ctx.command_path if error.ctx else of_command(typed, COMMANDS)
    message = error.format_message()
    if isinstance(error, click.NoSuchOption) and error.ctx:
        message = f"No such option '{error.option_name}'.{near_option(error, typed)}"
    mark = "" if message.endswith((".", "?")) else "."
    parameter = getattr(error, "param", None)
    if error.ctx and parameter is not None and came_from_variable(parameter, error.ctx):
        mark += f" It was set by the environment variable {parameter.envvar}."
    return one_line(f"{message}{mark} See `{where} --help`.")


def _log_unraisable(unraisable: Any) -> None:
    """Log what Python cannot raise: rasterio fails on messages of GDAL that are not UTF-8."""
    logging.getLogger("geosegsr").debug("ignored: %r in %r", unraisable.exc_value, unraisable.object)


def _interrupt(signum: int, frame: FrameType | None) -> Any:
    raise KeyboardInterrupt


def _leave(code: int) -> None:
    """Exit once all is done that modules registered for the exit.

    Python would also look for garbage in all that torch loaded, and take its libraries apart: for half a second and more, and
    with more memory than the work took. The system frees it anyway.
    """
    atexit._run_exitfuncs()
    _leave_at_once(code)


def _leave_at_once(code: int) -> None:
    """Exit without waiting for threads that are still inside a tile; all results are on disk already."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        # Frees the semaphores of worker processes; otherwise Python's resource tracker complains after the exit.
        util._run_finalizers(0)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
