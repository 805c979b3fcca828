"""The weights of a network for other bands and another scale: what a training on a new sensor starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from geosegsr.imagery.sources import Patch
from geosegsr.models.segsr.config import SeGSRConfig
from geosegsr.models.segsr.enlarge import bicubic
from geosegsr.models.segsr.network import SeGSR
from geosegsr.raster.bands import find_bands
from geosegsr.training.batches import descriptors_of


def band_mixtures(bands: Sequence[str], known: Sequence[str]) -> tuple[Tensor, Tensor]:
    """How inputs of a network are made of other bands, and those bands of its outputs.

    A band goes to the input of its name, and its detail comes from the output of its name. If all names are missing and
    the number is right, the order counts. An input without its band sees the mean of the bands that are no other input's;
    a band without its output gets the mean detail of all outputs. A single band thus goes through as grey.

    Args:
        bands: What each of the new bands is ("red", "nir"); "" where unknown.
        known: What each band of the network is.

    Returns:
        Share of each band in each input, shape (len(known), len(bands)); share of each output in each band, the other way
        round. Rows sum to one.
    """
    found = find_bands(tuple(bands), tuple(known), len(known))
    if found is None:
        found = tuple(bands.index(name) if name and bands.count(name) == 1 else -1 for name in known)
    inputs, outputs = torch.zeros(len(known), len(bands)), torch.zeros(len(bands), len(known))
    free = [band for band in range(len(bands)) if band not in found] or list(range(len(bands)))
    for i, band in enumerate(found):
        if band < 0:
            inputs[i, free] = 1 / len(free)
        else:
            inputs[i, band] = outputs[band, i] = 1.0
    outputs[outputs.sum(1) == 0] = 1 / len(known)
    return inputs, outputs


def with_bands(network: SeGSR, bands: Sequence[str], known: Sequence[str]) -> SeGSR:
    """A network for other bands: its inputs and outputs are mixed as `band_mixtures` says.

    On bands that it knows all of, in any order, it computes what this one does.

    Args:
        network: Its weights are copied.
        bands: What each of the new bands is.
        known: What each of its own bands is.
    """
    inputs, outputs = band_mixtures(bands, known)
    config = network.config
    if inputs.shape[0] == inputs.shape[1] and bool(inputs.eq(torch.eye(len(inputs))).all()):
        return network
    old_mean = torch.tensor(config.band_mean)
    mean = outputs @ old_mean  # (C,)
    state = network.state_dict()
    first = state["conv_first.weight"]  # (W, K, 3, 3)
    state["conv_first.weight"] = torch.einsum("wkyx,kc->wcyx", first, inputs)
    state["conv_first.bias"] = state["conv_first.bias"] + torch.einsum(
        "wkyx,k->w", first, inputs @ mean - old_mean
    )
    for part in ("weight", "bias"):
        name = f"{_last(network)}.{part}"
        of_bands = state[name].unflatten(0, (config.bands, -1))  # (K, outputs of a band, ...)
        state[name] = torch.einsum("ck,kp...->cp...", outputs, of_bands).flatten(0, 1)
    tower = tuple(int(inputs[band].argmax()) for band in config.tower_bands)
    return _filled(
        replace(config, bands=len(bands), band_mean=tuple(mean.tolist()), tower_bands=tower), state
    )


def scale_new_detail(network: SeGSR, new: Sequence[int], patches: Sequence[Patch]) -> None:
    """Give bands whose detail is borrowed from others the share of it that fits them best, in the weights of a network.

    Detail is what the network adds to bicubic interpolation. Its share is the least-squares one on the patches, from 0 to 1:
    the detail of visible bands is only partly that of near infrared, and not at all that of a band of coarser pixels.

    Args:
        network: Adds to bicubic interpolation.
        new: Positions of these bands.
        patches: Of one size, with all bands.
    """
    config = network.config
    lr, hr = (torch.from_numpy(np.stack([getattr(p, side) for p in patches])) for side in ("lr", "hr"))
    valid = torch.from_numpy(np.stack([patch.valid for patch in patches]))[:, None]
    with torch.inference_mode():
        base = bicubic(lr, config.scale, config.base_sharpness)
        added = (network(lr, None, descriptors_of([patch.sensor for patch in patches])) - base) * valid
        missing = (hr - base) * valid  # (N, C, sh, sw)
        fit = ((added * missing).sum((0, 2, 3)) / (added**2).sum((0, 2, 3)).clamp(min=1e-12)).clamp(0, 1)
    share = torch.ones(config.bands)
    share[list(new)] = fit[list(new)]
    last = network.get_submodule(_last(network))
    with torch.no_grad():
        for values in last.parameters():
            values.unflatten(0, (config.bands, -1)).mul_(share.view(-1, *[1] * values.ndim))


def with_shape(network: SeGSR, config: SeGSRConfig) -> SeGSR:
    """A network of another scale, or with a sensor, and the weights of this one.

    The kernels of an enlargement of one step are interpolated between the sub-pixels; any other starts anew. What tells
    it of the sensor starts without effect where there was none.

    Args:
        network: Its weights are copied.
        config: Differs from the network's by `scale` and `sensor_width` at most.
    """
    if config == network.config:
        return network
    state = network.state_dict()
    if config.scale != network.config.scale:
        head = {name: state.pop(name) for name in list(state) if name.startswith("head.")}
        if config.head == "direct":
            state |= {name: _resampled(values, network.config, config) for name, values in head.items()}
    return _filled(config, state)


def _resampled(values: Tensor, old: SeGSRConfig, new: SeGSRConfig) -> Tensor:
    """Kernels or offsets of each sub-pixel, for another number of them."""
    planes = values.reshape(old.bands, old.scale, old.scale, -1).permute(0, 3, 1, 2)  # (C, numbers, s, s)
    between = F.interpolate(planes, size=(new.scale, new.scale), mode="bilinear", align_corners=False)
    return between.permute(0, 2, 3, 1).reshape(new.bands * new.scale**2, *values.shape[1:])


def _last(network: SeGSR) -> str:
    """Name of the last convolution."""
    return (
        f"head.{[name for name, layer in network.head.named_modules() if isinstance(layer, nn.Conv2d)][-1]}"
    )


def _filled(config: SeGSRConfig, state: dict[str, Tensor]) -> SeGSR:
    """A network of this configuration with these weights; those that are missing are its own first ones."""
    network = SeGSR(config)
    network.load_state_dict({**network.state_dict(), **state})
    return network
