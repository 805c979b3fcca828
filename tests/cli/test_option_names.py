"""Every --option that the library or the command line names in a text is one of its own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest
from geosegsr_cli.main import COMMANDS, cli

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = sorted([*(REPOSITORY / "geosegsr").rglob("*.py"), *(REPOSITORY / "cli").rglob("*.py")])
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
OTHERS = {"--nproc-per-node", "--resources"}
"""Options of torchrun and of dask worker."""


def known_options() -> set[str]:
    """Of all commands, with the group's own and the second form of switches."""
    commands: list[click.Command] = [cli, *(import_module(module).command for module in COMMANDS.values())]
    options = [parameter for command in commands for parameter in command.params]
    return {name for option in options for name in [*option.opts, *option.secondary_opts]} | {"--help"}


def texts(source: Path) -> Iterator[tuple[int, str]]:
    """String literals of a module, docstrings included; an f-string as one text."""
    inside: set[ast.AST] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.JoinedStr):
            inside |= {part for part in node.values if isinstance(part, ast.Constant)}
            yield (
                node.lineno,
                "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant)),
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inside:
            yield node.lineno, node.value


def test_every_option_in_a_text_exists() -> None:
    known = known_options()
    unknown = [
        f"{source.relative_to(REPOSITORY)}:{line}: {name}"
        for source in SOURCES
        for line, text in texts(source)
        for name in OPTION.findall(text)
        if name not in known | OTHERS
    ]
    assert not unknown, "\n".join(unknown)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ('raise ValueError("Pass --tile, or --no-such.")', ["--tile", "--no-such"]),
        ('f"Pass --{name}={value}, and --over{x}"', ["--over"]),
        ('"a -- b", "x--tile", "---"', []),
    ],
)
def test_options_are_found_in_code(code: str, found: list[str], tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(code)
    assert [name for _, text in texts(tmp_path / "module.py") for name in OPTION.findall(text)] == found
