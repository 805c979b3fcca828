"""The sensor a model enlarges for: what its card says made the lr pixels of its training."""

from __future__ import annotations

from geosegsr.consistency import Sampling
from geosegsr.upscaler import Upscaler


def shall_agree(upscaler: Upscaler, asked: bool | None) -> bool:
    """Whether results are made to agree with their input: as asked, else where a card says how a model's input was made.

    Interpolations, and models whose training is unknown, are left as they are.
    """
    card = getattr(upscaler, "card", None)
    return asked if asked is not None else card is not None and card.degradation is not None


def samplings_of(upscaler: Upscaler) -> tuple[Sampling, ...]:
    """How hr pixels make the lr pixels of a model: of each of its bands, and last of a band that is none of these.

    A model that does not say gets antialiased bicubic reduction.

    Raises:
        ConfigError: The card describes no sensor of these bands.
    """
    from geosegsr.training.degradation import Degradation

    card = getattr(upscaler, "card", None)
    described = None if card is None else card.degradation
    sensor = Degradation.from_dict(described or {}, f"the card of '{upscaler.name}'")
    return sensor.samplings(upscaler.scale, upscaler.bands or 0)
