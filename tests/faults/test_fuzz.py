"""Damaged and hostile files end in a verified result or in one line, within bounded time and memory.

Each mutant runs in a process of its own (see fuzzing.py). `benchmarks/fuzz.py` tries thousands.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import fuzzing
import mutants
import pytest
import scene_factory as factory
from command_line import Outcome, assert_refused, environment, run_here

SEED = 7
WHOLE = "GDAL reads each as a whole"
MANY = "a run has at most 100,000"
FOREIGN = "not recognized"
EXPECTED = {
    "2^31 x 2^31 pixels in 126 bytes, one strip": WHOLE,
    "2^31 x 2^31 pixels in 126 bytes, strips of a row": WHOLE,
    "2^31 x 1 pixels": WHOLE,
    "1 x 2^31 pixels": "damaged, incomplete or unreachable",  # the first places that are read are not there
    "300000 x 300000 empty pixels": MANY,
    "65535 bands": "more than 4,096",
    "tiles of 2^31": WHOLE,
    "tiles of 65520": WHOLE,
    "only a header": "Pass a file that GDAL can open",
    "a VRT of /etc/passwd": FOREIGN,
    "a VRT of a URL": FOREIGN,
    "a web service": FOREIGN,
}
"""Traps that are refused, and what the refusal says."""


def found(*args: object, folder: Path) -> list[fuzzing.Trial]:
    command = [sys.executable, "-W", "ignore", fuzzing.__file__, *map(str, args), str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=1500)
    assert ended.returncode == 0, ended.stderr
    return [fuzzing.Trial(**json.loads(line)) for line in ended.stdout.splitlines()]


@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    ("kind", "count"),
    [("scene", 60), ("checkpoint", 30), ("config", 40), ("area", 40), ("stac", 60), ("list", 20)],
)
def test_mutants_end_in_a_result_or_in_one_line(kind: str, count: int, tmp_path: Path) -> None:
    """Of a checkpoint all but the words of its card is checked: a changed one is mostly refused."""
    trials = found(kind, SEED, 0, count, folder=tmp_path)
    assert [trial for trial in trials if not trial.fine] == []
    assert len(trials) == count
    ways = fuzzing.tally(trials)
    assert ways["refused"]
    assert ways["result"] or kind == "checkpoint", "mutants that all end alike test little"


@pytest.mark.parametrize("name", EXPECTED)
def test_traps_are_refused_before_anything_large_is_made(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source.tif"
    source.write_bytes(mutants.TRAPS[name]())
    outcome = run_here(
        capfd, "upscale", source, "-o", tmp_path / "out.tif", "--scale", 8, "--model", "nearest"
    )
    assert_refused(outcome, 1, EXPECTED[name])
    assert [entry.name for entry in tmp_path.iterdir()] == ["source.tif"]


def write_sparse(path: Path) -> Path:
    """Six gigapixels of which only a few are stored, as mosaics along a coast are."""
    import rasterio
    from rasterio.windows import Window

    options = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "sparse_ok": True}
    with rasterio.open(
        path, "w", driver="GTiff", width=80_000, height=80_000, count=1, dtype="uint8", nodata=0, crs="EPSG:32633",
        transform=factory.TRANSFORM, **options,
    ) as target:  # fmt: skip
        target.write(factory.pixels(1, (64, 64), "uint8", 0), window=Window(40_000, 40_000, 64, 64))
    return path


def test_a_sparse_file_is_no_trap(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = write_sparse(tmp_path / "sparse.tif")
    assert source.stat().st_size < 1_000_000
    window = ("--window", 39_990, 39_990, 84, 84)
    outcome = run_here(
        capfd, "upscale", source, "-o", tmp_path / "out.tif", "--model", "nearest", "-q", *window
    )
    assert outcome.code == 0, outcome.err
    outcome = run_here(
        capfd, "upscale", source, "-o", tmp_path / "all.tif", "--model", "nearest", "--dry-run"
    )
    assert outcome.code == 0, outcome.err


def test_code_in_a_vrt_is_not_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    marker = tmp_path / "marker"
    source = tmp_path / "source.vrt"
    source.write_bytes(mutants.python_vrt(marker))
    outcome = upscale(source, tmp_path, capfd)
    assert outcome.code == 1
    assert not marker.exists()


def upscale(source: Path, folder: Path, capfd: pytest.CaptureFixture[str]) -> Outcome:
    return run_here(capfd, "upscale", source, "-o", folder / "out.tif", "--model", "nearest", "--scale", 2)


def test_a_list_of_files_under_the_name_of_a_tiff_is_not_followed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = factory.write_plain(tmp_path / "secret.tif", size=(64, 64), count=1, dtype="uint8")
    for name in ("list.tif", "list.TIFF"):
        source = tmp_path / name
        source.write_bytes(mutants.vrt_over(str(secret)))
        assert_refused(upscale(source, tmp_path, capfd), 1, f"'{source}'", "not recognized")
    shutil.copy(tmp_path / "list.tif", tmp_path / "list.vrt")
    assert upscale(tmp_path / "list.vrt", tmp_path, capfd).code == 0, "a VRT that says so is a way to work"


def test_an_area_of_a_million_vertices(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    source = factory.write_plain(tmp_path / "source.tif", count=1)
    angle = np.linspace(0, 2 * np.pi, 1_000_000, endpoint=False)
    middle = factory.TRANSFORM * (32, 24)
    x, y = middle[0] + 150 * np.cos(angle), middle[1] + 150 * np.sin(angle)
    ring = ", ".join(f"{a:.3f} {b:.3f}" for a, b in zip([*x, x[0]], [*y, y[0]], strict=True))
    area = tmp_path / "area.wkt"
    area.write_text(f"POLYGON (({ring}))")
    outcome = run_here(
        capfd, "upscale", source, "-o", tmp_path / "out.tif", "--model", "nearest", "--aoi", area, "-q"
    )
    assert outcome.code == 0, outcome.err
