"""Fixtures of the tests of workers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cluster_lab import Lab
from distributed import LocalCluster

from geosegsr.workers import dispatch


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setattr(dispatch, "_UPDATE_S", 0.05)
    with LocalCluster(n_workers=0, processes=False, dashboard_address=None, silence_logs="CRITICAL") as inner:
        opened = Lab(inner)
        yield opened
        opened.retire_all()
