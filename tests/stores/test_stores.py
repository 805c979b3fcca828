"""What a store promises, of S3 against moto's server and of what obstore reaches against its store in memory."""

from __future__ import annotations

import builtins
import socket
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import scene_factory as factory
from command_line import run_here
from s3_server import BUCKET, KEY, SECRET, TOKEN, Asked, S3Server

from geosegsr.errors import ConfigError, ObjectExistsError, ObjectMissingError, StoreError
from geosegsr.stores import patience, s3
from geosegsr.stores.address import Address
from geosegsr.stores.contract import Store
from geosegsr.stores.opening import forget_stores, open_store

PART = 5 << 20


@pytest.fixture(params=["s3", "obstore"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "s3":
        request.getfixturevalue("server")
        return open_store(Address.parse(f"s3://{BUCKET}"))
    memory = pytest.importorskip("obstore.store").MemoryStore()
    from geosegsr.stores.others import OtherStore

    return OtherStore(memory, "gs://bucket")


def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE_S", 0.05)
    monkeypatch.setattr(patience, "AT_FIRST_S", 0.05)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_FIRST_S", 0.001)
    monkeypatch.setattr(patience, "_LONGEST_S", 0.01)


def test_an_object_is_written_and_read(store: Store) -> None:
    assert store.head("a/b") is None
    store.put("a/b", b"0123456789", kind="text/plain")
    found = store.head("a/b")
    assert found is not None and (found.key, found.size) == ("a/b", 10)
    assert store.get("a/b") == b"0123456789"
    assert store.get("a/b", 3) == b"3456789"
    assert store.get("a/b", 3, 5) == b"34"
    assert store.get("a/b", 4, 4) == b""
    store.delete("a/b")
    store.delete("a/b")
    assert store.head("a/b") is None


@pytest.mark.parametrize("stop", [None, 1])
def test_what_is_missing_is_said(store: Store, stop: int | None) -> None:
    with pytest.raises(ObjectMissingError, match="no such object"):
        store.get("none", 0, stop)
    with pytest.raises(builtins.FileNotFoundError):
        store.get("none", 0, stop)


def test_one_of_several_new_objects_wins(store: Store) -> None:
    store.put("lock", b"mine", new=True)
    with pytest.raises(ObjectExistsError, match="another object"):
        store.put("lock", b"yours", new=True)
    with pytest.raises(ObjectExistsError):
        store.put("lock", b"mine", new=True)
    assert store.get("lock") == b"mine"
    store.put("lock", b"replaced")
    assert store.get("lock") == b"replaced"


def test_only_the_version_that_was_seen_is_replaced(store: Store) -> None:
    first = store.put("lock", b"1")
    second = store.put("lock", b"2", replaces=first)
    found = store.head("lock")
    assert found is not None and found.etag == second != first
    with pytest.raises(ObjectExistsError):
        store.put("lock", b"3", replaces=first)
    assert store.get("lock") == b"2"


def test_objects_are_listed_by_prefix_in_order(store: Store) -> None:
    for key in ("b/2", "b/10", "a", "b/1", "bb", "c/d/e"):
        store.put(key, key.encode())
    assert [entry.key for entry in store.list()] == ["a", "b/1", "b/10", "b/2", "bb", "c/d/e"]
    assert [entry.key for entry in store.list("b/")] == ["b/1", "b/10", "b/2"]
    assert [entry.key for entry in store.list("b/1")] == ["b/1", "b/10"]
    assert [entry.size for entry in store.list("c")] == [5]


def test_an_upload_appears_when_it_is_complete(store: Store) -> None:
    parts = [bytes([number]) * PART for number in (1, 2)] + [b"end"]
    with store.upload("big", kind="image/tiff") as upload:
        for number in (2, 1, 3):
            upload.part(number, parts[number - 1])
        assert store.head("big") is None
        upload.complete(new=True)
    assert store.get("big") == b"".join(parts)
    assert [entry.key for entry in store.list()] == ["big"]


def test_an_upload_may_replace_an_object_unless_it_must_be_new(store: Store) -> None:
    store.put("big", b"old")
    with pytest.raises(ObjectExistsError), store.upload("big") as upload:
        upload.part(1, b"new")
        upload.complete(new=True)
    assert store.get("big") == b"old"
    with store.upload("big") as upload:
        upload.part(1, b"new")
        upload.complete()
    assert store.get("big") == b"new"
    assert [entry.key for entry in store.list()] == ["big"]


@pytest.mark.parametrize("stop", [KeyError, KeyboardInterrupt, SystemExit, None])
def test_an_upload_that_is_given_up_leaves_nothing(store: Store, stop: type[BaseException] | None) -> None:
    def begin() -> None:
        with store.upload("big") as upload:
            upload.part(1, bytes(PART))
            upload.part(2, bytes(PART))
            if stop is not None:
                raise stop

    if stop is None:
        begin()
    else:
        with pytest.raises(stop):
            begin()
    assert list(store.list()) == []


def test_no_upload_stays_open(server: S3Server) -> None:
    store = open_store(Address.parse(f"s3://{BUCKET}"))
    with pytest.raises(KeyboardInterrupt), store.upload("big") as upload:
        upload.part(1, bytes(PART))
        assert server.open_uploads() == ["big"]
        raise KeyboardInterrupt
    assert server.open_uploads() == []


def test_the_checksum_of_the_whole_is_compared(server: S3Server) -> None:
    store = open_store(Address.parse(f"s3://{BUCKET}"))
    with store.upload("big") as upload:
        upload.part(1, bytes(PART))
        upload.part(2, b"end")
        assert upload.complete()
    assert all("HTTP_CONTENT_MD5" in asked.headers for asked in server.asked if "partNumber" in asked.query)


def test_bytes_that_change_on_the_way_are_refused(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(Address.parse(f"s3://{BUCKET}"))
    monkeypatch.setattr(s3, "_md5", lambda data: "AAAAAAAAAAAAAAAAAAAAAA==")
    server.spoil = lambda asked, before: (400, "BadDigest") if "HTTP_CONTENT_MD5" in asked.headers else None
    with pytest.raises(StoreError, match="BadDigest"):
        store.put("a", b"content")


def test_two_of_five_requests_may_be_throttled(server: S3Server) -> None:
    store = open_store(Address.parse(f"s3://{BUCKET}"))
    server.spoil = lambda asked, before: (503, "SlowDown") if before % 5 in (1, 3) else None
    for number in range(20):
        store.put(f"a/{number}", b"x" * number, new=True)
    assert [entry.size for entry in store.list("a/")] == [0, 1, *range(10, 20), *range(2, 10)]


def test_an_answer_that_is_lost_is_not_taken_for_anothers_object(server: S3Server) -> None:
    store = open_store(Address.parse(f"s3://{BUCKET}"))
    lost: list[Asked] = []

    def first_puts_and_ends(asked: Asked) -> bool:
        told = asked.operation in ("PUT", "POST uploadId") and asked.operation not in [
            a.operation for a in lost
        ]
        lost.extend([asked] if told else [])
        return told

    server.lost = first_puts_and_ends
    store.put("lock", b"mine", new=True)
    with store.upload("big") as upload:
        upload.part(1, b"content")
        assert upload.complete(new=True)
    assert len(lost) == 2
    assert store.get("big") == b"content"
    with pytest.raises(ObjectExistsError):
        store.put("lock", b"mine", new=True)


@pytest.mark.parametrize("taken", [False, True])
def test_a_server_without_conditions_is_asked_once_more(server: S3Server, taken: bool) -> None:
    store = open_store(Address.parse(f"s3://{BUCKET}"))
    if taken:
        store.put("big", b"another's")
    server.spoil = lambda asked, before: (
        (501, "NotImplemented") if "HTTP_IF_NONE_MATCH" in asked.headers else None
    )
    with store.upload("big") as upload:
        upload.part(1, b"content")
        if taken:
            with pytest.raises(ObjectExistsError):
                upload.complete(new=True)
        else:
            assert upload.complete(new=True)
    assert store.get("big") == (b"another's" if taken else b"content")
    with pytest.raises(StoreError, match="does not know this request"):
        store.put("lock", b"mine", new=True)


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (403, "AccessDenied", "credentials do not allow it"),
        (403, "SignatureDoesNotMatch", "secret key is wrong"),
        (403, "RequestTimeTooSkewed", "clock is wrong"),
        (400, "ExpiredToken", "have expired"),
        (404, "NoSuchBucket", "no such bucket"),
        (400, "AuthorizationHeaderMalformed", "another region"),
        (400, f"Odd{SECRET}", "HTTP status 400"),
        (500, "InternalError", "busy or fails"),
    ],
)
def test_errors_say_what_is_wrong_and_no_secret(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, status: int, code: str, reason: str
) -> None:
    _short_patience(monkeypatch)
    store = open_store(Address.parse(f"s3://{BUCKET}"))
    server.spoil = lambda asked, before: (status, code)
    for ask in (lambda: store.put("k.tif", b"x"), lambda: store.get("k.tif"), lambda: list(store.list("k"))):
        with pytest.raises(StoreError, match=reason) as caught:
            ask()
        said = "".join(traceback.format_exception(caught.value))
        assert f"s3://{BUCKET}" in str(caught.value)
        for secret in (KEY, SECRET, TOKEN, "X-Amz"):
            assert secret not in said


@pytest.mark.parametrize("methods", [("PUT", "POST", "DELETE"), ("GET", "HEAD")])
def test_rights_that_are_lost_in_an_upload_leave_no_object(
    server: S3Server, methods: tuple[str, ...]
) -> None:
    store = open_store(Address.parse(f"s3://{BUCKET}"))
    store.put("a", b"content")
    with pytest.raises(StoreError, match="do not allow it"), store.upload("big") as upload:
        upload.part(1, bytes(PART))
        server.spoil = lambda asked, before: (403, "AccessDenied") if asked.method in methods else None
        upload.part(2, b"end")
        store.get("a")
    server.spoil = None
    store.discard("big", upload.identity)  # nothing happens where it is discarded
    assert server.stored() == ["a"] and server.open_uploads() == []
    assert store.get("a") == b"content"


@pytest.mark.parametrize("hours", [-5, 5])
def test_the_clock_of_the_store_does_not_matter(server: S3Server, hours: float) -> None:
    server.ahead = 3600 * hours
    store = open_store(Address.parse(f"s3://{BUCKET}"))
    first = store.put("lock", b"1", new=True)
    second = store.put("lock", b"2", replaces=first)
    with pytest.raises(ObjectExistsError):
        store.put("lock", b"3", replaces=first)
    found = store.head("lock")
    assert found is not None and found.etag == second
    assert list(store.list()) == [found]


def test_no_server_is_one_line(monkeypatch: pytest.MonkeyPatch, server: S3Server) -> None:
    _short_patience(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:pass@127.0.0.1:1")
    forget_stores()
    with pytest.raises(StoreError, match="gives no answer") as caught:
        open_store(Address.parse("s3://bucket")).get("k")
    assert "pass" not in str(caught.value)


def test_a_profile_that_does_not_exist_is_one_line(monkeypatch: pytest.MonkeyPatch, server: S3Server) -> None:
    monkeypatch.setenv("AWS_PROFILE", "none-of-that-name")
    forget_stores()
    with pytest.raises(ConfigError, match="AWS_PROFILE"):
        open_store(Address.parse("s3://bucket"))


@pytest.fixture
def _bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("boto3", "botocore", "obstore"):
        monkeypatch.setitem(sys.modules, name, None)
    forget_stores()
    yield
    forget_stores()


@pytest.mark.usefixtures("_bare")
@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_without_the_extra_the_message_names_it(scheme: str) -> None:
    with pytest.raises(ConfigError, match=r"pip install 'geosegsr\[cloud\]'"):
        open_store(Address.parse(f"{scheme}://bucket"))


@pytest.mark.usefixtures("_bare")
def test_a_local_run_needs_neither_a_client_nor_a_network(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError("a local run asks nothing over the network")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    scene = factory.write_plain(tmp_path / "in.tif")
    outcome = run_here(
        capfd, "upscale", scene, "-o", tmp_path / "out.tif", "--model", "bicubic", "--scale", 2
    )
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "out.tif").exists()


def test_a_request_is_repeated_until_patience_ends() -> None:
    waits: list[float] = []
    asked: list[int] = []

    def fails(tried: int) -> Any:
        asked.append(tried)
        raise OSError

    with pytest.raises(OSError):
        patience.patiently(fails, lambda error: len(asked) < 9, patience=60, wait=waits.append)
    assert asked == list(range(9)) and len(waits) == 8
    assert all(wait <= 0.01 for wait in waits)


def test_a_server_that_never_answered_is_given_up_earlier(
    monkeypatch: pytest.MonkeyPatch, server: S3Server
) -> None:
    used: list[float] = []
    repeat = patience.patiently

    def noted(*arguments: Any, patience: float) -> Any:
        used.append(patience)
        return repeat(*arguments, patience=0.0)

    monkeypatch.setattr(patience, "patiently", noted)
    store = open_store(Address.parse(f"s3://{BUCKET}"))
    for spoil in (None, lambda asked, before: (404, "NoSuchKey")):
        server.spoil = spoil
        store.head("a")
    assert used == [patience.AT_FIRST_S, patience.PATIENCE_S]
