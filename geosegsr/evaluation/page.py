"""Pages of results: one HTML file each, made of a template; texts are escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def filled(template: Path, **facts: Any) -> str:
    """A template of jinja2 with its facts; a fact that is missing is an error.

    Args:
        template: The file; it may include others beside it.
        **facts: What it names. Texts are escaped unless they are `markupsafe.Markup`.
    """
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(**facts)
