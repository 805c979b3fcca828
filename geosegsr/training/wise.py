"""Weights between those of the start and the trained ones: they gain less, and forget much less.

    start ---0.1---0.2--- ... ---0.9--- trained

Source:
    WiSE-FT: Wortsman et al., "Robust fine-tuning of zero-shot models", 2022.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from geosegsr.training.network import Network
from geosegsr.training.validation import Score

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""How far candidates lie from the start, 0, towards the trained weights, 1."""
VALIDATIONS = 6
"""What the search takes in most runs, in validations."""


@dataclass(frozen=True)
class Between:
    """Weights between start and end of a run that are preferred to those at its end."""

    network: Network
    """With the interpolated weights, in evaluation mode."""
    share: float
    """How far it is from the start, 0, to the trained weights, 1."""
    score: Score
    """Its score on the validation tiles."""
    lost: float
    """What it has forgotten, by `geosegsr.training.memory`, in dB."""


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
            state[name] = other[name].to(values).lerp(values, share)
    trained.load_state_dict(state)
    return trained.eval()


def farthest_that_remembers(
    between: Callable[[float], Network],
    lost: Callable[[Network], float],
    limit: float,
    validate: Callable[[Network], Score],
    enough: Callable[[Score], bool],
) -> Between | None:
    """The weights that gain most and forget no more than is allowed.

    What is forgotten grows like the square of the share, so that of the trained weights tells how far one may go. Where
    weights so near to the start are not good enough, the nearest ones are taken that are.

    Args:
        between: Builds the network whose weights lie that share of the way from the start to the trained ones.
        lost: What a network has forgotten, in dB.
        limit: Most that may be forgotten, in dB.
        validate: Scores a network.
        enough: Whether a score is good enough.

    Returns:
        None where the trained weights themselves remember enough, or where nothing before them is good enough.
    """
    whole = lost(between(1.0))
    if whole <= limit:
        return None
    farthest = math.sqrt(limit / whole)
    begin = max(sum(share <= farthest for share in SHARES) - 1, 0)
    for share in SHARES[begin:]:
        network = between(share)
        score = validate(network)
        if enough(score):
            return Between(network, share, score, lost(network))
    return None
