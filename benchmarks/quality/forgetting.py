"""What a fine-tuned network has lost on other sources, beside the network that it started from.

    python -m benchmarks.quality.forgetting imagery START.safetensors runs/naip/model.safetensors ...

IMAGERY has val/, a folder a source. The middle 384 x 384 pixels of at most six images of each, red, green and blue, are reduced by
antialiased bicubic downsampling and rounded to 8 bits. Networks are told that this is sharp and clean, if they can be. PSNR in dB
on luma of START, and the change of each other network.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.windows import Window

from geosegsr.evaluation.metrics import crop_border, luma, psnr
from geosegsr.models.checkpoint import load_checkpoint, read_card
from geosegsr.sensor.degradation import imresize_down
from geosegsr.sensor.descriptor import BICUBIC

_SIDE = 384
_MOST = 6


def middle(path: Path, scale: int) -> np.ndarray:
    """Red, green and blue of the middle of an 8-bit image, shape (3, H, W), 0 to 1."""
    with rasterio.open(path) as source:
        height, width = (min(_SIDE, side // scale * scale) for side in source.shape)
        window = Window((source.width - width) // 2, (source.height - height) // 2, width, height)
        return source.read([1, 2, 3], window=window).astype(np.float32) / 255


def score(network: torch.nn.Module, hr: np.ndarray, scale: int) -> float:
    lr = np.rint(np.clip(imresize_down(hr, scale), 0, 1) * 255).astype(np.float32) / 255
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        sr = network(torch.from_numpy(lr[None]), None, torch.tensor([BICUBIC.numbers]))
    made = sr[0].float().numpy().clip(0, 1)
    return psnr(luma(crop_border(made, scale)), luma(crop_border(hr, scale)), None, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("imagery", type=Path)
    parser.add_argument("start", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    options = parser.parse_args()
    torch.set_num_threads(1)
    scale = read_card(options.start).scale
    networks = [load_checkpoint(path)[0].eval() for path in (options.start, *options.models)]
    names = [f"{path.parent.name}/{path.stem}" for path in (options.start, *options.models)]
    print(f"| source | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}")
    for folder in sorted(path for path in (options.imagery / "val").iterdir() if path.is_dir()):
        files = sorted(folder.iterdir())
        chosen = np.unique(np.linspace(0, len(files) - 1, min(_MOST, len(files))).round().astype(int))
        images = [middle(files[i], scale) for i in chosen]
        first, *others = (float(np.mean([score(net, hr, scale) for hr in images])) for net in networks)
        changes = " | ".join(f"{other - first:+.2f}" for other in others)
        print(f"| {folder.name} | {first:.2f} | {changes} |", flush=True)


if __name__ == "__main__":
    main()
