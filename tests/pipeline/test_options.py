"""Every option of a plan is known to mypy, to editors and to help(), by each function that takes it."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import rioxarray  # noqa: F401 - registers the .rio accessor
import scene_factory as factory
import xarray as xr
from command_line import environment

import geosegsr
from geosegsr.pipeline.batch import upscale_batch
from geosegsr.pipeline.options import DEFAULTS, PlanOptions, RenderOptions, with_defaults

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = (geosegsr.plan, geosegsr.upscale, upscale_batch)

WRONG = """
import geosegsr
import xarray as xr
from pathlib import Path
from geosegsr.pipeline.batch import upscale_batch

geosegsr.upscale("a.tif", "b.tif", tlie=16)
geosegsr.upscale("a.tif", "b.tif", tile="16")
geosegsr.plan("a.tif", overlpa=4)
list(upscale_batch([("a.tif", Path("b.tif"))], presicion="fp32"))
geosegsr.super_resolve(xr.DataArray(), window=(0, 0, 1, 1))
"""
RIGHT = """
import geosegsr
from pathlib import Path
from geosegsr.pipeline.batch import upscale_batch

geosegsr.upscale("a.tif", "b.tif", 2, "bicubic", tile=16, value_range=(0, 255), bands=[1, 2], acquired="2024-05-01")
list(upscale_batch([("a.tif", Path("b.tif"))], precision="fp32", window=(0, 0, 1, 1)))
"""


@pytest.mark.slow  # mypy reads numpy, rasterio and xarray, too
def test_mypy_knows_the_options(tmp_path: Path) -> None:
    for name, text in (("wrong.py", WRONG), ("right.py", RIGHT)):
        (tmp_path / name).write_text(text)
    run = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--config-file", str(REPOSITORY / "pyproject.toml")),
            *("--cache-dir", str(tmp_path / "cache"), "wrong.py", "right.py"),
        ],
        cwd=tmp_path, env={**environment(), "MYPYPATH": str(REPOSITORY)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    errors = [line.split(": error: ") for line in run.stdout.splitlines() if ": error: " in line]
    assert [(place, message.split("[")[0].split(";")[0].strip()) for place, message in errors] == [
        ("wrong.py:7", 'Unexpected keyword argument "tlie" for "upscale"'),
        ("wrong.py:8", 'Argument "tile" to "upscale" has incompatible type "str"'),
        ("wrong.py:9", 'Unexpected keyword argument "overlpa" for "plan"'),
        ("wrong.py:10", 'Unexpected keyword argument "presicion" for "upscale_batch"'),
        ("wrong.py:11", 'Unexpected keyword argument "window" for "super_resolve"'),
    ], run.stdout + run.stderr


@pytest.mark.parametrize("function", [*FILES, geosegsr.super_resolve])
def test_the_signature_lists_every_option(function: Callable[..., Any]) -> None:
    known = PlanOptions if function in FILES else RenderOptions
    parameters = inspect.signature(function).parameters
    for name, hint in get_type_hints(known).items():
        assert parameters[name].annotation == hint
        assert parameters[name].default == DEFAULTS[name]  # type: ignore[literal-required]
    assert not [p for p in parameters.values() if p.kind is p.VAR_KEYWORD]


def test_every_option_has_a_default() -> None:
    assert DEFAULTS.keys() == get_type_hints(PlanOptions).keys()
    assert with_defaults({"tile": 16}) == {**DEFAULTS, "tile": 16}


def test_an_option_that_does_not_exist_is_refused_before_any_work(tmp_path: Path) -> None:
    source, target = factory.write_plain(tmp_path / "in.tif"), tmp_path / "out.tif"
    array = xr.DataArray(np.zeros((8, 9), np.uint8), dims=("y", "x"))
    wrong: dict[str, Any] = {"tlie": 16}
    for call in (
        lambda: geosegsr.upscale(source, target, 2, "bicubic", **wrong),
        lambda: list(upscale_batch([(str(source), target)], 2, "bicubic", **wrong)),
        lambda: geosegsr.plan(source, 2, "bicubic", **wrong),
        lambda: geosegsr.super_resolve(array, 2, "bicubic", **wrong),
    ):
        with pytest.raises(TypeError, match=r"There is no option 'tlie'\. Did you mean 'tile'\?"):
            call()
    window: dict[str, Any] = {"window": (0, 0, 1, 1)}
    with pytest.raises(TypeError, match="There is no option 'window'"):
        geosegsr.super_resolve(array, 2, "bicubic", **window)
    assert not target.exists()
