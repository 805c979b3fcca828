"""The published network's numbers, from a fill that both implementations can make."""

from pathlib import Path

import numpy as np
import pytest
import torch
from published_kit import GOLDEN, REFERENCE, fill, published_state

from geosegsr.errors import CheckpointError
from geosegsr.models.segsr.config import Compat
from geosegsr.models.segsr.network import SeGSR
from geosegsr.models.segsr.published import convert, unwrapped

needs_reference = pytest.mark.skipif(
    not REFERENCE.exists(), reason="needs the equality data beside the repository"
)


def built(state: dict, prompts: torch.Tensor) -> SeGSR:
    config, ours = convert(state, prompts)
    with torch.device("meta"):
        model = SeGSR(config)
    model.load_state_dict(ours, assign=True)
    return model.eval().to(memory_format=torch.channels_last)


@pytest.fixture(scope="module")
def small():
    return published_state("segsr_small", GOLDEN)


def test_numpy_still_draws_the_numbers_of_the_golden_file() -> None:
    """If it does not, make the file again with a commit that equals the reference."""
    drawn = np.float32(0.5) + fill("input", (1, 3, 16, 16))
    np.testing.assert_array_equal(drawn, np.load(GOLDEN / "segsr_small.npz")["input"])


def error(ours: torch.Tensor, theirs: np.ndarray) -> float:
    return float(np.abs(ours.float().numpy() - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize(
    ("which", "folder"),
    [
        ("segsr_small", GOLDEN),
        pytest.param("segsr_x2", REFERENCE, marks=needs_reference),
        pytest.param("segsr_x4", REFERENCE, marks=needs_reference),
    ],
)
def test_outputs_and_guidance_are_those_of_the_published_program(which: str, folder: Path) -> None:
    model = built(*published_state(which, folder))
    data = np.load(folder / f"{which}.npz")
    lr = torch.from_numpy(data["input"])
    with torch.inference_mode():
        for i, guidance in enumerate(model.guidance(lr)):
            assert error(guidance, data[f"guidance_{i}"]) < 1e-5
        assert error(model(lr), data["output"]) < 1e-5
        model.merge_lora()
        assert error(model(lr), data["output"]) < 1e-5


def test_bfloat16_stays_near_float32(small):
    model = built(*small).merge_lora()
    data = np.load(GOLDEN / "segsr_small.npz")
    with torch.inference_mode():
        low = model.to(torch.bfloat16)(torch.from_numpy(data["input"])).numpy()
    difference = low - data["output"]
    assert np.abs(difference).max() / np.abs(data["output"]).max() < 0.05
    assert np.sqrt((difference**2).mean() / (data["output"] ** 2).mean()) < 0.02


def test_what_is_inferred_from_the_shapes(small):
    config, _ = convert(*small)
    assert (config.scale, config.depths, config.bands, config.width) == (2, (2, 1), 3, 24)
    sizes = (config.window, config.reach, config.compress, config.squeeze, config.mlp_ratio)
    assert sizes == (8, 0.5, 3, 12, 2)
    assert (config.lora_rank, config.tower_layers, config.tower_grid, config.tower_heads) == (2, 1, 4, 16)
    assert config.compat == Compat.published() and not config.final_norm


@pytest.mark.parametrize(("scale", "factors"), [(3, [3]), (4, [2, 2]), (8, [2, 2, 2])])
def test_other_scales_are_told_from_the_upsampler(small, scale, factors):
    state, prompts = dict(small[0]), small[1]
    for i, factor in enumerate(factors):
        state[f"upsample.{2 * i}.weight"] = torch.zeros(8 * factor**2, 8, 3, 3)
        state[f"upsample.{2 * i}.bias"] = torch.zeros(8 * factor**2)
    stages = {3: 3, 4: 2, 8: 1}[scale]
    gone = tuple(f"spades.{unit}.{2 * i}." for unit in (2, 7) for i in range(stages, 3))
    state = {name: tensor for name, tensor in state.items() if not name.startswith(gone)}
    assert built(state, prompts).config.scale == scale


def test_merged_adapters_give_the_same_network(small):
    state, prompts = small
    merged = {}
    for name, tensor in state.items():
        if ".lora_" in name:
            continue
        if name.endswith("base_layer.weight"):
            stem = name.removesuffix("base_layer.weight")
            tensor = tensor + state[stem + "lora_B.default.weight"] @ state[stem + "lora_A.default.weight"]
        merged[name.replace("base_layer.", "").replace("base_model.model.", "")] = tensor
    lr = torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        model = built(merged, prompts)
        assert model.config.lora_rank == 0
        torch.testing.assert_close(model(lr), built(state, prompts)(lr), rtol=1e-4, atol=1e-4)


def test_unknown_and_missing_tensors_are_named(small):
    state, prompts = small
    with pytest.raises(CheckpointError, match=r"discriminator\.weight"):
        convert({**state, "discriminator.weight": torch.zeros(1)}, prompts)
    with pytest.raises(CheckpointError, match=r"conv_first\.weight"):
        convert({k: v for k, v in state.items() if k != "conv_first.weight"}, prompts)
    with pytest.raises(CheckpointError, match="2 prompts of length 32"):
        convert(state, prompts[:1])


def test_tensors_are_found_under_the_names_of_training_programs():
    tensor = torch.zeros(1)
    for contents in ({"a": tensor}, {"params": {"a": tensor}}, {"params": {}, "params_ema": {"a": tensor}}):
        assert unwrapped(contents) == {"a": tensor}
    for contents in ([], {}, {"a": 3}, {"params": {"a": "b"}}):
        with pytest.raises(CheckpointError):
            unwrapped(contents)
