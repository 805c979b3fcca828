"""A new kind of unit is a module and one entry of the registry: nothing else knows the kinds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from training_kit import folder_of, tiny_config

from geosegsr.errors import ConfigError
from geosegsr.models.catalogue import load_upscaler
from geosegsr.models.checkpoint import load_checkpoint, read_card
from geosegsr.models.segsr.config import SeGSRConfig
from geosegsr.models.segsr.presets import preset, presets
from geosegsr.models.segsr.registry import UNITS, Unit
from geosegsr.models.segsr.units import build_unit
from geosegsr.training.config import resolve_config
from geosegsr.training.loop import train


class ToyUnit(torch.nn.Module):
    """Convolutions on blocks of 2 x 2 pixels."""

    def __init__(self, config: SeGSRConfig, depth: int) -> None:
        super().__init__()
        width = 4 * config.width
        self.body = torch.nn.Sequential(*(torch.nn.Conv2d(width, width, 1) for _ in range(depth)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        blocks = torch.nn.functional.pixel_unshuffle(x, 2)  # fails at odd sides
        return torch.nn.functional.pixel_shuffle(self.body(blocks), 2)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {**UNITS["compact"].presets["compact"], "width": 8, "depths": (1, 1)}
    unit = Unit(
        f"{__name__}:ToyUnit",
        {"toy": fields},
        multiple=lambda config: 2,
        fault=lambda config: "width is odd" if config.width % 2 else "",
        tile=48,
        overlap=12,
        halo=6,
    )
    monkeypatch.setitem(UNITS, "toy", unit)


@pytest.mark.usefixtures("toy")
def test_a_unit_of_one_entry_trains_loads_and_upscales(tmp_path: Path) -> None:
    config = tiny_config(folder_of(tmp_path / "hr"), **{"model.equivariance": "none"})
    values = config.to_dict()
    values["model"] = {**values["model"], "preset": "toy", "changes": {}}
    train(type(config).from_dict(values), tmp_path / "run")
    best = next((tmp_path / "run").glob("best*.safetensors"))
    card = read_card(best)
    assert card.config["unit"] == "toy"
    assert (card.tile, card.overlap, card.halo, card.multiple_of) == (48, 12, 6, 2)
    network, _ = load_checkpoint(best)
    assert isinstance(network.units[0], ToyUnit)
    sr = load_upscaler(best, device="cpu")(np.zeros((1, 3, 5, 7), np.float32))
    assert sr.shape == (1, 3, 10, 14)


@pytest.mark.usefixtures("toy")
def test_the_entry_has_preset_recipe_and_checks() -> None:
    assert presets()["toy"]["unit"] == "toy"
    assert resolve_config("toy").schedule == resolve_config("segsr").schedule  # the paper's recipe by default
    with pytest.raises(ConfigError, match="width is odd"):
        preset("toy", scale=2, width=7)
    with pytest.raises(ConfigError, match="sensor_width is for 'compact' units, not for 'toy'"):
        preset("toy", scale=2, sensor_width=8)
    with pytest.raises(ConfigError, match="Did you mean 'toy'"):
        preset("toyy", scale=2)


@pytest.mark.parametrize("name", presets())
def test_every_unit_keeps_the_shape_of_its_features(name: str) -> None:
    config = preset(name, scale=4)
    side = 2 * config.unit_multiple
    with torch.inference_mode():
        out = build_unit(config, 2)(torch.rand(1, config.width, side, side))
    assert out.shape == (1, config.width, side, side)
