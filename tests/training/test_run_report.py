"""The report of a run: a page that stands by itself, while the run goes on and at its end."""

import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from training_kit import folder_of, tiny_config

from geosegsr.errors import GeoSegSRWarning
from geosegsr.training.curves import draw_curves
from geosegsr.training.events import Stepped
from geosegsr.training.loop import train


class Page(HTMLParser):
    """Tags that are open, and all text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.text, self.images = [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs)["src"])
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_a_run_reports_what_it_has_come_to(tmp_path):
    images = folder_of(tmp_path / "images")
    (images / "<b>broken.tif").write_bytes(b"II*\0")
    seen = []

    def look(event):
        if isinstance(event, Stepped) and event.step == 4:
            seen.append((tmp_path / "run" / "report.html").read_text())

    with pytest.warns(GeoSegSRWarning, match="1 of 5 images left out"):
        result = train(tiny_config(images), tmp_path / "run", on_event=look)
    (middle,) = seen
    end = (tmp_path / "run" / "report.html").read_text()
    assert 'http-equiv="refresh"' in middle
    assert 'http-equiv="refresh"' not in end
    assert "The run goes on: 3 steps so far." in Page(middle).text
    page = Page(end)
    assert page.open == []
    for text in (
        "bicubic",
        "start of the run",
        "this model",
        "By source",
        "By band",
        "3 blue",
        "split by ground",
    ):
        assert text in page.text
    assert f"{result.score.psnr:.2f}" in page.text
    assert re.search(r"model, \d+\.\d\d dB", page.text)
    assert "<b>broken.tif" in page.text
    assert "<b>" not in end
    assert len(page.images) > 4
    assert all(source.startswith("data:image/png;base64,") for source in page.images)
    assert "http://" not in end
    with Image.open(tmp_path / "run" / "curves.png") as curves:
        assert curves.size[0] > 400


def test_curves_of_nothing_and_of_one_point_are_drawn():
    for charts in ([], [("loss", {"a": []})], [("loss", {"a": [(0.0, 1.0)], "b": [(0.0, 1.0)]})]):
        image = Image.open(io.BytesIO(draw_curves(charts)))
        assert np.asarray(image).shape[2] == 3
