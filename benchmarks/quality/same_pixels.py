"""Whether two checkouts compute the same pixels: SHA-256 of what twelve small runs give, as a Markdown table.

Run it once for each checkout, and compare the tables. A change that must not alter pixels leaves them equal:

    python benchmarks/quality/same_pixels.py .venv/bin/python OLD_CHECKOUT --scenes satellite > old.md
    python benchmarks/quality/same_pixels.py .venv/bin/python . --scenes satellite > new.md
    diff old.md new.md

The hash covers what GDAL decodes (values, mask, dtype, nodata and transform), not the bytes of the file. It is valid for
one machine and one set of installed packages: another processor may round the last bit of a network differently.
The checkouts are run with one interpreter, whatever version of the package it has installed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

MAIN = "from geosegsr_cli.main import main; main()"

HASH = """
import hashlib, sys
import rasterio
for path in sys.argv[1:]:
    with rasterio.open(path) as scene:
        facts = (scene.count, scene.height, scene.width, scene.dtypes, str(scene.nodata), tuple(scene.transform))
        digest = hashlib.sha256(repr(facts).encode())
        digest.update(scene.read().tobytes())
        digest.update(scene.dataset_mask().tobytes())
    print(digest.hexdigest())
"""

IN_PYTHON = """
import hashlib, sys, warnings
import rioxarray
import geosegsr
warnings.simplefilter("ignore")
scene = rioxarray.open_rasterio(sys.argv[1]).isel(x=slice(40, 210), y=slice(30, 190))
result = geosegsr.super_resolve(scene, 2, device="cpu", precision="fp32", block=128)
facts = (result.shape, str(result.dtype), tuple(result.rio.transform()))
print(hashlib.sha256(repr(facts).encode() + result.values.tobytes()).hexdigest())
"""


@dataclass(frozen=True)
class Run:
    """One run of `geosegsr upscale`."""

    title: str
    scene: str
    """A file in the folder of scenes; empty for the sample scene of the repository."""
    arguments: tuple[str, ...]
    """Further arguments of `geosegsr upscale`."""
    uncertainty: bool = False
    """Whether the run writes a second file, with the uncertainty."""


SMALL = ("--window", "20", "30", "150", "130")
RUNS = (
    Run("bundled x2", "", ("--scale", "2", *SMALL)),
    Run("bundled x3", "", ("--scale", "3", *SMALL)),
    Run("bundled x4, several blocks", "", ("--scale", "4", *SMALL, "--tile", "48", "--overlap", "16", "--block", "256")),
    Run("bundled x8", "", ("--scale", "8", *SMALL)),
    Run("ensemble and uncertainty", "", ("--scale", "4", "--window", "60", "60", "80", "72", "--ensemble"), True),
    Run("lanczos", "rotated_southup_jpeg.tif", ("--scale", "2", "--model", "lanczos", "--window", "0", "0", "160", "120")),
    Run("nodata", "landsat7_rgb_nodata0.tif", ("--scale", "2", "--window", "0", "0", "260", "240")),
    Run("alpha", "rgba.tif", ("--scale", "2", "--window", "0", "0", "200", "180")),
    Run("area of interest", "sentinel2_l2a_patch_rgbn.tif", ("--scale", "4", "--bands", "1,2,3", "--aoi", "{aoi}")),
    Run("two worker processes", "", ("--scale", "2", *SMALL, "--block", "128", "--workers", "2")),
)  # fmt: skip
MEASURES = ("psnr", "ssim", "sam", "ergas", "uqi", "reflectance", "spatial", "improvement", "hallucination")


class Checkout:
    """Runs the code of one working tree, whatever version the interpreter has installed."""

    def __init__(self, python: Path, root: Path, scenes: Path, folder: Path) -> None:
        self.python, self.root, self.scenes, self.folder = python, root.resolve(), scenes.resolve(), folder
        places = f"{self.root}{os.pathsep}{self.root / 'cli'}"
        self.environment = os.environ | {"PYTHONPATH": places, "PYTHONDONTWRITEBYTECODE": "1"}

    def scene(self, name: str) -> Path:
        """A scene by its name; the checkout's own sample without one."""
        return self.scenes / name if name else self.root / "sample_data" / "scene.tif"

    def call(self, code: str, *arguments: str | Path) -> str:
        """What a piece of Python prints; ends this script with its messages if it fails."""
        command = [str(self.python), "-c", code, *map(str, arguments)]
        done = subprocess.run(command, env=self.environment, cwd=self.folder, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(map(str, arguments))}:\n{done.stderr}")
        return done.stdout.strip()

    def refuse_other_code(self) -> None:
        """Stop if the interpreter imports the package from elsewhere."""
        found = Path(self.call("import geosegsr; print(geosegsr.__file__)"))
        if self.root not in found.parents:
            sys.exit(f"Cannot compare '{self.root}': {self.python} imports {found}.")

    def pixels(self, run: Run) -> list[str]:
        """Hashes of the files that a run writes."""
        result, uncertainty = self.folder / "result.tif", self.folder / "uncertainty.tif"
        arguments = [argument.format(aoi=self.area(run.scene)) for argument in run.arguments]
        if run.uncertainty:
            arguments += ["--uncertainty", str(uncertainty)]
        common = ("--device", "cpu", "--precision", "fp32", "--overwrite", "--quiet")
        self.call(MAIN, "upscale", self.scene(run.scene), "-o", result, *common, *arguments)
        return self.call(HASH, result, *([uncertainty] if run.uncertainty else [])).split()

    def area(self, scene: str) -> Path:
        """A GeoJSON file with a triangle in the middle of a scene."""
        path = self.folder / "area.geojson"
        code = (
            "import json, sys, rasterio\n"
            "with rasterio.open(sys.argv[1]) as s:\n"
            "    ring = [s.xy(s.height * r, s.width * c) for r, c in ((.3, .3), (.35, .6), (.62, .4), (.3, .3))]\n"
            "    crs = {'type': 'name', 'properties': {'name': str(s.crs)}}\n"
            "shape = {'type': 'Polygon', 'coordinates': [ring]}\n"
            "feature = {'type': 'Feature', 'properties': {}, 'geometry': shape}\n"
            "print(json.dumps({'type': 'FeatureCollection', 'crs': crs, 'features': [feature]}))\n"
        )
        path.write_text(self.call(code, self.scene(scene)))
        return path

    def numbers(self) -> dict[str, float]:
        """What `geosegsr evaluate` measures of the bundled model at x2 on a part of the sample."""
        truth = self.folder / "truth.tif"
        cut = (
            "import sys, rasterio\n"
            "with rasterio.open(sys.argv[1]) as s:\n"
            "    window = rasterio.windows.Window(16, 16, 192, 160)\n"
            "    profile = {**s.profile, 'height': 160, 'width': 192, 'transform': s.window_transform(window)}\n"
            "    with rasterio.open(sys.argv[2], 'w', **profile) as out:\n"
            "        out.write(s.read(window=window))\n"
        )
        self.call(cut, self.scene(""), truth)
        options = (
            "--model",
            "bundled",
            "--scale",
            "2",
            "--device",
            "cpu",
            "--precision",
            "fp32",
            "--json",
            "--quiet",
        )
        found = json.loads(self.call(MAIN, "evaluate", "--hr", truth, *options))
        return {name: found["rows"][-1]["model"][name] for name in MEASURES}


def main() -> None:
    """Print the table for one checkout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("python", type=Path, help="Interpreter that has the dependencies installed.")
    parser.add_argument("checkout", type=Path, help="Working tree whose code runs.")
    parser.add_argument("--scenes", type=Path, required=True, help="Folder of the real scenes.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # The path of a virtual environment's interpreter is a link that must not be resolved.
        checkout = Checkout(arguments.python.absolute(), arguments.checkout, arguments.scenes, Path(folder))
        checkout.refuse_other_code()
        print("| run | SHA-256 of the pixels |\n|---|---|", flush=True)
        for run in RUNS:
            for number, digest in enumerate(checkout.pixels(run)):
                print(f"| {run.title}{', second file' if number else ''} | `{digest}` |", flush=True)
        digest = checkout.call(IN_PYTHON, checkout.scene(""))
        print(f"| super_resolve x2 in Python | `{digest}` |", flush=True)
        numbers = ", ".join(f"{name} {value!r}" for name, value in checkout.numbers().items())
        print(f"| evaluate x2, numbers | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
