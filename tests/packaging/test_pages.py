"""README and docs: each page is in the site, each link leads to a file, and each command that they show exists."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest
from geosegsr_cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted(DOCS.rglob("*.md"))]
LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)]*)?\)")
TYPED = re.compile(r"(?:^|[`|$(] ?|\d )geosegsr ([a-z]+)([^`\n|;>#]*)", re.MULTILINE)
OPTION = re.compile(r"(?<!\S)--[a-z][\w-]*")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file(page: Path) -> None:
    own = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in own if not (page.parent / link).exists()] == []


def test_every_page_is_in_the_site() -> None:
    listed = (ROOT / "mkdocs.yml").read_text()
    left_out = [path for page in DOCS.rglob("*.md") if (path := str(page.relative_to(DOCS))) not in listed]
    assert left_out == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_shown_has_the_options_shown(page: Path) -> None:
    text = page.read_text().replace("\\\n", " ")
    for name, rest in TYPED.findall(text):
        if name not in COMMANDS:
            continue  # prose
        parameters = import_module(COMMANDS[name]).command.params
        known = {option for found in parameters for option in (*found.opts, *found.secondary_opts, "--help")}
        assert set(OPTION.findall(rest)) <= known, f"geosegsr {name}{rest}"
