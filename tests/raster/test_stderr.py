"""Standard error while files are written: errors are captured, and all else is passed on."""

from __future__ import annotations

import os
from contextlib import ExitStack

import pytest

from geosegsr.raster.stderr import captured_errors, release_standard_error

ERROR = b"_tiffWriteProc: No space left on device.\n"


def report(text: bytes) -> None:
    """As C code does it, past Python's sys.stderr."""
    os.write(2, text)


def seen(capfd: pytest.CaptureFixture[str]) -> str:
    return capfd.readouterr().err


def test_errors_are_found_and_all_else_passes_as_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    found: list[str] = []
    with captured_errors(found):
        report(b"one\n" + ERROR + b"\rtwo, without an end")
        assert seen(capfd) == ""
    assert found == ["No space left on device"]
    assert seen(capfd) == "one\n\rtwo, without an end"
    report(b"after\n")
    assert seen(capfd) == "after\n"


def test_errors_of_gdal_itself(capfd: pytest.CaptureFixture[str]) -> None:
    found: list[str] = []
    with captured_errors(found):
        report(b"ERROR 1: LZWEncode: too large.\nERRORS are none\n")
    assert found == ["LZWEncode: too large"]
    assert seen(capfd) == "ERRORS are none\n"


def test_an_error_counts_for_all_that_are_inside_and_for_no_one_else(
    capfd: pytest.CaptureFixture[str],
) -> None:
    first: list[str] = []
    second: list[str] = []
    late: list[str] = []
    outer, inner = ExitStack(), ExitStack()
    outer.enter_context(captured_errors(first))
    inner.enter_context(captured_errors(second))
    report(b"passed on early\n" + ERROR)
    with captured_errors(late):
        report(b"more\n")
    assert late == []
    assert seen(capfd) == "passed on early\nmore\n", "no one waits for the last to leave"
    outer.close()
    assert first == ["No space left on device"]
    assert second == []
    inner.close()
    assert second == first
    assert seen(capfd) == ""


def test_an_error_reported_in_two_pieces(capfd: pytest.CaptureFixture[str]) -> None:
    first: list[str] = []
    second: list[str] = []
    with captured_errors(first):
        report(ERROR[:20])
        with captured_errors(second):
            pass
        report(ERROR[20:])
    assert first == ["No space left on device"]
    assert seen(capfd) == ""


def test_standard_error_can_be_had_back_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    found: list[str] = []
    with captured_errors(found):
        report(b"caught\n")
        release_standard_error()
        report(b"direct\n")
        assert seen(capfd) == "caught\ndirect\n"
    with captured_errors(found):
        report(ERROR)
    assert found == ["No space left on device"]
    release_standard_error()
    assert seen(capfd) == ""
