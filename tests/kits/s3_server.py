"""A server that speaks S3, in this process: moto's, behind a gate that counts requests and can spoil them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any
from unittest import mock

SECRET, KEY, TOKEN = (
    "secret/That+Nobody/May+See+0123456789abcd",
    "AKIATHATNOBODYMAYSEE",
    "tokenthatnobodymaysee",
)
BUCKET = "bucket"
_OWN = "thetests"


@dataclass(frozen=True)
class Asked:
    """A request, as the gate saw it."""

    method: str
    path: str
    query: str
    sent: int
    """Bytes of its body."""
    headers: dict[str, str]

    @property
    def operation(self) -> str:
        """Such as "PUT uploads": the method, and what tells requests of one method apart."""
        word = next(
            (name for name in ("uploads", "partNumber", "uploadId", "list-type") if name in self.query), ""
        )
        copied = " copy" if "HTTP_X_AMZ_COPY_SOURCE" in self.headers else ""
        return f"{self.method} {word}".strip() + copied


Spoil = Callable[[Asked, int], tuple[int, str] | None]
"""Takes a request and how many came before; a status and S3's word for it to answer with, or None to let it pass."""


@dataclass
class S3Server:
    """The server while it runs."""

    url: str
    asked: list[Asked] = field(default_factory=list)
    spoil: Spoil | None = None
    lost: Callable[[Asked], bool] | None = None
    """Whether a request is carried out, and its answer lost."""
    answered: int = 0
    """Bytes of all answers."""
    ahead: float = 0
    """Seconds by which its clock is ahead of this machine's."""
    listen: Callable[[], Any] = field(default=lambda: None, repr=False)
    """Begins to listen at the port that the URL names."""
    listening: Any = field(default=None, repr=False)
    _restarting: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to reach it."""
        return {
            "AWS_ENDPOINT_URL": self.url, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_SESSION_TOKEN": TOKEN, "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",  # boto3's own waits are long; ours come on top
        }  # fmt: skip

    def client(self) -> Any:
        """A plain client, to look behind the library's back."""
        import boto3

        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=_OWN,
            aws_secret_access_key="y",
            region_name="us-east-1",
        )

    def stored(self) -> list[str]:
        found = self.client().list_objects_v2(Bucket=BUCKET)
        return [entry["Key"] for entry in found.get("Contents", ())]

    def restart(self, seconds: float) -> None:
        """Refuse connections for a while; what was stored stays."""
        with self._restarting:
            self.listening.shutdown()
            self.listening.server_close()
            time.sleep(seconds)
            self.listening = self.listen()

    def read(self, key: str) -> bytes:
        content: bytes = self.client().get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return content

    def open_uploads(self) -> list[str]:
        found = self.client().list_multipart_uploads(Bucket=BUCKET)
        return [entry["Key"] for entry in found.get("Uploads", ())]

    def operations(self) -> list[str]:
        return [asked.operation for asked in self.asked]


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A server with an empty bucket, and an environment that points there."""
    from moto.backends import get_backend
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, type: str, message: str, *args: Any) -> None:
            pass

    for backends in get_backend("s3").values():  # type: ignore[attr-defined]
        for backend in backends.values():
            backend.reset()
    server = S3Server("")
    gate = _Gate(server, DomainDispatcherApplication(create_backend_app))

    def listen() -> Any:
        port = int(server.url.rpartition(":")[2] or 0)
        listening = make_server("127.0.0.1", port, gate, threaded=True, request_handler=Quiet)
        threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True).start()
        return listening

    server.listen, server.listening = listen, listen()
    server.url = f"http://127.0.0.1:{server.listening.server_port}"
    try:
        server.client().create_bucket(Bucket=BUCKET)
        server.asked.clear()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        with mock.patch.dict(os.environ, {**kept, **server.environment}, clear=True):
            yield server
    finally:
        server.listening.shutdown()
        server.listening.server_close()


class _Gate:
    def __init__(self, server: S3Server, app: Any) -> None:
        self._server, self._app, self._lock = server, app, threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Any) -> Any:
        if f"Credential={_OWN}/" in environ.get("HTTP_AUTHORIZATION", ""):
            return self._app(environ, start)  # the test's own client
        asked = Asked(
            environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", ""),
            int(environ.get("CONTENT_LENGTH") or 0), {k: str(v) for k, v in environ.items() if k.startswith("HTTP_")},
        )  # fmt: skip
        with self._lock:
            before = len(self._server.asked)
            self._server.asked.append(asked)
        spoilt = self._server.spoil(asked, before) if self._server.spoil else None
        if spoilt is not None:
            environ["wsgi.input"].read(asked.sent)
            return _refusal(start, *spoilt)
        body = b"".join(self._app(environ, start_kept := _Kept()))
        if self._server.lost is not None and self._server.lost(asked):
            return _refusal(start, 500, "InternalError")
        with self._lock:
            self._server.answered += len(body)
        status, headers, *more = start_kept.arguments
        start(status, [(name, _shifted(name, value, self._server.ahead)) for name, value in headers], *more)
        return [body]


def _shifted(name: str, value: str, seconds: float) -> str:
    """A header as a clock that is ahead gives it."""
    if seconds and name.title() in ("Date", "Last-Modified"):
        return format_datetime(parsedate_to_datetime(value) + timedelta(seconds=seconds), usegmt=True)
    return value


class _Kept:
    arguments: tuple[Any, ...] = ()

    def __call__(self, *arguments: Any) -> None:
        self.arguments = arguments


def _refusal(start: Any, status: int, code: str) -> list[bytes]:
    said = f"credential={KEY} secret={SECRET}"
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{said}</Message></Error>".encode()
    start(f"{status} Spoilt", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]
