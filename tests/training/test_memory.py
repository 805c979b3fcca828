"""What weights have forgotten, by the change of their results on the tiles of a run."""

import numpy as np
import pytest
import torch

from geosegsr.imagery.sources import Patch
from geosegsr.sensor.degradation import imresize_down
from geosegsr.sensor.descriptor import BICUBIC, SensorDescriptor
from geosegsr.training.memory import Memory
from geosegsr.training.validation import Validation

CPU = torch.device("cpu")
BLURRED = SensorDescriptor(0.4, 0.1, noise=0.02)


class Repeated(torch.nn.Module):
    """Repeats pixels, and adds a constant; remembers what it was called with."""

    def __init__(self, more: float) -> None:
        super().__init__()
        self.more, self.seen = more, []

    def forward(self, lr, _, told):
        self.seen.append((lr, told))
        return lr.repeat_interleave(2, -1).repeat_interleave(2, -2) + self.more


@pytest.fixture
def tiles():
    rng = np.random.default_rng(4)
    hr = [rng.uniform(0.2, 0.8, (1, 32, 32)).astype(np.float32) for _ in range(3)]
    valid = np.ones((32, 32), bool)
    valid[:9] = False
    lr = np.full((1, 16, 16), 0.9, np.float32)
    return [Patch(lr, image, valid, "a tile", BLURRED) for image in hr]


def test_a_change_without_relation_to_the_error_costs_its_share_of_the_error(tiles):
    start = Repeated(0.0)
    memory = Memory(Validation(tiles, 2, True, 1.0), start, CPU)
    reduced = [imresize_down(tile.hr, 2) for tile in tiles]
    made = [np.clip(np.kron(lr[0], np.ones((2, 2))), 0, 1)[9:-2, 2:-2] for lr in reduced]
    error = np.mean([np.square(sr - tile.hr[0, 9:-2, 2:-2]) for sr, tile in zip(made, tiles, strict=True)])
    assert memory.lost(Repeated(0.01)) == pytest.approx(10 * np.log10(1 + 1e-4 / error), rel=1e-3)
    assert memory.lost(start) == 0
    (seen, told), *_ = start.seen
    assert np.array_equal(seen.numpy(), np.stack(reduced))
    assert torch.equal(told, torch.tensor([BICUBIC.numbers] * 3))  # not the sensor of the run


def test_a_start_without_error_has_all_to_lose(tiles):
    level = [Patch(tile.lr, np.full_like(tile.hr, 0.5), tile.valid, tile.origin) for tile in tiles]
    memory = Memory(Validation(level, 2, True, 1.0), Repeated(0.0), CPU)
    assert memory.lost(Repeated(0.0)) == 0
    assert memory.lost(Repeated(0.1)) > 20
