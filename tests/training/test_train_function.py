"""geosegsr.train and geosegsr.evaluate pass on what they are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import geosegsr
from geosegsr.errors import ConfigError
from geosegsr.training.config import TrainConfig


def test_train_resolves_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("geosegsr.training.run.run", lambda *args, **kwargs: seen.append((args, kwargs)))
    geosegsr.train(
        "images",
        tmp_path / "run",
        2,
        preset="compact",
        settings={"schedule.minutes": 3, "data.patch": 32},
        progress=print,
    )
    ((config, folder), kwargs) = seen[0]
    assert isinstance(config, TrainConfig) and folder == tmp_path / "run" and kwargs == {"on_event": print}
    assert (config.data.hr, config.data.lr, config.model.scale) == (("images",), (), 2)
    assert (config.schedule.minutes, config.data.patch) == (3, 32)
    with pytest.raises(ConfigError, match="schedule"):
        geosegsr.train(["a", Path("b")], tmp_path / "run", settings={"schedule.minute": 3})


def test_evaluate_measures_a_file_or_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    for name in ("evaluate_file", "evaluate_model"):
        monkeypatch.setattr(
            f"geosegsr.evaluation.score.{name}", lambda *args, **kwargs: seen.append((args, kwargs))
        )
    geosegsr.evaluate("sr.tif", hr="hr.tif", border=3)
    geosegsr.evaluate(model="bicubic", hr="hr/", lr=["lr/a.tif"], scale=2)
    assert seen == [
        (("sr.tif", "hr.tif", None), {"border": 3}),
        (("bicubic", ["hr/"], ["lr/a.tif"]), {"scale": 2}),
    ]
    with pytest.raises(ConfigError, match="either"):
        geosegsr.evaluate("sr.tif", model="bicubic", hr="hr.tif")  # type: ignore[call-overload]
