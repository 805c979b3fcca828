"""Weights between those of the start and the trained ones: nearly all of the gain, and less is forgotten.

    start ---0.4---0.6---0.8--- trained

Source:
    WiSE-FT: Wortsman et al., "Robust fine-tuning of zero-shot models", 2022.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from geosegsr.training.network import Network
from geosegsr.training.validation import Score

SHARES = (0.4, 0.5, 0.6, 0.7, 0.8)
"""How far candidates lie from the start, 0, towards the trained weights, 1."""


@dataclass(frozen=True)
class Between:
    """Weights between start and end of a run that are preferred to those at its end."""

    network: Network
    """With the interpolated weights, in evaluation mode."""
    share: float
    """How far it is from the start, 0, to the trained weights, 1."""
    score: Score
    """Its score on the validation tiles."""
    kept: float
    """Its gain, as a share of the gain of the trained weights; above 1 if it is better than they are."""


def interpolated(start: Network, trained: Network, share: float) -> Network:
    """The network whose weights lie `share` of the way from one network to another; `trained` is overwritten.

    Args:
        start: A network of the same configuration.
        trained: Gets the new weights.
        share: 0 (start) to 1 (trained).
    """
    state, other = trained.state_dict(), start.state_dict()
    for name, values in state.items():
        if values.is_floating_point():
            state[name] = torch.lerp(other[name].to(values), values, share)
    trained.load_state_dict(state)
    return trained.eval()


def gained_over(start: Score, best: Score, bundled: Score | None) -> Score:
    """The score that a gain is counted from: that of the start, or of a bundled model that is better and was beaten."""
    if bundled is None or not start.main < bundled.main < best.main:
        return start
    return bundled


def nearest_that_keeps(
    start: Callable[[], Network],
    trained: Callable[[], Network],
    scores: tuple[Score, Score],
    validate: Callable[[Network], Score],
    keep: float,
) -> Between | None:
    """The weights nearest to the start that keep most of the gain of the trained ones.

    Args:
        start: Builds the network that the run started from.
        trained: Loads the trained network.
        scores: Where the gain is counted from, and of the trained network; the second is higher.
        validate: Scores a network on the same tiles.
        keep: Share of the gain that must be kept, 0 to 1.

    Returns:
        None if none of `SHARES` keeps as much.
    """
    first, last = scores
    origin = start()
    for share in SHARES:
        network = interpolated(origin, trained(), share)
        score = validate(network)
        kept = (score.main - first.main) / (last.main - first.main)
        if kept >= keep:
            return Between(network, share, score, kept)
    return None
