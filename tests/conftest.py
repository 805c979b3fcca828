"""Fixtures that several test modules share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from s3_server import S3Server

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


@pytest.fixture
def server() -> Iterator[S3Server]:
    """A server that speaks S3, with an empty bucket, to which the environment leads."""
    pytest.importorskip("moto", reason="needs moto's server")
    from s3_server import s3_server

    from geosegsr.stores.opening import forget_stores

    forget_stores()
    with s3_server() as running:
        yield running
    forget_stores()
