"""For MkDocs: links to files outside docs/ lead to the repository, whose address pyproject.toml states."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent
_OUTSIDE = re.compile(r"(\]\()((?:\.\./)+)([^)#]*)(#[^)]*)?(?=\))")


def on_config(config: Any) -> Any:
    """The address of the repository is that of the package."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    config["repo_url"] = project["urls"]["Repository"]
    config["repo_name"] = project["name"]
    return config


def on_startup(**_: Any) -> None:
    """Options keep the headings of `--help`, which mkdocs-click leaves out."""
    from mkdocs_click import _docs

    without_headings = _docs._make_plain_options

    def options(ctx: Any, show_hidden: bool = False) -> Iterator[str]:
        if not hasattr(ctx.command, "groups"):
            yield from without_headings(ctx, show_hidden)
            return
        formatter = ctx.make_formatter()
        ctx.command.format_options(ctx, formatter)
        yield from ("```text", *formatter.getvalue().strip().splitlines(), "```", "")

    _docs._make_plain_options = options


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Relative links that leave docs/ become absolute, if what they name is there."""
    folder = Path(page.file.abs_src_path).parent

    def led(found: re.Match[str]) -> str:
        target = (folder / found[2] / found[3]).resolve()
        if not target.exists() or target.is_relative_to(_ROOT / "docs"):
            return found[0]  # MkDocs warns of one that is not there
        kind = "tree" if target.is_dir() else "blob"
        return f"{found[1]}{config['repo_url']}/{kind}/main/{target.relative_to(_ROOT)}{found[4] or ''}"

    return _OUTSIDE.sub(led, markdown)
