"""Fixtures that several test modules share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

SHARED = Path(__file__).resolve().parents[2] / "shared"

# How long an example takes says nothing about what is right, least of all on a busy machine.
settings.register_profile("geosegsr", deadline=None)
settings.load_profile("geosegsr")


@pytest.fixture(scope="session")
def real_scenes() -> Path:
    """Folder of real scenes; tests that need it are skipped where it does not exist."""
    folder = SHARED / "imagery" / "scenes"
    if not folder.is_dir():
        pytest.skip("needs the real scenes beside the repository")
    return folder
