"""A table begins with its meaning in one sentence, and pictures say what they show."""

from __future__ import annotations

import math

import numpy as np
import pytest

from geosegsr.evaluation.table import Evaluation, Row, table
from geosegsr.imagery.pictures import contact_sheet, labelled


def _evaluation(model: dict[str, float], bicubic: dict[str, float]) -> Evaluation:
    return Evaluation("sr.tif", 4, (Row("all", 1, 1, model, bicubic),), None, ())


@pytest.mark.parametrize(
    ("model", "bicubic", "sentence"),
    [
        ({"psnr": 30.5, "sam": 2.0}, {"psnr": 29.0, "sam": 1.0},
         "The result is closer to the truth than bicubic interpolation, by 1.50 dB; it is better by 1 of 2 measures."),
        ({"psnr": 31.0, "psnr_y": 28.0}, {"psnr": 29.0, "psnr_y": 29.25},
         "The result is further from the truth than bicubic interpolation, by 1.25 dB on luma; it is better by 1 of 2 measures."),
        ({"psnr": 29.0}, {"psnr": 29.0},
         "The result is exactly as close to the truth as bicubic interpolation; it is better by 0 of 1 measures."),
        ({"psnr": math.inf}, {"psnr": 29.0}, "The result equals the truth; it is better by 1 of 1 measures."),
    ],
)  # fmt: skip
def test_a_sentence_stands_before_the_numbers(
    model: dict[str, float], bicubic: dict[str, float], sentence: str
) -> None:
    lines = table(_evaluation(model, bicubic)).splitlines()
    assert sentence in lines
    assert lines.index(sentence) < next(n for n, line in enumerate(lines) if "difference" in line)


def test_a_label_lies_in_the_corner_and_nowhere_else() -> None:
    grey = np.full((3, 100, 200), 128, np.uint8)
    marked = labelled(grey, "sr 31.20 dB")
    changed = np.argwhere((marked != grey).any(0))
    assert changed.min(0).tolist() == [0, 0]
    assert changed.max(0)[0] < 30 and 60 < changed.max(0)[1] < 120
    assert (marked == 255).any()
    assert labelled(grey, "") is grey


def test_each_picture_of_a_sheet_has_its_own_label() -> None:
    row = [np.full((1, 64, 64), 0.5, np.float32) for _ in range(4)]
    plain, marked = contact_sheet([row, row]), contact_sheet([row, row], [("a", "b", "c", "d")])
    assert plain.shape == marked.shape
    differs = (plain != marked).any(0)
    assert [bool(differs[:20, k * 68 : k * 68 + 20].any()) for k in range(4)] == [True] * 4
    assert not differs[68:].any()
