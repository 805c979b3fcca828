"""Constant ground comes out constant, and the network's result stays as it is everywhere else."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

import geosegsr
from geosegsr.models.card import ModelCard
from geosegsr.models.catalogue import bundled_checkpoint, load_upscaler
from geosegsr.models.checkpoint import save_checkpoint
from geosegsr.models.segsr.enlarge import bicubic
from geosegsr.models.segsr.flat import FULL, REACH, keep_flat
from geosegsr.models.segsr.network import SeGSR, preset

BUNDLED = [
    path.with_stem(path.stem + kind)
    for path in map(bundled_checkpoint, (2, 3, 4, 8))
    for kind in ("", "-clean")
]
RANGES = {"uint8": None, "uint16": (0.0, 10000.0), "float32": (-20.0, 3500.0)}


@pytest.fixture(scope="module", params=BUNDLED, ids=lambda path: path.stem)
def bundled(request):
    return load_upscaler(request.param, device="cpu")


@pytest.mark.parametrize("dtype", RANGES)
def test_a_constant_scene_comes_out_constant(bundled, dtype):
    """Border included, with and without consistency, whatever the precision of this CPU."""
    constants = [0, 1, 128, 255] + [3000] * (dtype != "uint8")
    for number, constant in enumerate(constants):
        scene = xr.DataArray(np.full((3, 24, 24), constant, dtype), dims=("band", "y", "x"))
        sr = geosegsr.super_resolve(
            scene, bundled.facts.scale, bundled, value_range=RANGES[dtype], consistency=bool(number % 2)
        )
        tolerance = 1e-5 * 3520 if dtype == "float32" else 0
        np.testing.assert_allclose(sr.values, constant, rtol=0, atol=tolerance)


def test_a_constant_band_among_others_comes_out_constant(bundled):
    values = np.random.default_rng(0).integers(0, 255, (3, 24, 24)).astype(np.uint8)
    values[1] = 77
    scene = xr.DataArray(values, dims=("band", "y", "x"))
    sr = geosegsr.super_resolve(scene, bundled.facts.scale, bundled, consistency=False).values
    assert (sr[1] == 77).all() and np.ptp(sr[0]) > 100


@pytest.mark.parametrize("peak", [255, 4095])
def test_saturated_ground_stays_saturated(bundled, peak):
    """Wherever the pixels up to two away are."""
    scale, dtype = bundled.facts.scale, np.uint8 if peak == 255 else np.uint16
    values = np.random.default_rng(1).integers(0, peak, (3, 40, 40)).astype(dtype)
    values[:, 10:30, 12:28] = peak
    scene = xr.DataArray(values, dims=("band", "y", "x"))
    sr = geosegsr.super_resolve(
        scene, scale, bundled, value_range=(0, peak), consistency=False, tile=24, overlap=16
    ).values
    assert (sr[:, 12 * scale : 28 * scale, 14 * scale : 26 * scale] == peak).all()


# The step itself


def ground(seed: int = 0, bands: int = 2, side: int = 40) -> torch.Tensor:
    """Texture with a plateau in its middle, of another height in each band, and one in the corner of the first."""
    lr = torch.rand(1, bands, side, side, generator=torch.Generator().manual_seed(seed))
    for band in range(bands):
        lr[:, band, 14 + band : 28, 15:29] = 0.3 + 0.1 * band
    lr[:, 0, :6, :7] = 1
    return lr


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_elsewhere_every_bit_is_the_networks(scale):
    lr = ground()
    sr = torch.rand(1, 2, 40 * scale, 40 * scale)
    kept = keep_flat(sr.clone(), lr, scale, -0.5)
    base = bicubic(lr, scale, -0.5)
    inside, outside = (torch.zeros(40 * scale, 40 * scale, dtype=torch.bool) for _ in range(2))
    inside[16 * scale : 26 * scale, 17 * scale : 27 * scale] = True
    outside[:] = True
    outside[14 * scale : 28 * scale, 15 * scale : 29 * scale] = False  # the plateau itself fades at its edge
    outside[: 6 * scale, : 7 * scale] = False
    torch.testing.assert_close(kept[0, 0][inside], base[0, 0][inside], rtol=0, atol=1e-6)
    torch.testing.assert_close(kept[0, 0, : 4 * scale, : 5 * scale], base[0, 0, : 4 * scale, : 5 * scale])
    assert torch.equal(kept[0, :, outside], sr[0, :, outside])


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_place_depends_on_what_lies_within_reach(scale):
    """So tiles agree wherever both have this much context."""
    lr = ground()
    sr = torch.rand(1, 2, 40 * scale, 40 * scale)
    whole = keep_flat(sr.clone(), lr, scale, -0.5)
    for top, left in ((4, 5), (12, 11), (15, 19), (20, 3)):
        rows, cols = slice(top, top + 18), slice(left, left + 18)
        fine = (..., slice(top * scale, (top + 18) * scale), slice(left * scale, (left + 18) * scale))
        part = keep_flat(sr[fine].clone(), lr[..., rows, cols], scale, -0.5)
        core = (..., slice(REACH * scale, -REACH * scale), slice(REACH * scale, -REACH * scale))
        torch.testing.assert_close(part[core], whole[fine][core], rtol=0, atol=1e-6)


def test_it_sets_in_smoothly_and_is_over_before_half_a_dn_of_eight_bits():
    sr = torch.rand(1, 1, 40, 40)
    checks = torch.arange(400).reshape(1, 1, 20, 20) % 2
    shares = []
    for contrast in (0, FULL / 4, FULL / 2, FULL):
        lr = 0.5 + contrast * checks
        base = bicubic(lr, 2)
        departure = keep_flat(sr.clone(), lr, 2, -0.75) - base
        shares.append(float((departure / (sr - base)).median()))
    np.testing.assert_allclose(shares, [0, 0.25, 0.5, 1], atol=1e-3)
    assert FULL < 0.5 / 255


def test_other_images_of_a_batch_make_no_difference():
    lr = torch.cat([ground(1), torch.rand(1, 2, 40, 40), torch.zeros(1, 2, 40, 40)])
    sr = torch.rand(3, 2, 80, 80)
    together = keep_flat(sr.clone(), lr, 2, -0.75)
    for i in range(3):
        own = slice(i, i + 1)
        assert torch.equal(keep_flat(sr[own].clone(), lr[own], 2, -0.75), together[own])
    assert torch.equal(together[1], sr[1])


def test_tiles_overlap_by_as_much_as_flat_ground_needs(tmp_path):
    small = {"width": 16, "depths": (1,), "tower_width": 32, "tower_layers": 1, "tower_heads": 2}
    model = SeGSR(preset("compact", scale=2, **small))
    card = ModelCard.of(model.config, "small", tile=8, overlap=2, halo=1, min_size=1)
    save_checkpoint(tmp_path / "m.safetensors", model, card)
    facts = load_upscaler(tmp_path / "m.safetensors", device="cpu").facts
    assert (facts.halo, facts.overlap) == (REACH, 2 * REACH) and facts.tile > facts.overlap
    save_checkpoint(tmp_path / "m.safetensors", model, replace(card, tile=64, overlap=32, halo=12))
    facts = load_upscaler(tmp_path / "m.safetensors", device="cpu").facts
    assert (facts.tile, facts.overlap, facts.halo) == (64, 32, 12)
