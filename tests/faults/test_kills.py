"""Runs killed at moments drawn by lot are finished by the same command. `benchmarks/faults/faults.py` kills many more."""

from __future__ import annotations

from collections.abc import Callable

import kills
import pytest
from command_line import run

SEED = 14


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], kills.Recovery]:
    folder = tmp_path_factory.mktemp("kills")
    source, wanted = kills.write_source(folder), folder / "undisturbed.tif"
    outcome = run("upscale", source, "-o", wanted, *kills.OPTIONS)
    assert outcome.code == 0, outcome.err
    return lambda number: kills.recover(kills.Kill.drawn(SEED, number), source, wanted, folder)


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("number", range(6))
def test_the_same_command_finishes_what_a_kill_left(
    number: int, killed: Callable[[int], kills.Recovery]
) -> None:
    recovery = killed(number)
    assert not recovery.lost, recovery
