"""The EMA of the weights, against a sum written out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from geosegsr.training.learner import average_weights


def averages_of(values, memory):
    """What the EMA holds after each of the values, for a network of one weight."""
    network = nn.Linear(1, 1, bias=False)
    average, held = average_weights(network, memory), []
    for value in values:
        nn.init.constant_(network.weight, value)
        average.update_parameters(network)
        held.append(float(average.module.weight.detach()))
    return held


def test_the_average_warms_up():
    values = [8.0, 1.0, 5.0, -2.0]
    expected = [8.0]  # the first update copies
    for n, value in enumerate(values[1:], 2):
        keep = n / (9 + n)  # 2/11, 3/12, 4/13
        expected.append(keep * expected[-1] + (1 - keep) * value)
    assert averages_of(values, 0.999) == pytest.approx(expected, abs=1e-5)


def test_the_memory_is_an_upper_bound():
    values = [8.0, 1.0, 5.0, -2.0]
    expected = [8.0]
    for value in values[1:]:
        expected.append(0.1 * expected[-1] + 0.9 * value)
    assert averages_of(values, 0.1) == pytest.approx(expected, abs=1e-5)


def test_without_memory_the_average_is_the_last_network():
    assert averages_of([8.0, 1.0, 5.0], 0.0) == [8.0, 1.0, 5.0]


def test_the_average_follows_the_network_without_sharing_its_memory():
    network = nn.Linear(2, 2)
    average = average_weights(network, 0.999)
    average.update_parameters(network)
    kept = average.module.weight.clone()
    nn.init.zeros_(network.weight)
    assert torch.equal(average.module.weight, kept)
