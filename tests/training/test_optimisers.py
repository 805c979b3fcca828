"""Optimisers: what Muon steps are, and that a run by any of them learns and resumes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from geosegsr.models.segsr.network import SeGSR, preset
from geosegsr.training.config import OptimiserConfig
from geosegsr.training.optimisers import MuonAndAdamW, build_optimiser, set_rate


def kernel_and_bias():
    torch.manual_seed(0)
    conv = nn.Conv2d(24, 16, 3)
    for p in conv.parameters():
        p.grad = torch.randn_like(p)
    return conv


def muon(conv, rate):
    groups = [{"params": [conv.weight], "matrices": True}, {"params": [conv.bias], "matrices": False}]
    return MuonAndAdamW(groups, lr=rate)


def test_a_kernel_steps_as_torchs_muon_does_on_its_matrix():
    conv = kernel_and_bias()
    matrix = nn.Parameter(conv.weight.detach().clone().view(16, -1))
    oracle = torch.optim.Muon([matrix], lr=0.01, weight_decay=0, adjust_lr_fn="match_rms_adamw")
    ours = muon(conv, 0.01)
    for _ in range(3):
        matrix.grad = conv.weight.grad.view(16, -1).clone()
        oracle.step()
        ours.step()
    torch.testing.assert_close(conv.weight.view(16, -1), matrix, rtol=0, atol=0)


def test_the_rest_steps_as_torchs_adamw_does():
    conv = kernel_and_bias()
    bias = nn.Parameter(conv.bias.detach().clone())
    oracle = torch.optim.AdamW([bias], lr=0.01, betas=(0.9, 0.99), weight_decay=0)
    ours = muon(conv, 0.01)
    for _ in range(3):
        bias.grad = conv.bias.grad.clone()
        oracle.step()
        ours.step()
    torch.testing.assert_close(conv.bias, bias)


def test_the_layout_in_memory_does_not_matter():
    plain, last = kernel_and_bias(), kernel_and_bias().to(memory_format=torch.channels_last)
    last.weight.grad = last.weight.grad.contiguous(memory_format=torch.channels_last)
    for conv in (plain, last):
        muon(conv, 0.1).step()
    # Columns in another order give other sums in 16 bits, nothing more.
    torch.testing.assert_close(last.weight, plain.weight, rtol=0, atol=0.01)


def test_parameters_may_move_after_the_optimiser_is_built():
    stays, moves = kernel_and_bias(), kernel_and_bias()
    one, two = muon(stays, 0.1), muon(moves, 0.1)
    for n in range(3):
        moves.weight.data = moves.weight.data.clone()
        if n == 1:
            state = two.state_dict()
            two = muon(moves, 0.1)
            moves.weight.data = moves.weight.data.clone()
            two.load_state_dict(state)
        one.step()
        two.step()
    assert torch.equal(stays.weight, moves.weight)


def test_parameters_without_a_gradient_stay():
    conv = kernel_and_bias()
    before = conv.weight.detach().clone()
    optimiser = muon(conv, 0.1)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    after = conv.weight.detach().clone()
    optimiser.step()
    assert not torch.equal(before, after)
    assert torch.equal(conv.weight, after)


@pytest.mark.parametrize("matrices", [True, False])
def test_a_network_of_one_kind_of_parameter_is_stepped(matrices):
    conv = kernel_and_bias()
    p = conv.weight if matrices else conv.bias
    before = p.detach().clone()
    MuonAndAdamW([{"params": [p], "matrices": matrices}], lr=0.1).step()
    assert not torch.equal(p, before)


def test_weight_decay_holds_for_both():
    conv = kernel_and_bias()
    for p in conv.parameters():
        p.grad.zero_()
    before = [p.detach().clone() for p in conv.parameters()]
    groups = [{"params": [conv.weight], "matrices": True}, {"params": [conv.bias], "matrices": False}]
    MuonAndAdamW(groups, lr=0.1, weight_decay=0.5).step()
    for p, old in zip(conv.parameters(), before, strict=True):
        torch.testing.assert_close(p.detach(), 0.95 * old)


@pytest.mark.parametrize("name", ["adam", "adamw", "muon"])
def test_every_parameter_of_a_network_is_stepped(name):
    torch.manual_seed(0)
    network = SeGSR(preset("compact", scale=2, width=16, depths=(2,)))
    before = {key: value.clone() for key, value in network.named_parameters()}
    optimiser = build_optimiser(network, OptimiserConfig(name=name, learning_rate=0.01))
    for p in network.parameters():
        p.grad = torch.randn_like(p)
    optimiser.step()
    assert [key for key, value in network.named_parameters() if torch.equal(value, before[key])] == []


@pytest.mark.parametrize("name", ["adam", "adamw", "muon"])
@pytest.mark.parametrize("adapters", [0, 4])
def test_a_tower_of_its_own_learns_more_slowly_than_the_trunk(name, adapters):
    network = SeGSR(preset("compact", scale=2, width=16, depths=(2,), lora_rank=adapters))
    optimiser = build_optimiser(network, OptimiserConfig(name=name, tower_share=0.1))
    set_rate(optimiser, 0.02)
    rates = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    for key, p in network.named_parameters():
        if p.requires_grad:
            slow = key.startswith(("features.", "localisation.")) and not adapters
            assert rates.pop(id(p)) == pytest.approx(0.002 if slow else 0.02)
    assert not rates


def test_state_survives_saving():
    def steps(count, optimiser, conv):
        for n in range(count):
            torch.manual_seed(n)
            for p in conv.parameters():
                p.grad = torch.randn_like(p)
            optimiser.step()

    once, twice = kernel_and_bias(), kernel_and_bias()
    steps(2, (kept := muon(once, 0.1)), once)
    steps(2, (first := muon(twice, 0.1)), twice)
    again = muon(twice, 0.1)
    again.load_state_dict(first.state_dict())
    steps(2, kept, once)
    steps(2, again, twice)
    assert torch.equal(once.weight, twice.weight)
    assert torch.equal(once.bias, twice.bias)
