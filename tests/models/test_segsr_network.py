"""The network: shapes at any size, the parts of the paper one by one, and a tower that keeps its weights."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from geosegsr.errors import ConfigError
from geosegsr.models.segsr.config import Compat, SeGSRConfig
from geosegsr.models.segsr.enlarge import bicubic, shuffled
from geosegsr.models.segsr.guidance import GuidanceUpsampler
from geosegsr.models.segsr.network import SeGSR, preset, presets
from geosegsr.models.segsr.tower import Tower
from geosegsr.models.segsr.units.attention import (
    WindowAttention,
    from_windows,
    relative_positions,
    to_windows,
    wrap_masks,
)

TINY = {
    "width": 12,
    "depths": (2, 2),
    "modulation_width": 4,
    "head_width": 8,
    "tower_width": 32,
    "tower_layers": 2,
    "tower_heads": 2,
    "tower_grid": 4,
    "tower_output": 16,
    "prompt_heads": 2,
}
TRANSFORMER = {"heads": 2, "window": 4, "squeeze": 4}


def tiny(name: str = "segsr", scale: int = 4, bands: int = 3, **changes) -> SeGSR:
    torch.manual_seed(0)
    fields = presets()[name]
    small = {**TINY, **TRANSFORMER} if fields["unit"] in ("hat", "swin") else TINY
    if fields.get("lora_rank", 32):
        small = {**small, "lora_rank": 4}
    return SeGSR(preset(name, scale=scale, bands=bands, **{**small, **changes})).eval()


@pytest.mark.parametrize("name", presets())
@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("size", [(1, 1), (5, 18), (16, 16)])
def test_every_preset_takes_any_size_at_every_scale(name, scale, size):
    model = tiny(name, scale)
    with torch.inference_mode():
        sr = model(torch.rand(2, 3, *size))
    assert sr.shape == (2, 3, size[0] * scale, size[1] * scale)
    assert sr.dtype == torch.float32
    assert torch.isfinite(sr).all()


@pytest.mark.parametrize("name", presets())
@pytest.mark.parametrize("autocast", [False, True])
def test_sixteen_bits_pass_features_on_in_thirty_two(name, autocast):
    model = tiny(name)
    told = [] if model.sensor is None else model.sensor.parameters()
    for parameter in (*model.units.parameters(), *told):  # units that add nothing
        torch.nn.init.zeros_(parameter)
    seen = []
    model.modulations[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.modulations[0].forward = lambda x, guidance: x
    lr = torch.rand(1, 3, 16, 16)
    if not autocast:
        model.to(torch.bfloat16)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        model(lr)
    first, mean = model.conv_first, lr.new_tensor(model.config.band_mean).view(-1, 1, 1)
    expected = F.conv2d(lr - mean, first.weight.float(), first.bias.float(), padding=1)
    if model.embed_norm is not None:
        expected = F.layer_norm(expected.permute(0, 2, 3, 1), expected.shape[1:2]).permute(0, 3, 1, 2)
    torch.testing.assert_close(seen[0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("autocast", [False, True])
def test_sixteen_bits_leave_semantic_localisation_in_thirty_two(autocast):
    model, seen = tiny(), []
    features = [F.normalize(torch.rand(2, *size, 16), dim=-1) for size in ((3, 4), ())]
    expected = model.localisation(*features)
    enlarged = model.localisation.enlarge(0, expected[0], 12, 16)
    model.features.register_forward_hook(lambda _, inputs, output: seen.extend(output))
    if not autocast:
        model.to(torch.bfloat16)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = model.localisation(*features)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        assert torch.equal(model.localisation.enlarge(0, found[0], 12, 16), enlarged)
        model(torch.rand(1, 3, 16, 16))
    assert [tensor.dtype for tensor in seen] == [torch.float32] * 2  # of length one to more than 16 bits
    torch.testing.assert_close(seen[0].norm(dim=-1), torch.ones(seen[0].shape[:-1]))


def test_a_network_in_sixteen_bits_can_be_widened_again():
    model = tiny().to(torch.bfloat16).to(torch.float64)
    assert {p.dtype for p in model.parameters()} == {torch.float64}


@pytest.mark.parametrize("bands", [1, 2, 4, 13])
def test_any_number_of_bands(bands):
    model = tiny("compact", 2, bands)
    assert model(torch.rand(1, bands, 16, 16)).shape == (1, bands, 32, 32)


def test_every_parameter_of_every_preset_is_learned():
    for name in presets():
        model = tiny(name).train()
        model(torch.rand(1, 3, 16, 16)).square().mean().backward()
        still = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert not still, (name, still)


def test_a_presets_sizes_are_those_of_the_paper():
    with torch.device("meta"):
        model = SeGSR(preset("segsr", scale=4))
    count = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    unused = 6 * (3 * 512 * 512 + 3 * 512 + 512 * 512 + 512)  # attention modules that nothing uses
    prompts = 6 * 512
    assert count - prompts + unused == pytest.approx(126.50e6, abs=1e4)
    assert trained - prompts + unused == pytest.approx(40.30e6, abs=1e4)


def test_units_with_windows_see_a_reflection_beyond_the_far_sides():
    model = tiny(scale=2)
    lr = torch.rand(1, 3, 14, 16)
    with torch.inference_mode():
        direct = model(F.pad(lr, (0, 0, 0, 2), mode="reflect"))[..., :28, :]
        assert torch.equal(model(lr), direct)


def test_guidance_comes_from_the_guide_where_there_is_one():
    model = tiny("compact", 2, bands=1)
    lr, guide = torch.rand(1, 1, 16, 16), torch.rand(1, 3, 16, 16)
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.guidance(lr), model.guidance(lr, lr.expand(-1, 3, -1, -1)), strict=True)
    )
    assert not torch.equal(model.guidance(lr)[0], model.guidance(lr, guide)[0])
    assert not torch.equal(model(lr), model(lr, guide))


def test_tower_bands_choose_what_the_tower_sees():
    model = tiny("compact", 2, bands=4, tower_bands=(3, 1, 0))
    lr = torch.rand(1, 4, 16, 16)
    assert torch.equal(model.guidance(lr)[0], model.guidance(lr, lr[:, [3, 1, 0]])[0])


@pytest.mark.parametrize("sharpness", [-0.5, -0.75])
def test_residual_networks_start_near_the_bicubic_enlargement(sharpness):
    lr = torch.rand(1, 3, 32, 32)
    base = bicubic(lr, 4, sharpness)
    network = tiny("compact", 4, base_sharpness=sharpness)
    with torch.inference_mode():
        assert (network(lr) - base).abs().max() < 0.1
    for parameter in network.head.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.inference_mode():
        torch.testing.assert_close(network(lr), base)


def test_guidance_is_a_cosine_unless_published():
    lr = torch.rand(1, 3, 16, 16)
    assert all(m.abs().max() <= 100.001 for m in tiny().guidance(lr))
    small = tiny(compat=Compat(unit_prompts=False))
    small.load_state_dict(tiny().state_dict())
    assert not torch.allclose(small.guidance(lr)[0], tiny().guidance(lr)[0])


def test_guidance_enlargement_starts_as_nearest_neighbour():
    up = GuidanceUpsampler(8)
    x = torch.rand(1, 1, 3, 4)
    with torch.no_grad():
        for module in list(up)[::2]:
            module.weight[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0
            module.weight[:, :, 1, 1] = 1
        assert torch.equal(up(x), F.interpolate(x, scale_factor=8, mode="nearest"))
    assert len(GuidanceUpsampler(1)) == 0 and len(GuidanceUpsampler(16 / 3)) == 6


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("size", [(1, 1), (2, 7), (9, 6)])
def test_bicubic_enlargement_is_torchs(scale, size):
    image = torch.rand(2, 3, *size)
    torch.testing.assert_close(
        bicubic(image, scale), F.interpolate(image, scale_factor=scale, mode="bicubic")
    )


def test_the_shuffle_is_torchs():
    x = torch.rand(2, 18, 4, 5)
    for layout in (torch.contiguous_format, torch.channels_last):
        assert torch.equal(shuffled(x.contiguous(memory_format=layout), 3), F.pixel_shuffle(x, 3))


# The tower


def test_building_the_network_leaves_pretrained_tower_weights_as_they_are(monkeypatch):
    from geosegsr.models.segsr import tower

    made = {}

    def remember(*args, **shape):
        vit = original(*args, **shape)
        made.update(copy.deepcopy(vit.state_dict()))
        return vit

    original = tower.VisionTransformer
    monkeypatch.setattr(tower, "VisionTransformer", remember)
    model = tiny()
    kept = model.features.tower.base_weights()
    assert kept.keys() == made.keys()
    assert all(torch.equal(kept[name], made[name]) for name in made)


def test_the_towers_forward_is_open_clips():
    from open_clip.transformer import QuickGELU, VisionTransformer

    torch.manual_seed(1)
    theirs = VisionTransformer(
        64, 16, 32, 2, 2, 4.0, output_dim=16, act_layer=QuickGELU, output_tokens=True
    ).eval()
    tower = Tower(preset("segsr", scale=4, **TINY, **TRANSFORMER, lora_rank=0)).eval()
    tower.vit.load_state_dict(theirs.state_dict())
    image = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        pooled, tokens = theirs(image)
        local, common = tower(image)
    torch.testing.assert_close(common, F.normalize(pooled, dim=-1))
    torch.testing.assert_close(local.flatten(1, 2), F.normalize(tokens @ theirs.proj, dim=-1))


def test_position_tables_on_a_grid_and_on_a_line():
    grid = tiny().features.tower
    table = grid.vit.positional_embedding
    assert torch.equal(grid.positions(4, 4), table)
    assert torch.equal(grid.positions(6, 3)[0], table[0]) and grid.positions(6, 3).shape == (19, 32)
    square = table[1:].T.reshape(1, 32, 4, 4)
    expected = F.interpolate(square, (6, 3), mode="bicubic").flatten(2)[0].T
    torch.testing.assert_close(grid.positions(6, 3)[1:], expected)
    line = tiny(compat=Compat(positions="line")).features.tower
    assert line.positions(2, 8).shape == (17, 32)
    torch.testing.assert_close(line.positions(4, 4), line.vit.positional_embedding)
    assert not torch.allclose(line.positions(2, 8)[1], line.positions(6, 3)[1])


def test_adapters_start_silent_and_merge_into_the_same_values():
    model = tiny()
    lr = torch.rand(1, 3, 16, 16)
    before = model(lr)
    for name, parameter in model.named_parameters():
        if name.endswith(".0.B"):
            torch.nn.init.normal_(parameter, std=0.1)
    adapted = model(lr)
    assert not torch.allclose(before, adapted)
    model.merge_lora()
    torch.testing.assert_close(model(lr), adapted)
    assert not any("parametrizations" in name for name in model.state_dict())
    model.merge_lora()  # a second time changes nothing


def test_only_adapters_of_an_adapted_tower_are_trained():
    trained = {n.rsplit(".", 1)[1] for n, p in tiny().features.named_parameters() if p.requires_grad}
    assert trained == {"A", "B"}
    assert all(p.requires_grad for p in tiny("compact").features.parameters())


def test_adapter_dropout_acts_in_training_only():
    model = tiny(lora_dropout=0.9)
    for name, parameter in model.named_parameters():
        if name.endswith(".0.B"):
            torch.nn.init.normal_(parameter)
    block = model.features.tower.vit.transformer.resblocks[0].attn
    assert torch.equal(block.in_proj_weight, block.in_proj_weight)
    model.train()
    assert not torch.equal(block.in_proj_weight, block.in_proj_weight)


def test_a_copy_of_the_network_computes_the_same():
    model = tiny()
    lr = torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(copy.deepcopy(model)(lr), model(lr))


# Windows


def test_windows_come_apart_and_together():
    x = torch.arange(2 * 8 * 12 * 3.0).view(2, 8, 12, 3)
    windows = to_windows(x, 4)
    assert windows.shape == (2, 2, 3, 16, 3)
    assert torch.equal(windows[1, 1, 2].view(4, 4, 3), x[1, 4:8, 8:12])
    assert torch.equal(from_windows(windows, 4), x)


def test_relative_positions_count_every_offset_once():
    index = relative_positions(2, 4)
    assert index.shape == (4, 16) and index.min() == 0 and index.max() == 24
    assert index[0, 0] == 1 * 5 + 1  # same corner
    assert relative_positions(3, 3)[0, 0] == 2 * 5 + 2
    np.testing.assert_array_equal(relative_positions(3, 3) + relative_positions(3, 3).T, np.full((9, 9), 24))


def test_wrap_masks_part_what_only_the_roll_made_neighbours():
    inside, last_col, last_row, both = wrap_masks(4, 2)
    assert not inside.any()
    assert last_col[0, 2] == -100 and last_col[0, 4] == 0 and last_col[0, 8] == 0
    assert last_row[0, 8] == -100 and last_row[0, 4] == 0 and last_row[0, 2] == 0
    np.testing.assert_array_equal(both, np.minimum(last_col, last_row))


@pytest.mark.parametrize("shift", [0, 2])
def test_window_attention_equals_the_plain_formula(shift):
    torch.manual_seed(0)
    attention = WindowAttention(6, 2, 4, shift).eval()
    torch.nn.init.normal_(attention.bias.table)
    x = torch.randn(2, 8, 12, 6)
    with torch.no_grad():
        torch.testing.assert_close(attention(x), _plain_attention(attention, x))


def _plain_attention(attention, x):
    """Every pixel pair of the rolled image, allowed only inside a window and on one side of the wrap."""
    n, height, width, channels = x.shape
    side, shift = attention.side, attention.shift
    rows, cols = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    rows, cols = rows.flatten(), cols.flatten()
    rolled = torch.roll(x, (-shift, -shift), (1, 2)).flatten(1, 2)
    q, k, v = (t.unflatten(-1, (2, -1)).transpose(1, 2) for t in attention.qkv(rolled).chunk(3, -1))
    scores = q @ k.transpose(-1, -2) / (channels // 2) ** 0.5
    dr, dc = (r[:, None] - r[None] for r in (rows % side, cols % side))
    scores = scores + attention.bias.table[(dr + side - 1) * (2 * side - 1) + dc + side - 1].permute(2, 0, 1)
    same = (rows[:, None] // side == rows[None] // side) & (cols[:, None] // side == cols[None] // side)
    wrapped_row, wrapped_col = rows >= height - shift, cols >= width - shift
    apart = (wrapped_row[:, None] != wrapped_row[None]) | (wrapped_col[:, None] != wrapped_col[None])
    scores = scores.masked_fill(~same, float("-inf")) - 100.0 * apart
    mixed = attention.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2)).view(
        n, height, width, channels
    )
    return torch.roll(mixed, (shift, shift), (1, 2))


def test_a_bias_changed_in_place_is_not_served_from_the_cache():
    attention = WindowAttention(6, 2, 4, 2).eval()
    x = torch.randn(1, 8, 8, 6)
    with torch.no_grad():
        before = attention(x)
        attention.bias.table.normal_()
        assert not torch.allclose(attention(x), before)


# Configuration


def test_a_configuration_survives_its_dictionary():
    import json

    config = preset("compact", scale=3, bands=4, compat=Compat.published())
    assert SeGSRConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"scale": 5}, "scale"),
        ({"unit": "magic"}, "unit"),
        ({"widht": 3}, "widht"),
        ({"width": 10**9}, "width"),
        ({"width": "64"}, "width"),
        ({"width": True}, "width"),
        ({"depths": ()}, "depths must be a list of at least 1 and at most 32"),
        ({"depths": (1,) * 10**4}, "depths"),
        ({"depths": "3"}, "depths"),
        ({"tower_bands": (0, 1, 3)}, "tower_bands"),
        ({"tower_bands": (0, 1)}, "tower_bands"),
        ({"band_mean": (0.1,)}, "band_mean"),
        ({"band_mean": (0.1, float("nan"), 0.2)}, "band_mean must be finite"),
        ({"heads": 7}, "heads"),
        ({"tower_heads": 5}, "tower_heads"),
        ({"tower_patch": 0}, "tower_patch"),
        ({"compat": {"positions": "sideways"}}, "positions"),
        ({"compat": {"other": 1}}, "other"),
        ({"compat": 3}, "compat"),
        ({"mlp_ratio": float("inf")}, "mlp_ratio"),
    ],
)
def test_impossible_configurations_are_refused_by_name(changes, named):
    values = {"scale": 4, **changes}
    with pytest.raises(ConfigError, match=named):
        SeGSRConfig.from_dict(values)


def test_unknown_presets_name_the_known_ones():
    with pytest.raises(ConfigError, match="segsr-swinir"):
        preset("segsr-x", scale=4)


def test_sides_that_need_no_padding():
    assert preset("segsr", scale=4).multiple_of == 16
    assert preset("segsr", scale=3).multiple_of == 16
    assert preset("segsr-rcan", scale=4).multiple_of == 4
    assert preset("compact", scale=4).multiple_of == 16
    assert preset("segsr", scale=4, tower_patch=14).multiple_of == 112
