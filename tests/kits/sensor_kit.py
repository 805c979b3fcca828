"""Scenes and small networks for tests of sensors."""

import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin

from geosegsr.models.card import ModelCard
from geosegsr.models.checkpoint import save_checkpoint
from geosegsr.models.segsr.network import SeGSR, preset


def network_file(path, sensor_width=8, **entries):
    """An untrained network of x2 whose card says antialiased bicubic reduction, and further entries; its path.

    With a `sensor_width` it is told of the sensor, and what it is told makes a difference.
    """
    torch.manual_seed(0)
    network = SeGSR(preset("compact", scale=2, width=16, depths=(2, 2), sensor_width=sensor_width))
    if sensor_width:
        for p in network.sensor.parameters():
            torch.nn.init.normal_(p, std=0.3)
        torch.nn.init.normal_(network.head[0].weight, std=0.05)
    card = ModelCard.of(network.config, path.stem, degradation={"kernel": "bicubic"}, grey=True, **entries)
    save_checkpoint(path, network, card)
    return path


def scene(tmp_path, pixels, name="scene.tif", **profile):
    path = tmp_path / name
    transform = from_origin(500_000, 4_000_000, 1, 1)
    bands, height, width = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=bands, dtype=pixels.dtype,
        crs="EPSG:32611", transform=transform, **profile,
    ) as file:  # fmt: skip
        file.write(pixels)
    return path


def texture(bands=3, side=256, noise=0.0, seed=0):
    """Ground of soft hills and hard edges, and white noise in DN."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((bands, side // 8, side // 8)).repeat(8, 1).repeat(8, 2)
    dn = 60 + 120 * coarse + noise * rng.standard_normal((bands, side, side))
    return dn.round().clip(0, 255).astype(np.uint8)
