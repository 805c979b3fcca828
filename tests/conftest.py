"""Fixtures that several test modules share."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def real_scenes() -> Path:
    """Folder of real scenes; tests that need it are skipped where it does not exist."""
    folder = SHARED / "imagery" / "scenes"
    if not folder.is_dir():
        pytest.skip("needs the real scenes beside the repository")
    return folder
