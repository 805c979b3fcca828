"""What agreement with the input does to results of a model, for inputs made by sensors that it does and does not know.

    python benchmarks/quality/consistency.py imagery/val/naip imagery/val/neon

The result is moved by the degradation of the model's card, whatever the input was made by. Each line is
`geosegsr evaluate --model bundled --scale 4 --hr FOLDER --degradation FILE` with --consistency and without.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from geosegsr.evaluation.evaluate import evaluate_model
from geosegsr.models.contract import BUNDLED
from geosegsr.sensor.degradation import Degradation

SENSORS = {
    "bicubic, as in training": {},
    "box": {"kernel": "box"},
    "MTF 0.3": {"kernel": "mtf", "mtf": 0.3},
    "MTF 0.2": {"kernel": "mtf", "mtf": 0.2},
    "bicubic, noise of 1 %": {"noise_read": 0.01},
    "bicubic, JPEG quality 75": {"jpeg_quality": 75},
}


def parse_arguments(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--model", default=BUNDLED)
    parser.add_argument("--scale", type=int, default=4)
    return parser.parse_args()


def main() -> None:
    args = parse_arguments(__doc__)
    print(
        "| input made by |"
        + "".join(f" {f.name}: bicubic | model | agreeing | SSIM, change |" for f in args.folders)
    )
    print("|---|" + "---|---|---|---|" * len(args.folders))
    for name, values in SENSORS.items():
        sensor = Degradation.from_dict(values)
        cells = [cell for folder in args.folders for cell in measured(args, folder, sensor)]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def measured(args: argparse.Namespace, folder: Path, sensor: Degradation) -> list[str]:
    """PSNR of bicubic, of the model, of the model in agreement; and what agreement does to SSIM."""
    alone, agreeing = (
        evaluate_model(
            args.model, [os.fspath(folder)], scale=args.scale, degradation=sensor, consistency=consistency
        ).total
        for consistency in (False, True)
    )
    change = agreeing.model["ssim"] - alone.model["ssim"]
    numbers = (alone.bicubic["psnr"], alone.model["psnr"], agreeing.model["psnr"])
    return [*(f"{number:.3f}" for number in numbers), f"{change:+.4f}"]


if __name__ == "__main__":
    main()
