"""The site and the package's page: every link leads somewhere, under one address."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest
from command_line import environment

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
OTHERS = {"docs.astral.sh"}
LINK = re.compile(r"\]\(([^)\s]+)\)")


def test_all_addresses_of_the_project_are_below_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert all(url.startswith(ADDRESS) for url in project["urls"].values())
    for name in ("CITATION.cff", ".github/ISSUE_TEMPLATE/config.yml"):
        found = re.findall(r"https://github\.com/[\w-]+/[\w-]+", (ROOT / name).read_text())
        assert set(found) == {ADDRESS}, name


def test_a_package_index_shows_every_link_and_picture_of_the_readme() -> None:
    readme = pytest.importorskip("hatch_fancy_pypi_readme._builder")
    config = pytest.importorskip("hatch_fancy_pypi_readme._config")
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["metadata"]["hooks"]
    loaded = config.load_and_validate_config(table["fancy-pypi-readme"])
    text: str = readme.build_text(loaded.fragments, loaded.substitutions, version="")
    own = [link for link in LINK.findall(text) if link.split("/")[2] not in OTHERS]
    assert len(own) > 20
    for link in own:
        kind, branch, path = link.removeprefix(f"{ADDRESS}/").split("#")[0].split("/", 2)
        assert (kind, branch) == ("raw" if path.endswith((".png", ".jpg")) else "blob", "main"), link
        assert (ROOT / path).is_file(), link


class Pictures(HTMLParser):
    """Sources of all pictures of a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.found.append(dict(attrs)["src"] or "")


def test_the_gallery_shows_all_its_pairs_and_no_other() -> None:
    found = Pictures(ROOT / "docs" / "gallery.md").found
    there = {f"gallery/{path.name}" for path in (ROOT / "docs" / "gallery").iterdir()}
    assert set(found) == there and len(found) == len(there) >= 20
    befores = [name.replace("_before", "") for name in found if "_before" in name]
    assert befores == [name.replace("_after", "") for name in found if "_after" in name]


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs_click")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT, env=environment() | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    assert "--consistency" in (site / "commands" / "upscale.html").read_text()
    assert "Area of interest:" in (site / "commands" / "upscale.html").read_text()
    assert "super_resolve" in (site / "api" / "upscaling.html").read_text()
    assert f"{ADDRESS}/blob/main/CHANGELOG.md" in (site / "index.html").read_text()
