"""What a pipeline leans on: variables, exit codes, what is printed where and in what form, and read-only containers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import rasterio
import scene_factory as factory
from command_line import PATIENCE_S, PROGRAM, assert_refused, environment, run_here, start
from geosegsr_cli.main import COMMANDS, cli
from jsonschema import Draft202012Validator

BICUBIC = ("--model", "bicubic")
SCHEMA = json.loads(resources.files("geosegsr").joinpath("schemas/output.schema.json").read_text())


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return factory.write_nodata(tmp_path_factory.mktemp("scene") / "scene.tif")


# --- environment variables -------------------------------------------------------------------------------------------


def command_named(name: str) -> click.Command:
    """As the command line finds it."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command


def parsed(name: str, *args: str) -> dict[str, Any]:
    """The values that a command would be called with."""
    return command_named(name).make_context(name, list(args)).params


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_has_the_variable_that_its_name_promises(name: str) -> None:
    options = [option for option in command_named(name).params if isinstance(option, click.Option)]
    assert options
    for option in options:
        (long,) = {max(option.opts, key=len)}
        assert long.startswith("--")
        assert option.envvar == f"GEOSEGSR_{name}_{long[2:]}".upper().replace("-", "_")


def test_a_run_by_variables_is_the_run_by_options(
    scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    by_options, by_variables = tmp_path / "options.tif", tmp_path / "with spaces" / "out put.tif"
    by_variables.parent.mkdir()
    area = "POLYGON ((463300 5426300, 463500 5426300, 463500 5426100, 463300 5426300))"
    said = run_here(
        capfd, "upscale", scene, "-o", by_options, "-s", 2, "-m", "lanczos", "--bands", "2,1", "--aoi", area,
        "--co", "COMPRESS=LZW", "--co", "BLOCKSIZE=256",
    )  # fmt: skip
    assert said.code == 0, said.err
    for name, value in {
        "OUTPUT": by_variables, "SCALE": 2, "MODEL": "lanczos", "BANDS": "2,1", "AOI": area, "QUIET": "1",
        "CO": "COMPRESS=LZW BLOCKSIZE=256",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"GEOSEGSR_UPSCALE_{name}", str(value))
    said = run_here(capfd, "upscale", scene)
    assert (said.code, said.out, said.err) == (0, "", "")
    with rasterio.open(by_options) as a, rasterio.open(by_variables) as b:
        assert np.array_equal(a.read(), b.read())
        assert a.profile == b.profile
        assert a.profile["compress"] == "lzw"


def test_pairs_lists_counts_and_empty_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOSEGSR_UPSCALE_RANGE", "-10 4000.5")
    monkeypatch.setenv("GEOSEGSR_UPSCALE_WINDOW", "1 2 3 4")
    monkeypatch.setenv("GEOSEGSR_UPSCALE_VERBOSE", "2")
    monkeypatch.setenv("GEOSEGSR_UPSCALE_OVERWRITE", "no")
    monkeypatch.setenv("GEOSEGSR_UPSCALE_NODATA", "")
    values = parsed("upscale", "in.tif", "-o", "out.tif")
    assert values["value_range"] == (-10, 4000.5)
    assert values["window"] == (1, 2, 3, 4)
    assert (values["verbose"], values["overwrite"], values["nodata"]) == (2, False, None)


def test_several_places_are_separated_as_in_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOSEGSR_EVALUATE_HR", os.pathsep.join(["a b/c.tif", "d.tif"]))
    assert parsed("evaluate", "--model", "bicubic")["hr"] == ("a b/c.tif", "d.tif")


def test_the_command_line_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOSEGSR_UPSCALE_SCALE", "8")
    monkeypatch.setenv("GEOSEGSR_UPSCALE_CO", "COMPRESS=LZW")
    values = parsed("upscale", "in.tif", "-o", "out.tif", "--scale", "3", "--co", "LEVEL=9")
    assert (values["scale"], values["creation"]) == (3, (("LEVEL", "9"),))


@pytest.mark.parametrize(
    ("variable", "value", "parts"),
    [
        ("GEOSEGSR_UPSCALE_SCALE", "5", ["--scale", "cannot upscale by 5"]),
        ("GEOSEGSR_UPSCALE_RANGE", "7", ["--range", "2 values"]),
        ("GEOSEGSR_UPSCALE_TILE", "big", ["--tile", "big"]),
        ("GEOSEGSR_UPSCALE_SCAEL", "2", ["Did you mean 'GEOSEGSR_UPSCALE_SCALE'?"]),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(
    variable: str, value: str, parts: list[str], scene: Path, tmp_path: Path,
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv(variable, value)
    assert_refused(
        run_here(capfd, "upscale", *BICUBIC, scene, "-o", tmp_path / "out.tif"), 2, variable, *parts
    )
    assert run_here(capfd, "upscale", "--help").code == 0
    assert run_here(capfd, "info", scene).code == 0


def test_a_verbose_run_says_what_came_from_variables(
    scene: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GEOSEGSR_UPSCALE_SCALE", "2")
    said = run_here(capfd, "upscale", *BICUBIC, scene, "-o", tmp_path / "out.tif", "-v")
    (line,) = [line for line in said.err.splitlines() if "GEOSEGSR_UPSCALE_SCALE=2" in line]
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line)


# --- standard output, standard error, exit codes -----------------------------------------------------------------------


def test_every_line_of_a_log_file_that_tells_of_progress_has_its_time(
    scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said = run_here(capfd, "upscale", *BICUBIC, scene, "-o", tmp_path / "out.tif", "--json")
    assert json.loads(said.out)["path"] == str(tmp_path / "out.tif")
    assert said.err and "\r" not in said.err
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S", line) for line in said.err.splitlines())


def test_an_error_is_json_where_the_result_would_have_been(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "missing.tif"
    for command in (
        ["upscale", *BICUBIC, missing, "-o", tmp_path / "out.tif"],
        ["info", missing],
        ["models", missing],
    ):
        said = run_here(capfd, *command, "--json")
        error = json.loads(said.out)
        check(error, "error")
        assert (said.code, error["status"]) == (1, "failed")
        assert error["error"] in said.err and str(missing) in error["error"]
        assert error["kind"] in ("SceneError", "CheckpointError")
    assert run_here(capfd, "info", missing).out == ""


def test_wrong_usage_prints_nothing_on_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    assert_refused(run_here(capfd, "upscale", "in.tif", "-o", "out.tif", "--json", "--tile", "x"), 2)
    assert_refused(run_here(capfd, "upscale", "in.tif", "-o", "out.tif", "--json", "--no-such"), 2)


def test_an_interrupted_run_says_so_in_json(tmp_path: Path) -> None:
    source = factory.write_plain(tmp_path / "in.tif", size=(400, 400))
    target = tmp_path / "out.tif"
    process = start(
        "upscale",
        source,
        "-o",
        target,
        "--json",
        "--tile",
        16,
        "--overlap",
        4,
        "--block",
        48,
        "-m",
        "lanczos",
    )
    journal = tmp_path / "out.tif.geosegsr" / "done.jsonl"
    deadline = time.monotonic() + PATIENCE_S
    while not journal.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    check(json.loads(out), "error")
    assert json.loads(out)["status"] == "interrupted"


# --- the schema ---------------------------------------------------------------------------------------------------------


def check(document: dict[str, Any], *definitions: str) -> None:
    """A document is as the first definition says, and has no field that none of them describes."""
    definition = {"$ref": f"#/$defs/{definitions[0]}", "$defs": SCHEMA["$defs"]}
    Draft202012Validator(definition).validate(document)
    described = {name for item in definitions for name in SCHEMA["$defs"][item]["properties"]}
    assert not set(document) - described, "describe it in geosegsr/schemas/output.schema.json"


def output(capfd: pytest.CaptureFixture[str], *args: object) -> Any:
    """Strict JSON from standard output."""
    said = run_here(capfd, *args, "--json")
    assert said.code == 0, said.err

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(said.out, parse_constant=refuse)


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert {part["$ref"].rsplit("/", 1)[1] for part in SCHEMA["anyOf"]} <= set(SCHEMA["$defs"])


@pytest.mark.parametrize(
    "write",
    [factory.write_nodata, factory.write_nan, factory.write_gcps, factory.write_no_crs, factory.write_nir_as_alpha,
     factory.write_described, factory.write_rpcs],
)  # fmt: skip
def test_info_and_upscale_print_what_the_schema_says(
    write: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "in.tif")
    check(output(capfd, "info", source), "scene")
    check(output(capfd, "upscale", *BICUBIC, source, "-o", tmp_path / "out.tif", "--dry-run"), "estimate")
    item = ("--stac", "--datetime", "2024-05-01")
    check(output(capfd, "upscale", *BICUBIC, source, "-o", tmp_path / "out.tif", "-s", 2, *item), "report")


def test_nodata_that_is_no_number_is_json(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = factory.write_nan(tmp_path / "in.tif", nodata=float("nan"))
    found = output(capfd, "info", source)
    check(found, "scene")
    assert found["nodata"] == "nan"


def test_lines_of_a_batch_are_what_the_schema_says(
    scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.tif").write_text("no raster")
    command = [
        "upscale",
        *BICUBIC,
        scene,
        tmp_path / "broken.tif",
        "-o",
        f"{tmp_path}/out/",
        "-s",
        2,
        "--json",
    ]
    found: dict[str, list[str]] = {}
    for _ in range(2):
        said = run_here(capfd, *command)
        assert said.code == 1
        for line in map(json.loads, said.out.splitlines()):
            check(line, "outcome", "report")
            found.setdefault(Path(line["source"]).name, []).append(line["status"])
    assert found == {"scene.tif": ["done", "skipped"], "broken.tif": ["failed", "failed"]}
    said = run_here(capfd, *command, "--dry-run")
    check(json.loads(said.out), "batch_estimate")


def test_models_and_evaluate_print_what_the_schema_says(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    check(output(capfd, "models"), "models")
    truth = factory.write_plain(tmp_path / "hr.tif", size=(96, 96), dtype="uint8")
    check(output(capfd, "evaluate", "-m", "bicubic", "--hr", truth, "-s", 2), "evaluation")


# --- containers ---------------------------------------------------------------------------------------------------------

# No home, no name for the user, and nothing that can be written but one folder.
BOX = """
mount -o remount,ro,bind / || exit 125
for folder in /tmp /var/tmp; do
    if [ -d "$folder" ]; then mount --bind "$folder" "$folder" && mount -o remount,ro,bind "$folder" || exit 125; fi
done
mount --bind "$0" "$0" && mount -o remount,rw,bind "$0" || exit 125
cd /
exec unshare --user --map-user=12345 --map-group=12345 "$@"
"""


def bare(**variables: str) -> dict[str, str]:
    """An environment with nothing in it but these, where the package is, and what decides how BLAS computes."""
    arithmetic = {key: value for key, value in os.environ.items() if key.startswith("OPENBLAS_")}
    found = {"PATH": os.defpath, "PYTHONPATH": environment()["PYTHONPATH"], "HOME": "/nonexistent"}
    return found | arithmetic | variables


def boxed(writable: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", BOX, str(writable), *command],
        capture_output=True,
        text=True,
        env=bare(),
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """The one folder that a boxed command can write."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    folder = tmp_path / "results"
    folder.mkdir()
    probe = "import os, tempfile, pwd\ntry: tempfile.gettempdir()\nexcept FileNotFoundError: print('none', os.getuid())"
    found = boxed(folder, sys.executable, "-c", probe)
    if found.stdout.split() != ["none", "12345"]:
        pytest.skip(f"needs namespaces of its own: {found.stderr.strip()[-200:]}")
    return folder


def checkpoint(folder: Path) -> Path:
    import torch

    from geosegsr.models.card import ModelCard
    from geosegsr.models.checkpoint import save_checkpoint
    from geosegsr.models.segsr.network import SeGSR, preset

    torch.manual_seed(0)
    model = SeGSR(
        preset(
            "compact", scale=2, width=8, depths=(1, 1), modulation_width=4, tower_width=16, tower_layers=1,
            tower_heads=2, tower_grid=2, tower_output=16, prompt_heads=2,
        )
    ).eval()  # fmt: skip
    save_checkpoint(folder / "model.safetensors", model, ModelCard.of(model.config, "small"))
    return folder / "model.safetensors"


@pytest.mark.parametrize("how", ["threads", "workers", "model"])
def test_a_container_that_can_write_only_its_results(
    how: str, box: Path, scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = ["--model", str(checkpoint(tmp_path)), "--range", "0", "5000"] if how == "model" else BICUBIC
    options = ["--scale", "2", "--quiet", "--stac", "--datetime", "2024-05-01", *model]
    assert run_here(capfd, "upscale", scene, "-o", tmp_path / "wanted.tif", *options).code == 0
    if how == "workers":
        options += ["--workers", "1"]
    found = boxed(box, *PROGRAM, "upscale", str(scene), "-o", str(box / "out.tif"), *options)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
    assert sorted(entry.name for entry in box.iterdir()) == [
        "out.json",
        "out.overview.png",
        "out.thumbnail.png",
        "out.tif",
    ]
    with rasterio.open(tmp_path / "wanted.tif") as a, rasterio.open(box / "out.tif") as b:
        assert np.array_equal(a.read(), b.read())
        assert a.tags() == b.tags()


def test_what_needs_a_temporary_folder_says_so(box: Path, scene: Path) -> None:
    found = boxed(box, *PROGRAM, "evaluate", "-m", "bicubic", "--hr", str(scene), "--json")
    assert found.returncode == 1
    assert found.stderr.startswith("Error: Cannot write temporary files") and "TMPDIR" in found.stderr
    assert json.loads(found.stdout)["kind"] == "SceneError"


@pytest.mark.parametrize("workers", [(), ("--workers", "1")])
def test_temporary_files_go_where_tmpdir_says_and_are_gone_at_the_end(
    workers: tuple[str, ...], scene: Path, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ("tmp", "results", "here")]
    for folder in folders:
        folder.mkdir()
    scratch, results, here = folders
    began = scratch.stat().st_mtime_ns
    subprocess.run(
        [*PROGRAM, "upscale", *BICUBIC, str(scene), "-o", str(results / "out.tif"), "--quiet", *workers],
        env=bare(TMPDIR=str(scratch)), cwd=here, check=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert [entry.name for entry in results.iterdir()] == ["out.tif"]
    assert not list(here.iterdir()) and not list(scratch.iterdir())
    assert not workers or scratch.stat().st_mtime_ns > began


def test_commands_are_the_modules_of_their_names() -> None:
    assert {name: import_module(module).command.name for name, module in COMMANDS.items()} == {
        n: n for n in COMMANDS
    }
