"""Measure the bundled models on every source of validation images: the tables of docs/model-zoo.md.

    python benchmarks/quality/split_satellite.py IMAGERY/train/satellite SATELLITE
    python benchmarks/quality/zoo.py IMAGERY SATELLITE [--scales 2 4] [--model FILE]

Each line is `geosegsr evaluate --model bundled --scale S --hr FOLDER`; bicubic stands behind the slash.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from geosegsr.evaluation.evaluate import evaluate_model
from geosegsr.evaluation.table import Row

SOURCES = {
    "NAIP towns, 0.6 m": ("imagery", "val/naip", ()),
    "NAIP towns, false colour": ("imagery", "val/naip_rgbn", (4, 1, 2)),
    "NAIP towns, four bands": ("imagery", "val/naip_rgbn", ()),
    "NEON woodland, 0.1 m": ("imagery", "val/neon", ()),
    "USGS coast": ("imagery", "val/usgs", ()),
    "drone": ("imagery", "val/drone", ()),
    "Sentinel-2 L1C, 13 bands": ("satellite", "val/OSCD*.tif", ()),
    "Sentinel-2 L2A, four bands": ("satellite", "val/BEN*.tif", ()),
    "Landsat 8": ("satellite", "val/LC8*.tif", ()),
}
MEASURES = ("psnr_y", "psnr", "ssim", "sam", "ergas")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("imagery", type=Path)
    parser.add_argument("satellite", type=Path)
    parser.add_argument("--scales", type=int, nargs="+", default=[2, 3, 4, 8])
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--no-consistency", dest="consistency", action="store_false")
    args = parser.parse_args()
    folders = {"imagery": args.imagery, "satellite": args.satellite}
    for scale in args.scales:
        print(f"\n| x{scale} | images | Y, dB | all bands, dB | SSIM | SAM, degrees | ERGAS |")
        print("|---|---|---|---|---|---|---|")
        rows = {}
        for name, (folder, pattern, bands) in SOURCES.items():
            found = evaluate_model(
                args.model, [os.fspath(folders[folder] / pattern)], scale=scale, bands=bands,
                consistency=args.consistency,
            )  # fmt: skip
            rows[name] = found.total
            print(f"| {name} | {found.total.images} | {' | '.join(cells(found.total))} |", flush=True)
        for name, row in rows.items():
            if "Sentinel" in name or "Landsat" in name:
                print(f"\n| x{scale}, {name} | dB | bicubic | mean against input |\n|---|---|---|---|")
                for band in row.bands:
                    n = band.numbers
                    print(
                        f"| {band.name} | {n['psnr']:.2f} | {n['psnr_bicubic']:.2f} | {n['mean_shift']:+.3%} |"
                    )


def cells(row: Row) -> list[str]:
    """Every measure of a row, bold where the model is not better."""
    found = []
    for name in MEASURES:
        if name not in row.model:
            found.append("")
            continue
        own, simple = row.model[name], row.bicubic[name]
        better = own < simple if name in ("sam", "ergas") else own > simple
        digits = 4 if name == "ssim" else 2
        text = f"{own:.{digits}f} / {simple:.{digits}f}"
        found.append(text if better else f"**{text}**")
    return found


if __name__ == "__main__":
    main()
