"""A local HTTP server with ranges that fails as real ones do."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")

Fault = Callable[[int], str]
"""What happens to the n-th request, counted from 0: a name of `Answer`'s methods, or an HTTP status."""


def every(*kinds: str) -> Fault:
    """The kinds in turn, over and over."""
    return lambda request: kinds[request % len(kinds)]


def from_request(first: int, kind: str) -> Fault:
    """Right answers, and from one request on that fault."""
    return lambda request: kind if request >= first else "right"


@dataclass
class Server:
    """What the server has, does and has been asked."""

    folder: Path
    """Its files."""
    fault: Fault = field(default=lambda request: "right")
    etags: dict[str, str] = field(default_factory=dict)
    """By name; a file without one gets no ETag."""
    requests: list[str] = field(default_factory=list)
    """Paths with their queries, in order."""
    sent: int = 0
    """Bytes of all answers, without their headers."""
    address: str = ""
    stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def url(self, name: str, query: str = "") -> str:
        return f"{self.address}/{name}{query}"

    def count(self, sent: int) -> None:
        with self._lock:
            self.sent += sent

    def next_fault(self, path: str) -> str:
        """Count a request, and say what happens to it."""
        with self._lock:
            self.requests.append(path)
            return self.fault(len(self.requests) - 1)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Server

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, *, with_body: bool) -> None:
        kind = self.state.next_fault(self.path)
        path = self.state.folder / self.path.partition("?")[0].lstrip("/")
        if kind == "drop":
            self.close_connection = True
        elif kind == "stall":
            self.state.stop.wait(60)
            self.close_connection = True
        elif kind.isdigit():
            self._send(int(kind), b"", {})
        elif not path.is_file():
            self._send(404, b"", {})
        else:
            self._send_file(path, kind, with_body=with_body)

    def _send_file(self, path: Path, kind: str, *, with_body: bool) -> None:
        content = path.read_bytes()
        headers = {
            "Accept-Ranges": "bytes",
            "Last-Modified": formatdate(path.stat().st_mtime, usegmt=True),
            **({"ETag": self.state.etags[path.name]} if path.name in self.state.etags else {}),
        }
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        if asked is None or kind == "no ranges":
            self._send(200, content, headers, with_body=with_body)
            return
        first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        if kind == "wrong range":
            first, last = first + 7, min(last + 7, len(content) - 1)
        part = content[first : last + 1]
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self._send(206, part, headers, with_body=with_body, cut=kind == "truncate")

    def _send(
        self, status: int, body: bytes, headers: dict[str, str], *, with_body: bool = True, cut: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            part = body[: len(body) // 2] if cut else body
            self.wfile.write(part)
            self.state.count(len(part))
        if cut:
            self.close_connection = True


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """GDAL often leaves before the answer is complete."""


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Serve a folder on this machine while the block runs."""
    state = Server(folder)
    handler = type("Handler", (_Handler,), {"state": state})
    with _Quiet(("127.0.0.1", 0), handler) as server:
        state.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield state
        finally:
            state.stop.set()
            server.shutdown()
            thread.join()
