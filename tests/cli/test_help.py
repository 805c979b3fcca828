"""What --help, --version and models print."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import click
import command_line
import pytest
from command_line import assert_refused, run_here
from geosegsr_cli.main import COMMANDS, cli
from geosegsr_cli.parts.groups import GroupedCommand

from geosegsr.version import __version__

COMMAND = {name: import_module(module).command for name, module in COMMANDS.items()}
GROUPED = [name for name, command in COMMAND.items() if isinstance(command, GroupedCommand)]


def context(name: str) -> click.Context:
    return click.Context(COMMAND[name], info_name=name, parent=click.Context(cli, **cli.context_settings))


@pytest.mark.parametrize("name", COMMAND)
def test_help_states_every_default(name: str) -> None:
    missing = []
    for option in COMMAND[name].params:
        if not isinstance(option, click.Option) or option.nargs != 1 or option.multiple or option.count:
            continue
        number = isinstance(option.type, click.types.IntParamType | click.types.FloatParamType)
        switch = option.is_flag and option.secondary_opts
        if number or switch or isinstance(option.type, click.Choice):
            _, text = option.get_help_record(context(name)) or ("", "default")
            if "default" not in text.lower():
                missing.append(option.opts[0])
    assert missing == [] or (name, missing) == (
        "convert",
        ["--prompt-seed"],
    )  # either it or --prompts is given


@pytest.mark.parametrize("name", GROUPED)
def test_every_option_stands_once_in_the_help(name: str) -> None:
    formatter = click.HelpFormatter(width=200)
    COMMAND[name].format_options(context(name), formatter)
    lines = formatter.getvalue().splitlines()
    headings = [line for line in lines if line and not line.startswith(" ")]
    assert headings == [f"{title}:" for title in [*COMMAND[name].groups, "Other options"]]
    rows = [line for line in lines if line.startswith("  -")]
    shown = sum(
        option.get_help_record(context(name)) is not None
        for option in COMMAND[name].get_params(context(name))
        if isinstance(option, click.Option)
    )
    assert len(rows) == shown
    named = [option for options in COMMAND[name].groups.values() for option in options]
    assert len(named) == len(set(named))


def test_version_alone_loads_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    code = (
        "import sys\nfrom geosegsr_cli.main import main\n"
        "try:\n    main(['--version'])\nexcept SystemExit:\n"
        "    print(sorted({'torch', 'rasterio', 'numpy'} & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=command_line.environment(),
    ).stdout
    assert out.splitlines() == [f"geosegsr, version {__version__}", "[]"]


def test_version_verbose_names_what_computes(capfd: pytest.CaptureFixture[str]) -> None:
    said = run_here(capfd, "--version", "-v")
    found = dict(line.split(maxsplit=1) for line in said.out.splitlines())
    assert list(found) == ["geosegsr", "Python", "GDAL", "rasterio", "torch", "device"]
    assert found["geosegsr"] == __version__ and found["device"].split(":")[0] in ("cpu", "cuda")
    assert_refused(run_here(capfd, "-v", "models"), 2, "-v", "after the command")


def test_models_is_a_table(capfd: pytest.CaptureFixture[str]) -> None:
    lines = run_here(capfd, "models").out.splitlines()
    assert lines[0].split() == ["model", "scale", "dB", "over", "bicubic", "when", "to", "use"]
    assert all(len(line) <= 100 for line in lines if not line.startswith("Files"))
    rows = [line.split() for line in lines if line.startswith("bundled")]
    assert [row[1] for row in rows] == ["x2", "x3", "x4", "x8"]
    assert all(0 <= float(row[2]) < float(row[4]) for row in rows)
    assert any(line.startswith("Trained on") for line in lines)
