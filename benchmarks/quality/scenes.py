"""Every scene of a folder through the command line, at several scales, as one Markdown table.

A scene must come out as a valid COG with all its metadata right, or be refused in one line; anything else
makes the exit status 1. The metadata is checked by tests/kits/metadata_oracle.py, which shares no code with
the package.

    python benchmarks/quality/scenes.py                                     the scenes of ../shared/imagery/scenes
    python benchmarks/quality/scenes.py FOLDER --scales 2 4 --only rotated
    python benchmarks/quality/scenes.py --by-gdal                           and compare each with the COG that GDAL makes

With --by-gdal each result is made a second time, of plain blocks by GDAL's COG driver, and all pixels of all levels, all
masks and all TIFF tags must be the same.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rio_cogeo.cogeo import cog_validate

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "kits"))

from comparison import cog_differences  # noqa: E402 - it lies in tests/kits/
from metadata_oracle import metadata_differences  # noqa: E402

COMMAND = [sys.executable, "-c", "from geosegsr_cli.main import main; main()"]
BY_GDAL = [
    sys.executable,
    "-c",
    "from geosegsr.raster.cog_block import TiledFormat; TiledFormat.of = classmethod(lambda *a, **k: None); "
    "from geosegsr_cli.main import main; main()",
]
GOOD = ("ok", "refused")
"""Outcomes that leave the exit status at 0."""


@dataclass(frozen=True)
class Row:
    """What came of one scene at one scale.

    Attributes:
        scene: File name.
        scale: Output pixels per input pixel.
        outcome: "ok", "refused", "UNDUE" (refused without cause), "NOISY" (refused, but not in one line),
            "WRONG" (a result, but not a right one), "TRACEBACK", "TIMEOUT" or "EXIT n".
        size: Of the output, width x height x bands; empty if there is none.
        cog: "yes", "NO" or empty.
        seconds: Wall time of the command.
        note: The refusal, or what is wrong.
    """

    scene: str
    scale: int
    outcome: str
    size: str
    cog: str
    seconds: float
    note: str

    def markdown(self) -> str:
        note = self.note.replace("|", "\\|").replace("\n", " ")
        return (
            f"| {self.scene} | {self.scale} | {self.outcome} | {self.size} | {self.cog} "
            f"| {self.seconds:.1f} | {note} |"
        )


HEAD = "| scene | scale | outcome | output | valid COG | seconds | note |\n|---|---|---|---|---|---|---|"


def run_upscale(
    source: Path, result: Path, scale: int, model: str, timeout: float, command: Sequence[str] = COMMAND
) -> subprocess.CompletedProcess[str]:
    """Run `geosegsr upscale` on one scene, quietly."""
    paths = [str(ROOT), str(ROOT / "cli"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    options = ["upscale", str(source), "-o", str(result), "--scale", str(scale), "--model", model, "-q"]
    return subprocess.run(
        [*command, *options], env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


def judge(source: Path, result: Path, scale: int, model: str, timeout: float) -> Row:
    """Run one scene at one scale and say what came of it."""
    started = time.perf_counter()
    try:
        done = run_upscale(source, result, scale, model, timeout)
    except subprocess.TimeoutExpired:
        return Row(source.name, scale, "TIMEOUT", "", "", timeout, "")
    seconds = time.perf_counter() - started
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    if "Traceback (most recent call last)" in done.stderr:
        return Row(source.name, scale, "TRACEBACK", "", "", seconds, last)
    if done.returncode == 0:
        return judge_result(source, result, scale, seconds)
    if done.returncode != 1:
        return Row(source.name, scale, f"EXIT {done.returncode}", "", "", seconds, last)
    if result.exists():
        return Row(source.name, scale, "WRONG", "", "", seconds, f"refused, but left a file: {last}")
    outcome = "UNDUE" if not is_refusable(source) else "refused" if len(lines) == 1 else "NOISY"
    return Row(source.name, scale, outcome, "", "", seconds, " / ".join(lines))


def is_refusable(source: Path) -> bool:
    """Whether a scene is to be refused: classes, complex numbers, several rasters, or damage."""
    try:
        with rasterio.open(source) as scene:
            classes = ColorInterp.palette in scene.colorinterp or has_few_values(scene)
            complex_numbers = any("complex" in dtype for dtype in scene.dtypes)
            if classes or complex_numbers or scene.subdatasets or len(set(map(repr, scene.nodatavals))) > 1:
                return True
            for _, window in scene.block_windows(1):
                scene.read(window=window)
    except RasterioError:
        return True
    return False


def has_few_values(scene: rasterio.DatasetReader) -> bool:
    """Whether a lone band of integers holds at most 24 values, as quality bands do."""
    if scene.count > 1 or np.dtype(scene.dtypes[0]).kind not in "iu":
        return False
    values: set[int] = set()
    for _, window in scene.block_windows(1):
        values.update(np.unique(scene.read(1, window=window)).tolist())
        if len(values) > 24:
            return False
    return True


def judge_result(source: Path, result: Path, scale: int, seconds: float) -> Row:
    """Check the layout and the metadata of a result."""
    if not result.exists():
        return Row(source.name, scale, "WRONG", "", "", seconds, "exit status 0, but no file")
    valid, errors, doubts = cog_validate(str(result), strict=True, quiet=True)
    problems = [*errors, *doubts, *metadata_differences(source, result, scale)]
    with rasterio.open(result) as dataset:
        size = f"{dataset.width} x {dataset.height} x {dataset.count}"
    right = valid and not problems
    note = "; ".join(problems)
    return Row(source.name, scale, "ok" if right else "WRONG", size, "yes" if valid else "NO", seconds, note)


def beside_gdal(row: Row, source: Path, result: Path, arguments: argparse.Namespace) -> Row:
    """The row, with what differs from the COG that GDAL makes of the same pixels."""
    other = result.with_name(f"{result.stem}_by_gdal.tif")
    done = run_upscale(source, other, row.scale, arguments.model, arguments.timeout, BY_GDAL)
    problems = cog_differences(result, other) if done.returncode == 0 else [done.stderr.strip()]
    other.unlink(missing_ok=True)
    return replace(row, outcome="WRONG", note="; ".join(["unlike GDAL's", *problems])) if problems else row


def rows(arguments: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """One row for each scene and scale, as they get done (and deletes its result, unless --workdir)."""
    for source in sorted(arguments.scenes.glob("*.tif")):
        if arguments.only not in source.name:
            continue
        for scale in arguments.scales:
            result = folder / f"{source.stem}_x{scale}.tif"
            row = judge(source, result, scale, arguments.model, arguments.timeout)
            if arguments.by_gdal and row.outcome == "ok":
                row = beside_gdal(row, source, result, arguments)
            yield row
            if not arguments.workdir:
                result.unlink(missing_ok=True)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Upscale every scene of a folder and check the results.")
    default = ROOT.parent / "shared" / "imagery" / "scenes"
    parser.add_argument("scenes", type=Path, nargs="?", default=default, help="folder of .tif files")
    parser.add_argument("--scales", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--model", default="bicubic")
    parser.add_argument("--only", default="", help="part of a file name")
    parser.add_argument("--workdir", type=Path, help="keep the results in this folder")
    parser.add_argument("--by-gdal", action="store_true", help="compare with the COGs that GDAL makes")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds for one scene at one scale")
    return parser.parse_args()


def main() -> int:
    """Print the table and a summary; the exit status says whether all went well."""
    arguments = parse_arguments()
    warnings.simplefilter("ignore", NotGeoreferencedWarning)  # some scenes have no georeference
    if not arguments.scenes.is_dir():
        print(f"Cannot benchmark '{arguments.scenes}': it is not a folder.", file=sys.stderr)
        return 2
    outcomes: Counter[str] = Counter()
    print(HEAD)
    with tempfile.TemporaryDirectory() as temporary:
        for row in rows(arguments, arguments.workdir or Path(temporary)):
            outcomes[row.outcome] += 1
            print(row.markdown(), flush=True)
    summary = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    print(f"\n{outcomes.total()} runs: {summary or 'none'}")
    return int(not outcomes or any(outcome not in GOOD for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
