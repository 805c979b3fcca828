"""The Dockerfile and the conda recipe: linted, and what they say is what pyproject.toml says."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path
from typing import Any

import pytest
import yaml

from geosegsr.version import __version__

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
ADDRESS: str = PROJECT["project"]["urls"]["Repository"]
CONDA_NAMES = {"torch": "pytorch", "open_clip_torch": "open-clip-torch"}


def steps() -> list[tuple[str, str]]:
    """Instructions of the Dockerfile, in order."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def targets() -> dict[str, list[tuple[str, str]]]:
    """Steps of each stage, those of the stages that it builds on first."""
    found: dict[str, list[tuple[str, str]]] = {}
    for word, rest in steps():
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = list(found.get(base, []))
            current = found[name]
        else:
            current.append((word, rest))
    return found


def test_the_dockerfile_passes_its_linter() -> None:
    hadolint = shutil.which("hadolint", path=sysconfig.get_path("scripts")) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_both_targets_run_the_command_as_an_ordinary_user(name: str) -> None:
    found = targets()[name]
    last = dict(found)
    assert last["ENTRYPOINT"] == '["geosegsr"]' and last["USER"] == "12345"
    assert any("/wheels/*.whl" in rest for word, rest in found if word == "RUN")
    assert all(
        word in ("RUN", "ENV", "ARG", "USER", "WORKDIR", "ENTRYPOINT", "CMD", "COPY") for word, _ in found
    )


def test_the_build_context_holds_what_the_wheel_needs() -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    files = ["pyproject.toml", "README.md", *PROJECT["project"]["license-files"]]
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    for needed in [*files, *(package.split("/")[0] for package in packages)]:
        assert any(fnmatch.fnmatch(needed, pattern) for pattern in kept), needed
        assert (ROOT / needed).exists()


def test_the_conda_recipe_needs_what_the_package_needs() -> None:
    recipe = yaml.safe_load((ROOT / "conda" / "recipe.yaml").read_text())
    wanted = {"python " + PROJECT["project"]["requires-python"]}
    of_extras = [text for extra in ("report", "train", "clip", "cluster") for text in EXTRAS[extra]]
    for text in PROJECT["project"]["dependencies"] + of_extras:
        if text.startswith("geosegsr["):
            continue
        name, bound = re.match(r"([\w.-]+)(.*)", text).groups()  # type: ignore[union-attr]
        wanted.add(f"{CONDA_NAMES.get(name, name.lower())} {bound}".rstrip())
    assert set(recipe["requirements"]["run"]) == wanted
    host = {text.replace(" ", "") for text in recipe["requirements"]["host"]}
    assert set(PROJECT["build-system"]["requires"]) <= host
    assert recipe["context"]["version"] == PROJECT["project"]["version"] == __version__
    assert recipe["about"]["license"] == PROJECT["project"]["license"]
    (entry,) = recipe["build"]["python"]["entry_points"]
    name, place = entry.split(" = ")
    assert PROJECT["project"]["scripts"] == {name: place}


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_an_image_has_the_extras_of_the_conda_package(name: str) -> None:
    assert ("ARG", "EXTRAS=train,clip,cluster,report") in targets()[name]


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0" and {"message", "title", "authors"} <= citation.keys()
    assert (citation["version"], citation["license"]) == (__version__, PROJECT["project"]["license"])


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.stem)
def test_workflows_and_forms_are_whole(path: Path) -> None:
    """Jobs have a time limit and few rights; steps call files that exist; forms have a body."""
    found = yaml.safe_load(path.read_text())
    if path.name == "config.yml":
        assert all(link["url"].startswith(f"{ADDRESS}/") for link in found["contact_links"])
        return
    if path.parent.name == "ISSUE_TEMPLATE":
        assert {"name", "description", "body"} <= found.keys()
        assert len({part["id"] for part in found["body"]}) == len(found["body"])
        return
    assert found["permissions"] == {"contents": "read"}
    for job in found["jobs"].values():
        assert job["timeout-minutes"] <= 60
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            if step.get("run", "").startswith("bash "):
                assert (ROOT / step["run"].split()[1]).is_file()


@pytest.mark.slow
def test_the_steps_of_the_dockerfile_give_a_command_that_upscales(tmp_path: Path) -> None:
    """Wheel from the build context, installed without the checkout; other packages are those of this environment."""
    context = tmp_path / "src"
    context.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, context)
    for name in ("geosegsr", "cli"):
        shutil.copytree(ROOT / name, context / name, ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", tmp_path / "wheels", context)
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-deps", wheel)
    shutil.rmtree(context)
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))  # no .pth file in it is followed
    command = tmp_path / "venv" / "bin" / "geosegsr"
    assert f"geosegsr  {__version__}" in run(command, "--version", "-v")
    scene, target = ROOT / "sample_data" / "scene.tif", tmp_path / "out.tif"
    run(command, "upscale", scene, "-o", target, "--window", "0", "0", "64", "64")
    assert target.exists()


def run(*args: object) -> str:
    done = subprocess.run([str(arg) for arg in args], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
