"""Pack training imagery into one file of about 46 MB, for a GPU machine that sees no other.

    python -m benchmarks.gpu.pack IMAGERY SATELLITE runs/gpu/pack

`SATELLITE` is what benchmarks/quality/split_satellite.py writes to OUT/train. Images of 8 bits become AVIF without
chroma subsampling, deeper ones .npy; the folder is zipped to runs/gpu/pack.zip. The same command resumes a run that was
interrupted. Needs rasterio, and Pillow with AVIF.
"""

from __future__ import annotations

import argparse
import os
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

SUFFIXES = (".tif", ".png", ".webp", ".jpg")
SMALLEST = 200  # pixels; a shorter side leaves too little of a chip
CROPS = {
    "usgs": (slice(200, 968), slice(300, 1324)),
    "drone": (slice(None), slice(100, 868)),
}
"""Rows and columns that are kept of sources with more pixels than variety."""
HALVED = "oam"
"""The source of which every second image is left out."""
INFRARED = ("naip_rgbn", "naip_ndakota_rgbn")
"""Sources whose fourth band is packed as an image of its own."""
DEEP = {
    "sentinel2_spyndex": "s2",
    "landsat7_mexico": "landsat",
    "wv3_vegas_pan_16bit": "wv3",
    "wv3_vegas_spacenet_16bit": "wv3",
}
"""Folders of 16-bit images, and the source that they belong to."""
VALIDATION = {"naip": 8}
"""Images of each validation source; 2 of the others."""
VALIDATION_SIDE = 512  # pixels
VALIDATION_QUALITY = 97


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("imagery", type=Path, help="A folder with train/SOURCE and val/SOURCE.")
    parser.add_argument("satellite", type=Path, help="Satellite scenes to train on.")
    parser.add_argument("out", type=Path, help="Folder for the packed images; OUT.zip holds them all.")
    args = parser.parse_args()
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    for part in ("images", "deep", "val"):
        (args.out / part).mkdir(parents=True, exist_ok=True)
    sources = [folder for folder in sorted((args.imagery / "train").iterdir()) if folder.is_dir()]
    plain = [file for folder in sources if folder.name not in (*DEEP, "satellite") for file in images(folder)]
    with ThreadPoolExecutor(2) as threads:
        for _ in threads.map(lambda file: pack_image(file, args.out / "images"), plain):
            pass
    for source, file in deep_images(args.imagery / "train", args.satellite):
        pack_deep(file, args.out / "deep" / f"{source}__{file.stem}.npy")
    for file in validation_images(args.imagery / "val"):
        pack_validation(file, args.out / "val")
    archive = zipped(args.out)
    print(f"{archive}: {archive.stat().st_size / 1e6:.1f} MB")


def images(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES)


def deep_images(train: Path, satellite: Path) -> Iterator[tuple[str, Path]]:
    """Source and path of every image with more than 8 bits."""
    for file in images(satellite):
        yield "landsat" if file.name.startswith("LC8") else "s2", file
    for folder, source in DEEP.items():
        for file in images(train / folder):
            yield source, file


def validation_images(val: Path) -> Iterator[Path]:
    """Some images of each source, evenly chosen; naip_rgbn shows the places of naip."""
    for folder in sorted(val.iterdir()):
        if folder.is_dir() and folder.name != "naip_rgbn":
            files, count = images(folder), VALIDATION.get(folder.name, 2)
            yield from files[:: max(1, len(files) // count)][:count]


def pack_image(file: Path, out: Path) -> None:
    """One image of 8 bits; nothing where it is deeper, too small or one of the half that is left out."""
    source = file.parent.name
    if source == HALVED and zlib.crc32(file.stem.encode()) % 2:
        return
    target = out / f"{source}__{file.stem}.avif"
    infrared = target.with_name(f"{target.stem}__nir.avif") if source in INFRARED else None
    if target.exists() and (infrared is None or infrared.exists()):
        return
    pixels = read(file)
    if pixels.dtype != np.uint8 or min(pixels.shape[1:]) < SMALLEST:
        return
    rows, columns = CROPS.get(source, (slice(None), slice(None)))
    pixels = pixels[:, rows, columns]
    quality = 88 if source.startswith("naip") else 84
    if infrared is not None:
        save_avif(pixels[3:4], infrared, quality)
    save_avif(pixels[:3], target, quality)


def pack_deep(file: Path, target: Path) -> None:
    """All bands of an image as they are."""
    if target.exists():
        return
    part = target.with_suffix(".part")
    with part.open("wb") as opened:
        np.save(opened, read(file))
    part.replace(target)


def pack_validation(file: Path, out: Path) -> None:
    target = out / f"{file.parent.name}__{file.stem}.avif"
    if not target.exists():
        save_avif(read(file)[:3, :VALIDATION_SIDE, :VALIDATION_SIDE], target, VALIDATION_QUALITY)


def read(file: Path) -> NDArray[np.generic]:
    """Pixels, shape (bands, height, width)."""
    with rasterio.open(file) as scene:
        pixels: NDArray[np.generic] = scene.read()
    return pixels


def save_avif(pixels: NDArray[np.generic], target: Path, quality: int) -> None:
    """Write (1 or 3, height, width) in uint8; the file appears whole or not at all."""
    image = Image.fromarray(
        np.ascontiguousarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    )
    part = target.with_suffix(".part")
    image.save(part, format="AVIF", quality=quality, subsampling="4:4:4", speed=7, max_threads=1)
    part.replace(target)


def zipped(folder: Path) -> Path:
    """The folder as one file beside it."""
    archive = folder.with_name(f"{folder.name}.zip")
    part = archive.with_suffix(".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as opened:
        for file in sorted([*folder.glob("*/*.avif"), *folder.glob("*/*.npy")]):
            opened.write(file, file.relative_to(folder))
    os.replace(part, archive)
    return archive


if __name__ == "__main__":
    main()
