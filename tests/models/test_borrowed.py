"""The trunk of another project's network inside SeG-SR's frame computes what that network does, until it is trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from foreign_networks import NETWORKS, foreign_network, rcan_network, saved_foreign

from geosegsr.errors import CheckpointError, ConfigError
from geosegsr.models.segsr.borrowed import borrow, borrowed_fields
from geosegsr.models.segsr.network import SeGSR, preset
from geosegsr.training.config import ModelConfig, TrainConfig
from geosegsr.training.network import build_network

pytest.importorskip("spandrel")
TOWER = {
    "tower_width": 32, "tower_layers": 1, "tower_heads": 2, "tower_grid": 2, "tower_output": 16, "tower_patch": 16,
    "prompt_heads": 2, "lora_rank": 0, "modulation_width": 8,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["SwinIR", "HAT", "RCAN", "RCAN without mean"])
def test_at_rest_the_network_gives_the_pixels_of_the_original(kind):
    torch.manual_seed(0)
    theirs = foreign_network(kind) if kind in NETWORKS else rcan_network(mean=kind == "RCAN")
    state = theirs.state_dict()
    ours = SeGSR(preset("segsr", **{**TOWER, **borrowed_fields(state)})).eval()
    borrow(ours, state)
    lr = torch.from_numpy(np.random.default_rng(1).random((1, 3, 40, 51), np.float32))
    with torch.inference_mode():
        expected = theirs(lr.clone()).numpy()  # RCAN changes its input
        np.testing.assert_allclose(ours(lr).numpy(), expected, atol=1e-5 * max(1, np.abs(expected).max()))
        before = ours(lr)
        ours.modulations[0].gain_offset.bias[0] += 0.1
        assert not torch.allclose(ours(lr), before, atol=1e-5)


@pytest.mark.parametrize("kind", ["ESRGAN", "DAT", "SPAN"])
def test_other_structures_are_refused(kind):
    with pytest.raises(CheckpointError, match="no SwinIR, HAT or RCAN"):
        borrowed_fields(foreign_network(kind).state_dict())


def test_a_run_starts_with_the_trunk_or_says_what_does_not_fit(tmp_path):
    path = saved_foreign("SwinIR", tmp_path)
    model = {"preset": "segsr", "unit_from": str(path), "scale": 2, "changes": TOWER}
    network = build_network(TrainConfig(model=ModelConfig(**model)), 3)
    lr = torch.from_numpy(np.random.default_rng(1).random((1, 3, 24, 24), np.float32))
    with torch.inference_mode():
        np.testing.assert_allclose(network.eval()(lr), foreign_network("SwinIR")(lr), atol=1e-5)
    with pytest.raises(ConfigError, match=r"Pass --scale 2, and --bands"):
        build_network(TrainConfig(model=ModelConfig(**{**model, "scale": 4})), 3)
    with pytest.raises(CheckpointError, match="Cannot train with the units"):
        other = str(saved_foreign("SPAN", tmp_path))
        build_network(TrainConfig(model=ModelConfig(**{**model, "unit_from": other})), 3)


def test_fifty_steps_of_training_lower_the_loss(tmp_path):
    path = saved_foreign("SwinIR", tmp_path)
    model = ModelConfig(preset="segsr", unit_from=str(path), scale=2, changes=TOWER)
    network = build_network(TrainConfig(model=model), 3).train()
    rows, cols = torch.meshgrid(torch.linspace(0, 6, 32), torch.linspace(0, 9, 32), indexing="ij")
    hr = (0.5 + 0.4 * torch.stack([rows.sin(), cols.cos(), (rows + cols).sin()]))[None]
    lr = torch.nn.functional.avg_pool2d(hr, 2)
    optimiser = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 1e-3)
    losses = []
    for _ in range(50):
        loss = (network(lr) - hr).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]
    assert network.modulations[0].gain_offset.bias.abs().max() > 0
