"""A user is told by one way, of their own line, and a run keeps what it said."""

from __future__ import annotations

import ast
import threading
import warnings
from pathlib import Path

import pytest

import geosegsr
from geosegsr.errors import GeoSegSRWarning
from geosegsr.notices import kept_notices, warn

LIBRARY = Path(geosegsr.__file__).parent


def test_a_notice_names_the_line_of_the_caller() -> None:
    with pytest.warns(GeoSegSRWarning, match="^assumed$") as told:
        warn("assumed")
    assert [found.filename for found in told] == [__file__]


def test_each_thread_keeps_its_own() -> None:
    def other() -> None:
        warn("of another thread")

    with warnings.catch_warnings(), kept_notices() as kept:
        warnings.simplefilter("ignore")
        warn("one")
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        with kept_notices() as inner:
            warn("inside")
        warn("two")
    assert (kept, inner) == (["one", "two"], ["inside"])


def test_there_is_no_other_way_to_warn() -> None:
    found = []
    for path in LIBRARY.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "warnings.warn",
                "log.warning",
                "log.error",
            ):
                found.append(path.relative_to(LIBRARY).as_posix())
    assert found == ["notices.py"]
