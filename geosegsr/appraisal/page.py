"""The report as one HTML file: template, style, viewer and all pictures inside, nothing from the network."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from markupsafe import Markup

from geosegsr.appraisal.pictures import View
from geosegsr.appraisal.target import GENERATOR
from geosegsr.evaluation.page import filled

_ASSETS = Path(__file__).parent / "assets"


def render(views: list[View], **facts: Any) -> str:
    """The page.

    Args:
        views: The whole scene first.
        **facts: What the template names.
    """
    # Inside a script, "</" would end it.
    data = json.dumps([asdict(view) for view in views]).replace("</", "<\\/")
    return filled(
        _ASSETS / "report.html",
        views=views,
        data=Markup(data),
        generator=Markup(GENERATOR),
        style=Markup(_asset("report.css")),
        panzoom=Markup(_asset("panzoom.min.js")),
        panzoom_licence=_asset("panzoom.LICENSE.txt"),
        viewer=Markup(_asset("viewer.js")),
        **facts,
    )


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")
