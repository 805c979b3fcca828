"""Narrow scenes in 16 bits: nothing is read that was never written, and the results are those of 32 bits."""

import pytest
import torch

from geosegsr.models.catalogue import bundled_checkpoint
from geosegsr.models.checkpoint import load_checkpoint
from geosegsr.models.segsr.network import SeGSR, preset
from tests.kits.small_network import SMALL


def fill_freed_memory_with_nan() -> None:
    """Whatever torch allocates next holds NaN until it is written."""
    for size in (2**power * part // 2 for power in range(6, 21) for part in (2, 3)):
        held = [torch.full((size,), float("nan"), dtype=torch.bfloat16) for _ in range(8)]
        del held


@pytest.mark.parametrize("side", [(96, 16), (16, 96), (112, 16), (208, 16), (304, 16), (16, 16)])
@pytest.mark.parametrize("enlarged", [False, True], ids=["as it is", "enlarged"])
@pytest.mark.filterwarnings("ignore:Mismatch dtype")
def test_the_network_reads_no_memory_that_was_never_written(side, enlarged):
    """One column of tokens, with the tower at the size of lr or of sr."""
    torch.manual_seed(0)
    model = SeGSR(preset("compact", scale=2, **SMALL, tower_enlarge=enlarged)).eval()
    rows, cols = (length // 2 for length in side) if enlarged else side
    lr = torch.rand(1, 3, rows, cols)
    with torch.inference_mode():
        exact = model.guidance(lr)
        model.to(torch.bfloat16)
        fill_freed_memory_with_nan()
        first, maps = model(lr), model.guidance(lr)
        fill_freed_memory_with_nan()
        assert torch.equal(model(lr), first)
    assert torch.isfinite(first).all()
    for rough, fine in zip(maps, exact, strict=True):
        torch.testing.assert_close(rough.float(), fine, atol=2, rtol=0)  # of 100 for a cosine of 1


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_a_column_of_tokens_is_a_row_of_tokens_turned(scale):
    """The tower sees the same of an image one patch wide as of any other width, also in 32 bits."""
    model, _ = load_checkpoint(bundled_checkpoint(scale))
    tower = model.features.tower
    image = torch.rand(2, 3, 5 * tower.patch, 3 * tower.patch)
    with torch.inference_mode():
        whole = tower._tokens(image)
        for col in range(3):
            column = image[..., col * tower.patch : (col + 1) * tower.patch]
            torch.testing.assert_close(tower._tokens(column), whole[..., col : col + 1])
