"""Weights between start and trained ones."""

import pytest
import torch
from training_kit import TINY, folder_of, tiny_config

from geosegsr.models.checkpoint import load_checkpoint, read_card
from geosegsr.models.segsr.network import SeGSR, preset
from geosegsr.training.events import Noted, Validated
from geosegsr.training.loop import train
from geosegsr.training.validation import Score
from geosegsr.training.wise import SHARES, gained_over, interpolated, nearest_that_keeps


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


@pytest.mark.parametrize(("keep", "share"), [(0.29, 0.4), (0.45, 0.5), (0.7, 0.7), (0.9, None)])
def test_the_nearest_weights_that_keep_enough_are_taken(keep, share):
    """The score rises evenly from 20 dB at the start to 30 dB, so a share keeps as much of the gain."""
    seen = []

    def validate(net):
        seen.append(level(net))
        return Score(20 + 10 * level(net) + 1e-4, None)

    found = nearest_that_keeps(
        lambda: network(0.0), lambda: network(1.0), (Score(20, None), Score(30, None)), validate, keep
    )
    assert (None if found is None else found.share) == share
    assert seen == pytest.approx(SHARES[: len(seen)])
    if found is not None:
        assert found.kept == pytest.approx(share, abs=1e-3)
        assert level(found.network) == pytest.approx(share)


def test_the_gain_is_counted_from_the_strongest_that_is_beaten():
    start, bundled, best = (Score(value, None) for value in (27.5, 27.6, 27.7))
    assert gained_over(start, best, bundled) == bundled
    assert gained_over(start, best, None) == start
    assert gained_over(bundled, best, start) == bundled  # the start is better than the bundled model
    assert gained_over(start, bundled, best) == start  # nobody beats the bundled model


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
    assert result.score.main - result.start.main >= 0.9 * (best - result.start.main)
    assert card.metrics["psnr"] == result.score.psnr
    assert "less of what the start knew is lost" in card.notes
    assert "trained_share" not in trained.metrics
    assert card.parents == (f"{read_card(start).name} (sha256 {read_card(start).sha256})",)
    assert any("best.safetensors" in event.text for event in events if isinstance(event, Noted))
    first, last, model = (
        load_checkpoint(path)[0].state_dict()
        for path in (start, tmp_path / "second" / "best.safetensors", result.model)
    )
    assert all(torch.allclose(model[n], torch.lerp(first[n], last[n], share), atol=1e-6) for n in model)
    whole = train(tiny_config(images, **changes, **{"validation.keep": 1.0}), tmp_path / "third")
    assert whole.score.main == best
    assert read_card(whole.model) == trained
