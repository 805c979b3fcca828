"""Kills runs whose blocks and result are in an object store, stops the store, and gives the same command again.

python benchmarks/faults/stores.py --workdir FOLDER --count 20
python benchmarks/faults/stores.py --workdir FOLDER --count 8 --victims rights clock

A scheduler and two workers with temporary folders of their own share nothing with the command but a store: moto's server
in this process, which answers two of five requests of half of the runs with 503, behind a proxy that can be stopped.

With "rights" nobody may write any more, or read, until the command has ended. With "clock" the clock of the store is five
hours ahead or behind, and the client is killed.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "kits"), str(ROOT / "cli"), str(ROOT)]

import command_line  # noqa: E402
import kills  # noqa: E402
import psutil  # noqa: E402
from command_line import run, start  # noqa: E402
from lonely_workers import lonely_workers  # noqa: E402
from s3_server import BUCKET, Asked, S3Server, Spoil, s3_server  # noqa: E402

VICTIMS = "client", "worker", "both", "store"
MORE_VICTIMS = "rights", "clock"
_HOURS = 5
_WRITING = "PUT", "POST", "DELETE"
_DOWN_S = 4.0
_TRIES = 4
OPTIONS = kills.CASES[kills.FIRST].options


@dataclass(frozen=True)
class Kill:
    """Who is killed or stopped when; from the seed and the number alone."""

    number: int
    victim: str
    blocks: int
    """Finished blocks to wait for; more than there are: until the COG is uploaded."""
    throttled: bool

    @classmethod
    def drawn(cls, seed: int, number: int, victims: Sequence[str]) -> Kill:
        rng = random.Random(f"{seed} {number} store")
        blocks = rng.choice((rng.randrange(200), rng.randrange(200), 10**6))
        victim, turn = victims[number % len(victims)], number // len(victims)
        return cls(number, victim, blocks, turn % 2 == 1)

    @property
    def spoil(self) -> Spoil | None:
        """What the store refuses all along."""
        return throttle if self.throttled else None


class Proxy:
    """A port that leads to another one, and can be stopped: connections are cut, and new ones are refused."""

    def __init__(self, url: str) -> None:
        self._to = urlsplit(url).port
        self._open: set[socket.socket] = set()
        self._listening = self._listen(0)
        self.port = self._listening.getsockname()[1]

    def stop(self) -> None:
        # Closing alone would not wake the thread that accepts.
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for end in list(self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def start(self) -> None:
        self._listening = self._listen(self.port)

    def _listen(self, port: int) -> socket.socket:
        listening = socket.create_server(("127.0.0.1", port), backlog=64)
        threading.Thread(target=self._accept, args=(listening,), daemon=True).start()
        return listening

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                near, _ = listening.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                return
            self._open |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()
        self._open.discard(source)


def strike(
    kill: Kill, client: subprocess.Popen[str], workers: list[Any], proxy: Proxy, server: S3Server
) -> None:
    """Kill or stop the victim now."""
    if kill.victim in ("client", "both", "clock"):
        client.kill()
    if kill.victim in ("worker", "both"):
        for child in psutil.Process(workers[kill.number % 2].pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.send_signal(signal.SIGKILL)
    if kill.victim == "store":
        proxy.stop()
        time.sleep(_DOWN_S)
        proxy.start()
    if kill.victim == "rights":
        lost = _WRITING if random.Random(kill.number).random() < 0.5 else ("GET", "HEAD")
        server.spoil = lambda asked, before: (403, "AccessDenied") if asked.method in lost else None
        client.wait(kills.HUNG_S)
        server.spoil = kill.spoil


def wait_for(kill: Kill, client: subprocess.Popen[str], server: S3Server, key: str) -> None:
    """Return when as many blocks are finished, or when the upload begins."""
    while client.poll() is None:
        operations = [(asked.operation, asked.path) for asked in list(server.asked)]
        done = sum(what == "PUT" and "/done/" in path and key in path for what, path in operations)
        if done >= kill.blocks or any(what.startswith("POST") for what, _ in operations):
            return
        if any(what == "PUT" and path.endswith(key) for what, path in operations):
            return
        time.sleep(0.02)


def attempt(
    kill: Kill, source: Path, wanted: bytes, folder: Path, server: S3Server, proxy: Proxy
) -> tuple[str, int]:
    """What was wrong in the end, or nothing; and how often the command was given."""
    key = f"results/out-{kill.number}.tif"
    server.asked.clear()
    server.spoil = kill.spoil
    server.ahead = 3600 * _HOURS * (-1) ** (kill.number // 2) if kill.victim == "clock" else 0
    with lonely_workers(folder) as (address, processes):
        command = ("upscale", source, "-o", f"s3://{BUCKET}/{key}", *OPTIONS, "--scheduler", address)
        client = start(*command)
        said = kills.Lines(client)
        wait_for(kill, client, server, key)
        strike(kill, client, processes[1:], proxy, server)
        client.wait(kills.HUNG_S)
        half = key in server.stored() and server.read(key) != wanted
        tries, code, text = 1, client.returncode, "\n".join(said.lines)
        tidy = kill.victim != "rights" or code == 0 or is_one_error(said.lines)
        while code != 0 and tries < _TRIES:
            outcome = run(*command)
            tries, code, text = tries + 1, outcome.code, outcome.err
    server.spoil = None
    faults = [f"failed: {text[-300:]}"] if code else []
    faults += [] if tidy else ["an untidy end"]
    faults += ["half a result under its name"] if half else []
    faults += ["another result"] if not code and server.read(key) != wanted else []
    faults += ["an open upload"] if server.open_uploads() else []
    left = [name for name in server.stored() if name.startswith(key) and name != key]
    faults += [f"left: {left[:3]}"] if left else []
    return "; ".join(faults), tries


def is_one_error(lines: Sequence[str]) -> bool:
    """Whether a command that failed said so in one line."""
    return sum(line.startswith("Error: ") for line in lines) == 1 and "Traceback" not in "".join(lines)


def throttle(asked: Asked, before: int) -> tuple[int, str] | None:
    return (503, "SlowDown") if before % 5 < 2 else None


def main() -> None:
    """Run the campaign, and print a line for each kill."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--victims", nargs="+", choices=(*VICTIMS, *MORE_VICTIMS), default=VICTIMS)
    args = parser.parse_args()
    args.workdir.mkdir(parents=True, exist_ok=True)
    command_line.PATIENCE_S = kills.HUNG_S  # the machine may be busy
    ground = kills.Ground.of(kills.FIRST, args.workdir)
    source, wanted = ground.source, ground.wanted
    lost = 0
    with ExitStack() as stack:
        server = stack.enter_context(s3_server())
        proxy = Proxy(server.url)
        os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{proxy.port}"
        os.environ["TMPDIR"] = str(args.workdir / "client")
        for number in range(args.first, args.first + args.count):
            Path(os.environ["TMPDIR"]).mkdir(exist_ok=True)
            kill, began = Kill.drawn(args.seed, number, args.victims), time.monotonic()
            fault, tries = attempt(kill, source, wanted.read_bytes(), args.workdir / "workers", server, proxy)
            lost += bool(fault)
            print(f"{kill} {tries} commands, {time.monotonic() - began:.0f} s {fault or 'whole'}", flush=True)
            shutil.rmtree(os.environ["TMPDIR"])  # as on another machine
    print(f"{args.count} runs, {lost} lost")


if __name__ == "__main__":
    main()
