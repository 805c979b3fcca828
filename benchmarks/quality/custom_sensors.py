"""What a few minutes of training give for sensors of one's own, beside bicubic, the bundled model and a random start.

    python benchmarks/quality/custom_sensors.py imagery --minutes 10 --threads 2 [--only naip_rgbn ...] [--out runs]
    python benchmarks/quality/custom_sensors.py imagery --steps 3900 --threads 1 --only drone

IMAGERY has train/ and val/ as the other benchmarks do. Each sensor is trained from the bundled weights and from random ones,
one after the other, with the default settings; sensor and network are chosen by the package. It also holds out the places for
validation, except where val/ has images of the same sensor. PSNR in dB on luma for three bands, else over all bands; the last
columns are the model of the finished run.

With `--minutes`, times are minutes of the run, so the machine should be idle: load averages are printed. `--steps` is for a
machine that is not: the run has that many steps, and the table its scores after a fifth, a half and all of them. They are what
an idle machine reaches in the minutes that it takes for as many steps, which have to be measured there; validation takes
some seconds more.
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
INITS = {"bundled": {}, "random": {"model.init": "none"}}


@dataclass(frozen=True)
class Sensor:
    """One set of images."""

    hr: str
    scale: int
    as_float: bool = False
    """Whether it is trained on as float32, 0 to 1."""
    val: str | None = None
    """Images of other places, where there are such; else the package holds some out."""


SENSORS = {
    "naip_rgbn": Sensor("train/naip_rgbn", 4, val="val/naip_rgbn"),
    "sentinel2_l1c": Sensor("train/satellite/OSCD_S2L1C*", 2),
    "landsat8": Sensor("train/satellite/LC8*", 2),
    "drone": Sensor("train/drone", 4, val="val/drone"),
    "grey_float32": Sensor("train/wv3_vegas_pan_16bit", 2, as_float=True),
    "warsaw_kap": Sensor("train/drone_warsaw_kap", 4),
    "wv3_vegas": Sensor("train/wv3_vegas_spacenet", 4),
    "banepa": Sensor("train/oam_banepa_nepal", 4),
}


class Curve:
    """The best score so far, by the share of the run after which it was known."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.points: list[tuple[float, float]] = []
        self.began = time.monotonic()
        self.steps, self.seconds = options.steps, 60 * options.minutes

    def __call__(self, event: Event) -> None:
        if isinstance(event, Validated):
            if event.step == 0:
                self.began = time.monotonic()
            elapsed = (time.monotonic() - self.began) / self.seconds
            self.points.append((event.step / self.steps if self.steps else elapsed, event.score.main))

    def best_until(self, share: float) -> float:
        return max(score for at, score in self.points if at <= share)


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
        **INITS[init],
        **({"schedule.steps": options.steps} if options.steps else {"schedule.minutes": options.minutes}),
        **({"data.val": [str(root / sensor.val)]} if sensor.val else {}),
        "validation.tiles": 24,
        "validation.forget": options.forget,
        "find_sensor": True,
        "threads": options.threads,
    }
    curve = Curve(options)
    return train(resolve_config(None, None, settings), run, on_event=curve), curve


def row(name: str, sensor: Sensor, options: argparse.Namespace) -> str:
    result, curve = trained(sensor, options.imagery, options.out / f"{name}-bundled", "bundled", options)
    scores = [result.baseline, result.bundled, result.start]
    cells = [f"{score.main:.2f}" if score else "-" for score in scores]
    cells += [f"{curve.best_until(share):.2f}" for share in (*AT, 1.0)]
    cells += [f"{result.score.main:.2f}" if result.score else "-"]
    if options.random:
        anew, _ = trained(sensor, options.imagery, options.out / f"{name}-random", "random", options)
        cells += [f"{anew.score.main:.2f}" if anew.score else "-"]
    return f"| {name} x{sensor.scale} | {' | '.join(cells)} | {result.steps} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("imagery", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--forget", type=float, default=0.02)
    parser.add_argument("--only", nargs="*", choices=SENSORS, default=list(SENSORS))
    parser.add_argument("--random", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=Path, default=Path("runs") / "custom_sensors")
    options = parser.parse_args()
    length, unit = (options.steps, "steps") if options.steps else (options.minutes, "min")
    after = [f"{share * length:g} {unit}" for share in (*AT, 1.0)]
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
