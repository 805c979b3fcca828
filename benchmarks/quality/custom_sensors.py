"""What a few minutes of training give for sensors of one's own, beside bicubic, the bundled model and a random start.

    python benchmarks/quality/custom_sensors.py imagery --minutes 10 --threads 2 [--only naip_rgbn ...] [--out runs]

IMAGERY has train/ as the other benchmarks do. Each sensor is trained from the bundled weights and from random ones, one after
the other, with the default settings of the preset `compact`; the sensor of the images is found by the package. Places held out
for validation are the package's own. PSNR in dB on luma for three bands, else over all bands; the last columns are the model of
the finished run. Times are minutes of the run, so the machine should be idle: load averages are printed.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from geosegsr.training.config import resolve_config
from geosegsr.training.events import Event, Validated
from geosegsr.training.loop import TrainResult, train

AT = (0.2, 0.5)  # shares of the run that the table shows


@dataclass(frozen=True)
class Sensor:
    """One set of images."""

    hr: str
    scale: int
    as_float: bool = False
    """Whether it is trained on as float32, 0 to 1."""


SENSORS = {
    "naip_rgbn": Sensor("train/naip_rgbn", 4),
    "sentinel2_l1c": Sensor("train/satellite/OSCD_S2L1C*", 2),
    "landsat8": Sensor("train/satellite/LC8*", 2),
    "drone": Sensor("train/drone", 4),
    "grey_float32": Sensor("train/wv3_vegas_pan_16bit", 2, as_float=True),
    "warsaw_kap": Sensor("train/drone_warsaw_kap", 4),
    "wv3_vegas": Sensor("train/wv3_vegas_spacenet", 4),
    "banepa": Sensor("train/oam_banepa_nepal", 4),
}


class Curve:
    """Scores by the time at which they were known."""

    def __init__(self) -> None:
        self.points: list[tuple[float, float]] = []
        self.began = time.monotonic()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Validated):
            if event.step == 0:
                self.began = time.monotonic()
            self.points.append((time.monotonic() - self.began, event.score.main))

    def best_until(self, seconds: float) -> float:
        return max(score for at, score in self.points if at <= seconds)


def floats_of(folder: Path, target: Path) -> Path:
    """The images of a folder as float32, divided by the largest value of their 11 bits."""
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(folder.glob("*.tif")):
        with rasterio.open(file) as source:
            profile = {**source.profile, "dtype": "float32"}
            with rasterio.open(target / file.name, "w", **profile) as out:
                out.write((source.read() / np.float32(2047)).astype(np.float32))
    return target


def trained(
    sensor: Sensor, root: Path, run: Path, init: str, options: argparse.Namespace
) -> tuple[TrainResult, Curve]:
    settings: dict[str, Any] = {
        "data.hr": [
            str(floats_of(root / sensor.hr, options.out / "float32") if sensor.as_float else root / sensor.hr)
        ],
        "model.scale": sensor.scale,
        "model.init": init,
        "schedule.minutes": options.minutes,
        "validation.tiles": 24,
        "validation.keep": options.keep,
        "find_sensor": True,
        "threads": options.threads,
    }
    curve = Curve()
    return train(resolve_config("compact", None, settings), run, on_event=curve), curve


def row(name: str, sensor: Sensor, options: argparse.Namespace) -> str:
    result, curve = trained(sensor, options.imagery, options.out / f"{name}-bundled", "bundled", options)
    scores = [result.baseline, result.bundled, result.start]
    cells = [f"{score.main:.2f}" if score else "-" for score in scores]
    cells += [f"{curve.best_until(share * 60 * options.minutes):.2f}" for share in AT]
    cells += [f"{result.score.main:.2f}" if result.score else "-"]
    if options.random:
        anew, _ = trained(sensor, options.imagery, options.out / f"{name}-random", "none", options)
        cells += [f"{anew.score.main:.2f}" if anew.score else "-"]
    return f"| {name} x{sensor.scale} | {' | '.join(cells)} | {result.steps} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("imagery", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep", type=float, default=0.9)
    parser.add_argument("--only", nargs="*", choices=SENSORS, default=list(SENSORS))
    parser.add_argument("--random", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=Path, default=Path("runs") / "custom_sensors")
    options = parser.parse_args()
    after = [f"{share * options.minutes:g} min" for share in AT]
    heads = [
        "sensor",
        "bicubic",
        "bundled",
        "start",
        *after,
        "model",
        *(["from random"] if options.random else []),
        "steps",
    ]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    for name in options.only:
        print(row(name, SENSORS[name], options), flush=True)
        print(f"load averages: {os.getloadavg()}", flush=True)


if __name__ == "__main__":
    main()
