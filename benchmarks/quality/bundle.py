"""Make a bundled checkpoint from a finished run, or from the mean of some: 16-bit weights, and a card that says what it is.

    python benchmarks/quality/bundle.py RUN IMAGERY SATELLITE geosegsr/weights/compact-x4.safetensors --date DATE

RUN is a folder of `geosegsr train`, or a checkpoint of benchmarks/gpu/train.py.

The card's numbers are measured here, on the images that benchmarks/quality/zoo.py measures.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from zoo import MEASURES, SOURCES

from geosegsr.evaluation.evaluate import evaluate_model
from geosegsr.models.card import ModelCard
from geosegsr.models.checkpoint import load_checkpoint, save_checkpoint
from geosegsr.models.segsr.network import SeGSR
from geosegsr.training.run_folder import RunFolder

TRAINED_ON = (
    "aerial RGB and near infrared of California (USDA NAIP, 0.6 m), forest and savanna (NEON, 0.1 m), towns and "
    "villages of Zanzibar, Nepal, the Philippines, Nairobi and Kampala (OpenAerialMap, 0.07 to 0.3 m), the coast of "
    "California (USGS), a park and a beach from a drone (P. Toffanin), two dates of Sentinel-2 over Paris (Copernicus) "
    "and a Landsat 8 scene (USGS); low-resolution sides by antialiased bicubic reduction, a small part by softer and "
    "noisier sensors; single bands as grey"
)
LICENCE = (
    "weights: as the package; images: public domain (USDA, USGS), CC BY 4.0 (OpenAerialMap; NAIP selection by J. Ventura), "
    "open data (NEON, Copernicus), BSD-2 (P. Toffanin)"
)
NOTES = (
    "Made by `geosegsr train --config geosegsr/weights/recipes/{recipe}.toml`, seed {seed}: {steps} steps in {minutes:.0f} minutes on one "
    "busy core of an AMD EPYC with avx512_bf16, {date}. Detail is what such ground looks like, not what was there. Sentinel-2 "
    "and Landsat are a small part of what it saw: expect less there than on aerial images."
)


TOLD_ON = (
    "aerial RGB and near infrared (USDA NAIP of California and North Dakota, NOAA of South Carolina), forest and savanna "
    "(NEON), towns and villages (OpenAerialMap), the coast of California (USGS), drone and kite images of five places, "
    "WorldView-3 of Las Vegas (SpaceNet), Sentinel-2 and Landsat scenes, everyday photographs; low-resolution sides with "
    "Gaussian blur of 0 to 1.3 lr pixels and MTF of 0.06 to 0.58 (0.92 at x4), box and antialiased bicubic reduction, white and soft "
    "noise up to 12 DN, JPEG of quality 38 to 98, each told to the network; 20 to 40 % by antialiased bicubic reduction alone"
)
TOLD_LICENCE = (
    "weights: as the package; images: public domain (USDA, USGS, NOAA), CC0 (Dennis Baldwin, OpenDroneMap, Unsplash), CC BY "
    "4.0 (OpenAerialMap contributors; NAIP selection by J. Ventura; Lomiri), CC BY 3.0 (Andrew Zaborowski), CC BY-SA 4.0 "
    "(SpaceNet / Maxar; Ubuntu MATE; Lomiri), open data (NEON, Copernicus), BSD-2 (P. Toffanin), MIT (D. Montero)"
)
GPU_NOTES = "Detail is what such ground looks like, not what was there."
CLEAN_ON = (
    "aerial RGB and near infrared (USDA NAIP of California and North Dakota, NOAA of South Carolina and other coasts), forest and "
    "savanna (NEON), towns and villages (OpenAerialMap), coasts of California (USGS), drone and kite images of five places, "
    "WorldView-3 of Las Vegas (SpaceNet), Sentinel-2 and Landsat scenes, more than 400 everyday photographs; "
    "low-resolution sides by antialiased bicubic reduction"
)
CLEAN_LICENCE = f"{TOLD_LICENCE}; photographs and coasts as benchmarks/gpu/imagery.tsv lists them: public domain, CC0, CC BY, CC BY-SA, MIT and BSD-2"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("imagery", type=Path)
    parser.add_argument("satellite", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--mean-with", type=Path, action="append", default=[], metavar="RUN",
        help="A run with the same start and another seed; the mean of their weights is bundled.",
    )  # fmt: skip
    parser.add_argument("--recipe", help="Name of the recipe; that of the scale by default.")
    parser.add_argument("--date", required=True)
    parser.add_argument("--leave-out", action="append", default=[], metavar="SOURCE", help="A source whose images were seen in training.")  # fmt: skip
    parser.add_argument("--remark", default="", help="What was not as the recipe says.")
    args = parser.parse_args()
    checkpoint = args.run if args.run.is_file() else args.run / "model.safetensors"
    network, card = load_checkpoint(checkpoint)
    average(network, [load_checkpoint(run / "model.safetensors")[0] for run in args.mean_with])
    if args.run.is_file():
        trained_on, licence = (TOLD_ON, TOLD_LICENCE) if card.told else (CLEAN_ON, CLEAN_LICENCE)
        said = {"trained_on": trained_on, "licence": licence, "notes": GPU_NOTES}
    else:
        said = {"trained_on": TRAINED_ON, "licence": LICENCE, "notes": notes_of(args, card.scale)}
    said["notes"] += f" {args.remark}" if args.remark else ""
    tile = ModelCard.of(network.config, card.name).tile  # a run may be older than what is best now
    card = replace(card, name=f"compact-x{card.scale}", storage="bfloat16", tile=tile, **said)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    card = save_checkpoint(args.out, network, replace(card, metrics={}))
    save_checkpoint(args.out, network, replace(card, metrics=measured(args, card.scale)))
    print(args.out, args.out.stat().st_size)


def notes_of(args: argparse.Namespace, scale: int) -> str:
    """How a run of `geosegsr train` came about."""
    with (args.run / "log.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    return NOTES.format(
        recipe=args.recipe or f"bundled-x{scale}",
        seed=RunFolder(args.run).read_config().seed,
        steps=int(last["step"]) + 1,
        minutes=float(last["elapsed_s"]) / 60,
        date=args.date,
    )


def average(network: SeGSR, others: Sequence[SeGSR]) -> None:
    """Put the mean of all networks' weights into the first."""
    states = [other.state_dict() for other in others]
    with torch.no_grad():
        for name, weights in network.state_dict().items():
            weights.copy_(torch.stack([weights, *(state[name] for state in states)]).mean(0))


def measured(args: argparse.Namespace, scale: int) -> dict[str, dict[str, float]]:
    """Measures of every source, bicubic's beside them."""
    folders = {"imagery": args.imagery, "satellite": args.satellite}
    table = {}
    for name, (folder, pattern, bands) in SOURCES.items():
        if name in args.leave_out:
            continue
        places = [os.fspath(folders[folder] / pattern)]
        row = evaluate_model(args.out, places, scale=scale, bands=bands).total
        table[name] = {
            key + suffix: round(values[key], 4)
            for suffix, values in (("", row.model), ("_bicubic", row.bicubic))
            for key in MEASURES
            if key in values
        }
    return table


if __name__ == "__main__":
    main()
