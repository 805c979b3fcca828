"""A command whose help lists options under headings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

_REST = "Other options"


class GroupedCommand(click.Command):
    """Lists options in groups, in the order of the groups; what belongs to none comes last."""

    def __init__(self, *args: Any, groups: Mapping[str, Sequence[str]], **kwargs: Any) -> None:
        """As click.Command.

        Args:
            *args: For click.Command.
            groups: Heading -> names of its options, with dashes.
            **kwargs: For click.Command.
        """
        super().__init__(*args, **kwargs)
        self.groups = groups

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [option for option in self.get_params(ctx) if isinstance(option, click.Option)]
        left = {name: option for option in options for name in option.opts}
        for title, names in self.groups.items():
            _write(ctx, formatter, title, [left[name] for name in names])
        named = {id(left[name]) for names in self.groups.values() for name in names}
        _write(ctx, formatter, _REST, [option for option in options if id(option) not in named])


def _write(
    ctx: click.Context, formatter: click.HelpFormatter, title: str, options: Sequence[click.Option]
) -> None:
    rows = [row for option in options if (row := option.get_help_record(ctx)) is not None]
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows)
