"""A plain run needs no package of an extra; whatever needs one says which to install."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from command_line import environment

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
IMPORTED_AS = {"open_clip_torch": "open_clip"}
NOT_FOR_USERS = {"dev", "docs"}
SCENE = "sample_data/scene.tif"


def names(requirements: list[str]) -> set[str]:
    """Packages by the names that they are imported under, without those of this package's own extras."""
    found = {re.split(r"[\[<>=;@ ]", text)[0] for text in requirements}
    return {IMPORTED_AS.get(name, name).replace("-", "_") for name in found - {"geosegsr"}}


OPTIONAL = sorted(set().union(*(names(EXTRAS[extra]) for extra in EXTRAS.keys() - NOT_FOR_USERS)))
BLOCK = f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL}));"
"""What is None there cannot be imported, as if it were not installed."""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCK + code], cwd=ROOT, env=environment(), capture_output=True, text=True
    )  # fmt: skip


def command(typed: str) -> subprocess.CompletedProcess[str]:
    return run(f"from geosegsr_cli.main import main; main({shlex.split(typed)})")


def test_the_extras_that_are_promised_are_there_and_all_holds_those_of_any_machine() -> None:
    assert {"report", "train", "clip", "cluster", "onnx", "spandrel", "hub", "all"} <= EXTRAS.keys()
    assert {"accelerate", "distributed", "open_clip", "torchmetrics"} <= set(OPTIONAL)
    (everything,) = EXTRAS["all"]
    held = set(everything.removeprefix("geosegsr[").removesuffix("]").split(","))
    assert held == EXTRAS.keys() - NOT_FOR_USERS - {"all", "gpu", "slurm", "kubernetes"}


def test_no_package_is_both_needed_and_optional() -> None:
    assert not names(PROJECT["dependencies"]) & set(OPTIONAL)


@pytest.mark.parametrize(
    "typed",
    [
        f"info {SCENE}",
        "models",
        f"upscale {SCENE} -o TARGET --window 0 0 48 48 --preview TARGET.png --stac --datetime 2024-05-01",
        f"upscale {SCENE} -o TARGET --window 0 0 48 48 --model bicubic",
    ],
)
def test_a_plain_run_needs_no_extra(typed: str, tmp_path: Path) -> None:
    done = command(typed.replace("TARGET", str(tmp_path / "out.tif")))
    assert done.returncode == 0, done.stderr
    assert ("-o" in typed) == (tmp_path / "out.tif").exists()


def test_an_array_needs_no_extra() -> None:
    done = run(
        "import geosegsr, rioxarray;"
        f"scene = rioxarray.open_rasterio({SCENE!r}, chunks={{}})[:, :48, :48];"
        "assert geosegsr.super_resolve(scene, 2).compute().shape[-2:] == (96, 96)"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("typed", "extra"),
    [
        (f"report {SCENE} {SCENE}", "report"),
        (f"evaluate {SCENE} --hr {SCENE}", "report"),
        (f"evaluate {SCENE} --lr {SCENE}", "report"),
        (f"upscale {SCENE} -o TARGET --report TARGET.html", "report"),
        (f"upscale {SCENE} -o TARGET/ --report '{{stem}}.html'", "report"),
        ("train --hr sample_data", "train"),
        (f"upscale {SCENE} -o TARGET --workers 1", "cluster"),
        (f"upscale {SCENE} -o TARGET --scheduler tcp://127.0.0.1:1", "cluster"),
        ("export bundled -o TARGET.onnx", "onnx"),
        ("models add hf:owner/name --name own", "hub"),
    ],
)
def test_what_needs_an_extra_says_what_to_type(typed: str, extra: str, tmp_path: Path) -> None:
    done = command(typed.replace("TARGET", str(tmp_path / "out.tif")))
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert done.returncode == 1 and line.endswith(f"Run pip install 'geosegsr[{extra}]'."), done.stderr
    assert not list(tmp_path.glob("*.tif"))


@pytest.mark.parametrize(
    "typed", [f"upscale {SCENE} -o TARGET.tif -m FILE", "convert FILE -o TARGET.safetensors"]
)
def test_a_network_of_another_project_says_what_to_type(typed: str, tmp_path: Path) -> None:
    torch.save({"params": {"body.weight": torch.zeros(3)}}, tmp_path / "network.pth")
    typed = typed.replace("FILE", str(tmp_path / "network.pth")).replace("TARGET", str(tmp_path / "out"))
    done = command(typed)
    assert done.returncode == 1 and done.stderr.endswith("Run pip install 'geosegsr[spandrel]'.\n"), (
        done.stderr
    )
    assert not list(tmp_path.glob("out*"))


OPEN = (
    "from geosegsr.stores.address import Address as A; from geosegsr.stores.opening import open_store as o;"
)


@pytest.mark.parametrize(
    ("code", "extra"),
    [
        (OPEN + "o(A.parse('s3://bucket'))", "cloud"),
        (OPEN + "o(A.parse('gs://bucket'))", "cloud"),
        ("from geosegsr.models.pretrained import tower_fields; tower_fields('ViT-B-16')", "clip"),
        ("from geosegsr.models.foreign.known import picked; picked({})", "spandrel"),
    ],
)
def test_so_does_what_no_command_reaches_without_other_extras(code: str, extra: str) -> None:
    done = run(code)
    assert "MissingPackageError: Cannot " in done.stderr and f"'geosegsr[{extra}]'." in done.stderr


@pytest.mark.parametrize("name", ["train", "evaluate", "report"])
def test_a_function_that_needs_an_extra_says_so_too(name: str) -> None:
    code = f"import geosegsr\ntry: geosegsr.{name}\nexcept ImportError as e: print(type(e).__name__, e)"
    assert "MissingPackageError Cannot " in (done := run("\n" + code)).stdout, done.stderr


@pytest.mark.parametrize("extra", sorted(EXTRAS.keys() - NOT_FOR_USERS))
def test_every_extra_is_told_in_the_page_about_installing(extra: str) -> None:
    assert f"| `{extra}` |" in (ROOT / "docs" / "install.md").read_text()
