"""Stores that tests run against."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from s3_server import S3Server, s3_server

from geosegsr.stores.opening import forget_stores


@pytest.fixture
def server() -> Iterator[S3Server]:
    pytest.importorskip("moto", reason="needs moto's server")
    forget_stores()
    with s3_server() as running:
        yield running
    forget_stores()
