"""Weights between start and trained ones."""

import pytest
import torch
from training_kit import TINY, folder_of, tiny_config

from geosegsr.models.checkpoint import load_checkpoint, read_card
from geosegsr.models.segsr.network import SeGSR, preset
from geosegsr.training.events import Noted, Validated
from geosegsr.training.loop import train
from geosegsr.training.validation import Score
from geosegsr.training.wise import SHARES, farthest_that_remembers, interpolated


def network(value):
    built = SeGSR(preset("compact", scale=2, bands=1, **TINY))
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.fill_(value)
    return built


def level(net):
    """The value that all weights of a network of `network` have."""
    return float(next(net.parameters()).detach().flatten()[0])


def test_every_weight_lies_between_both():
    half = interpolated(network(1.0), network(3.0), 0.25)
    assert all(bool((parameter == 1.5).all()) for parameter in half.parameters())
    assert not half.training


@pytest.mark.parametrize(
    ("limit", "least", "share"),
    [
        (1.0, 0.0, None),  # the trained weights themselves remember enough
        (0.5, 0.0, 0.7),  # 0.7 squared is 0.49
        (0.05, 0.0, 0.2),
        (1e-4, 0.0, 0.1),  # none is near enough: the nearest
        (0.05, 25.0, 0.5),  # the nearest that is good enough
        (0.05, 29.5, None),
    ],
)
def test_the_weights_go_as_far_as_they_may(limit, least, share):
    """The score rises evenly from 20 dB at the start to 30 dB, and what is forgotten is the square of the share, in dB."""
    found = farthest_that_remembers(
        lambda share: interpolated(network(0.0), network(1.0), share),
        lambda net: level(net) ** 2,
        limit,
        lambda net: Score(20 + 10 * level(net), None),
        lambda score: score.main >= least - 1e-4,
    )
    assert (None if found is None else found.share) == share
    if found is not None:
        assert level(found.network) == pytest.approx(share)
        assert found.score.main == pytest.approx(20 + 10 * share)
        assert found.lost == pytest.approx(share**2)


def test_a_run_from_given_weights_ends_nearer_to_them(tmp_path):
    images = folder_of(tmp_path / "images")
    start = train(tiny_config(images), tmp_path / "first").model
    changes = {
        "model.init": str(start),
        "model.changes": {},
        "schedule.steps": 60,
        "validation.every": 30,
        "optimiser.batch": 4,
        "optimiser.learning_rate": 5e-3,
        "schedule.warmup_steps": 10,
    }
    events = []
    result = train(tiny_config(images, **changes), tmp_path / "second", on_event=events.append)
    best = max(event.score.main for event in events if isinstance(event, Validated))
    card, trained = read_card(result.model), read_card(tmp_path / "second" / "best.safetensors")
    assert best > result.start.main
    share = card.metrics["trained_share"]
    assert share in SHARES
    assert best > result.score.main > result.start.main
    assert card.metrics["forgotten"] > 0
    assert card.metrics["psnr"] == result.score.psnr
    assert "sharp and clean scenes of such ground lose about" in card.notes
    assert "trained_share" not in trained.metrics
    assert card.parents == (f"{read_card(start).name} (sha256 {read_card(start).sha256})",)
    assert any("best.safetensors" in event.text for event in events if isinstance(event, Noted))
    first, last, model = (
        load_checkpoint(path)[0].state_dict()
        for path in (start, tmp_path / "second" / "best.safetensors", result.model)
    )
    assert all(torch.allclose(model[n], torch.lerp(first[n], last[n], share), atol=1e-6) for n in model)
    whole = train(tiny_config(images, **changes, **{"validation.forget": 100.0}), tmp_path / "third")
    assert whole.score.main == best
    assert read_card(whole.model) == trained
