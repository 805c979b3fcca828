"""Runs killed at moments drawn by lot are finished by the same command. `benchmarks/faults/faults.py` kills many more."""

from __future__ import annotations

import functools
from collections.abc import Callable

import kills
import pytest

SEED = 14
QUICK = ("one cell", "cells", "one cell", "plain blocks and a mask")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], kills.Recovery]:
    folder = tmp_path_factory.mktemp("kills")
    ground = functools.cache(lambda case: kills.Ground.of(case, folder))

    def recover(number: int) -> kills.Recovery:
        kill = kills.Kill.drawn(SEED, number, QUICK)
        return kills.recover(kill, ground(kill.case), folder)

    return recover


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("number", range(6))
def test_the_same_command_finishes_what_a_kill_left(
    number: int, killed: Callable[[int], kills.Recovery]
) -> None:
    recovery = killed(number)
    assert not recovery.lost, recovery
