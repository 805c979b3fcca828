"""The network: a trunk of SR units, each followed by a modulation that the guidance steers.

lr -> features -> unit 1 -> modulation 1 -> unit 2 -> ... -> enlargement -> sr
 `-> semantic features -> prompts -> guidance 1 ---^ guidance 2 ---^
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from geosegsr.models.padding import padded
from geosegsr.models.segsr.config import BICUBIC, Compat, SeGSRConfig
from geosegsr.models.segsr.enlarge import bicubic, build_head
from geosegsr.models.segsr.guidance import SemanticFeatures, SemanticLocalisation
from geosegsr.models.segsr.modulation import Modulation, channel_norm
from geosegsr.models.segsr.precision import conv_in_float32
from geosegsr.models.segsr.presets import preset, presets
from geosegsr.models.segsr.sensor import SensorConditioning
from geosegsr.models.segsr.units import ConditionedUnit, build_unit
from geosegsr.models.threads import one_thread

__all__ = ["Compat", "SeGSR", "SeGSRConfig", "preset", "presets"]


class SeGSR(nn.Module):
    """Super-resolution steered by semantic features of the image.

    With weights of 16 bits, or under autocast, units, tower and enlargement compute in 16 bits; the features that they
    pass on stay in float32, without which smooth ground is up to 0.3 dB worse at twice the resolution.

    Source:
        "Integrating Semantic Knowledge into Remote Sensing Image Super-Resolution via Vision-Language Model",
        IEEE TGRS 63, 2025, doi 10.1109/TGRS.2025.3612420.
    """

    def __init__(self, config: SeGSRConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.conv_first = nn.Conv2d(config.bands, width, 3, padding=1)
        self.embed_norm = nn.LayerNorm(width) if config.embed_norm else None
        self.units = nn.ModuleList(build_unit(config, depth) for depth in config.depths)
        modulations = [
            Modulation(
                width, config.modulation_width, config.modulation_kernel, normalise=config.modulation_norm
            )
            for _ in config.depths
        ]
        self.modulations = nn.ModuleList(modulations)
        self.final_norm = nn.LayerNorm(width) if config.final_norm else None
        self.conv_after = nn.Conv2d(width, width, 3, padding=1)
        self.head = build_head(config)
        self.sensor = SensorConditioning(config) if config.sensor_width else None
        self.apply(_initialise)
        for modulation in modulations:
            modulation.start_plain()
        if self.sensor is not None:
            self.sensor.start_plain()
        if config.residual:
            _start_small(self.head)
        # Built after the initialisation above, which must never reach the tower's weights.
        self.features = SemanticFeatures(config)
        self.localisation = SemanticLocalisation(config)

    def forward(self, lr: Tensor, guide: Tensor | None = None, descriptor: Tensor | None = None) -> Tensor:
        """Enlarge images.

        Args:
            lr: Shape (N, C, h, w), 0 to 1; any size.
            guide: Red, green, blue for the tower, shape (N, 3, h, w), where `lr` does not hold them.
            descriptor: Of the sensor, shape (N, 4), as `config.DESCRIPTOR` names its numbers; that of antialiased
                bicubic reduction by default. A network that is told nothing ignores it.

        Returns:
            Shape (N, C, scale*h, scale*w), float32, not clipped.
        """
        height, width = lr.shape[-2:]
        maps = self.guidance(lr, guide)  # k times (N, 1, R, Q)
        # Only as far as the units need it: beyond what is padded the trunk meets the zeros that it learned with.
        sr = self._enlarge(padded(lr, self.config.unit_multiple), maps, self._conditions(lr, descriptor))
        return sr[..., : height * self.config.scale, : width * self.config.scale]

    def guidance(self, lr: Tensor, guide: Tensor | None = None) -> list[Tensor]:
        """The map that steers each unit, (N, 1, R, Q) on the tower's tokens; arguments as in forward.

        In inference mode the maps are the same to the last bit for any number of threads.
        """
        rgb = lr[:, list(self.config.tower_bands)] if guide is None else guide  # (N, 3, h, w)
        with one_thread() if torch.is_inference_mode_enabled() else nullcontext():
            maps: list[Tensor] = self.localisation(*self.features(padded(rgb, self.config.multiple_of)))
        return maps

    def merge_lora(self) -> SeGSR:
        """Fold the tower's adapters into its weights, for inference; the configuration then has none."""
        self.features.tower.merge()
        self.config = replace(self.config, lora_rank=0)
        return self

    def specialise(self, descriptor: Sequence[float]) -> SeGSR:
        """Fold the gains and offsets for a sensor's descriptor into the weights; the configuration then has no `sensor_width`.

        Args:
            descriptor: Four numbers, see `config.DESCRIPTOR`.
        """
        if self.sensor is None:
            return self
        weight = self.conv_first.weight
        with torch.no_grad():
            conditions = self.sensor(weight.new_tensor([list(descriptor)]))
            for unit, own in zip(self.units, conditions, strict=True):
                assert isinstance(unit, ConditionedUnit)
                for conv, (gain, offset) in zip(unit.convolutions(), own[..., 0, :, 0, 0], strict=True):
                    assert conv.bias is not None
                    conv.weight.mul_(gain[:, None, None, None])
                    conv.bias.mul_(gain).add_(offset)
        self.sensor = None
        self.config = replace(self.config, sensor_width=0)
        return self

    def _conditions(self, lr: Tensor, descriptor: Tensor | None) -> tuple[Tensor, ...] | None:
        """Gains and offsets of each unit's convolutions; None without a sensor."""
        if self.sensor is None:
            return None
        told = lr.new_tensor(BICUBIC).expand(len(lr), -1) if descriptor is None else descriptor
        conditions: tuple[Tensor, ...] = self.sensor(told)
        return conditions

    def _enlarge(
        self, lr: Tensor, maps: list[Tensor], conditions: tuple[Tensor, ...] | None = None
    ) -> Tensor:
        dtype, mean = self.conv_after.weight.dtype, lr.new_tensor(self.config.band_mean).view(-1, 1, 1)
        first = self.conv_first
        shallow = conv_in_float32(lr - mean, first.weight, first.bias, padding=1)  # (N, W, h, w)
        x = shallow if self.embed_norm is None else channel_norm(shallow, self.embed_norm)
        for i, (unit, modulate) in enumerate(zip(self.units, self.modulations, strict=True)):
            own = () if conditions is None else (conditions[i],)
            x = x + unit(x.to(dtype), *own).to(x.dtype)  # (N, W, h, w)
            x = modulate(x, self._steering(i, maps[i], *x.shape[-2:]))  # (N, W, h, w)
        if self.final_norm is not None:
            x = channel_norm(x, self.final_norm)
        x = self.conv_after(x.to(dtype)).to(x.dtype) + shallow  # (N, W, h, w)
        sr: Tensor = self.head(x.to(dtype)).float()  # (N, C, sh, sw)
        if not self.config.residual:
            return sr + mean
        return bicubic(lr, self.config.scale, self.config.base_sharpness).add_(sr)

    def _steering(self, unit: int, guidance: Tensor, height: int, width: int) -> Tensor:
        """A unit's map over the trunk's features, (N, 1, h, w), without what the tower was padded by."""
        multiple = self.config.multiple_of
        whole = self.localisation.enlarge(
            unit, guidance, height + -height % multiple, width + -width % multiple
        )
        return whole[..., :height, :width]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, a=1.0)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _start_small(head: nn.Sequential) -> None:
    last = [m for m in head if isinstance(m, nn.Conv2d)][-1]
    with torch.no_grad():
        last.weight *= 0.01
