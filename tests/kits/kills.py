"""Ends a run without warning at a moment drawn by lot, gives the same command again, and compares the result.

python kills.py SEED FIRST COUNT FOLDER        one line of JSON a kill, on standard output
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

KITS = Path(__file__).resolve().parent
ROOT = KITS.parents[1]
for folder in (ROOT, ROOT / "cli", KITS):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

import command_line  # noqa: E402
import scene_factory as factory  # noqa: E402
from command_line import environment, run, start  # noqa: E402
from comparison import cog_differences  # noqa: E402
from metadata_oracle import metadata_differences  # noqa: E402

SCALE = 4
HUNG_S = 600

_PROGRESS = re.compile(r"Warning: |[-\d: ]*(\d+/\d+ blocks|writing the COG|verifying)")
WORKERS = {"worker": ("--workers", 2), "client with workers": ("--workers", 1)}
VICTIMS = ("client", "client with workers", "worker", "scheduler")


@dataclass(frozen=True)
class Case:
    """A scene and how it is upscaled."""

    write: Callable[[Path], Path]
    options: tuple[object, ...]
    blocks: int
    """About so many; each run has more."""


PLAIN = ("--co", "OVERVIEW_RESAMPLING=CUBIC")
"""Overviews that GDAL computes from all pixels of a result."""
CASES = {
    "one cell": Case(
        lambda path: factory.write_nodata(path, size=(180, 200)),
        ("--model", "bicubic", "--tile", 16, "--overlap", 4, "--block", 48, "--scale", SCALE),
        240,
    ),
    "cells": Case(
        lambda path: factory.write_nodata(path, size=(540, 620), count=1),
        ("--model", "bicubic", "--tile", 48, "--overlap", 4, "--block", 176, "--scale", SCALE),
        180,
    ),
    "cells and a mask": Case(
        lambda path: _write_masked(path, (576, 640)),
        ("--model", "bicubic", "--tile", 48, "--overlap", 4, "--block", 176, "--scale", SCALE),
        180,
    ),
    "blocks with the tiles": Case(
        lambda path: factory.write_nodata(path, size=(930, 950), count=1),
        ("--model", "bilinear", "--scale", SCALE),
        16,
    ),
    "network": Case(
        lambda path: factory.write_nodata(path, size=(180, 200)),
        ("--tile", 48, "--overlap", 16, "--block", 128, "--scale", SCALE, "--precision", "fp32"),
        30,
    ),
    "plain blocks and a mask": Case(
        lambda path: _write_masked(path, (181, 203)),
        ("--model", "bicubic", "--tile", 16, "--overlap", 4, "--block", 48, "--scale", SCALE, *PLAIN),
        240,
    ),
}
"""Every way in which blocks become a result; see docs/architecture.md."""
FIRST = "one cell"


def _write_masked(path: Path, size: tuple[int, int]) -> Path:
    array = factory.pixels(1, size, "uint16", 0)
    return factory.write_scene(path, array, mask=~factory.blob(size))


def where(victim: str, address: str) -> tuple[object, ...]:
    """Options of a run with such a victim; the address of its scheduler, or "" without one."""
    return ("--scheduler", address) if address else WORKERS.get(victim, ())


@dataclass(frozen=True)
class Kill:
    """Who is killed when; from the seed and the number alone."""

    number: int
    victim: str
    """One of VICTIMS."""
    stage: str
    """"start" (before the first block), "blocks", "cog" or "verify"."""
    blocks: int
    """Finished blocks to wait for, in the stage of that name."""
    delay: float
    """Seconds to wait after that."""
    case: str = FIRST
    """One of CASES."""

    @classmethod
    def drawn(cls, seed: int, number: int, cases: Sequence[str] = (FIRST,)) -> Kill:
        """The kill of that number; cases take turns."""
        rng = random.Random(f"{seed} {number}")
        case = cases[number % len(cases)]
        victim = rng.choice(VICTIMS)
        late = ("cog", "verify") if victim.startswith("client") else ()
        stage = rng.choice(("start", "blocks", "blocks", *late, *late))
        return cls(
            number,
            victim,
            stage,
            int(rng.uniform(0, 0.96) * CASES[case].blocks),
            rng.uniform(0, 0.15 if stage != "start" else 2.5),
            case,
        )


@dataclass(frozen=True)
class Recovery:
    """How the same command ended after a kill."""

    kill: Kill
    ended: str
    """What the command that lost its victim did: "killed", "went on", "refused" (one line), "untidy" or "hung"."""
    again: str
    """"finished", or what the same command said instead."""
    resumed: int
    """Blocks that were not computed again."""
    differences: list[str]
    """Of the result from that of an undisturbed run."""
    said: str = ""

    @property
    def lost(self) -> bool:
        return self.again != "finished" or bool(self.differences) or self.ended in ("untidy", "hung")


@dataclass(frozen=True)
class Ground:
    """A scene, and the result of a run that nothing disturbed."""

    case: Case
    source: Path
    wanted: Path

    @classmethod
    def of(cls, name: str, folder: Path) -> Ground:
        """Write the scene of a case and upscale it."""
        source = CASES[name].write(folder / f"{name.replace(' ', '-')}.tif")
        ground = cls(CASES[name], source, source.with_name(f"wanted-{source.name}"))
        outcome = run(*ground.command(ground.wanted), "--overwrite")
        assert outcome.code == 0, outcome.err
        return ground

    def undisturbed(self, victim: str) -> Path:
        """The result to expect. With a scheduler, the tags of a network leave the choice of a device to the workers."""
        if "network" not in self.source.name or victim != "scheduler":
            return self.wanted
        other = self.wanted.with_name(f"scheduler-{self.source.name}")
        if not other.exists():
            with cluster(True) as (_, address):
                outcome = run(*self.command(other), *where(victim, address))
            assert outcome.code == 0, outcome.err
        return other

    def command(self, target: Path) -> tuple[object, ...]:
        """What to type."""
        return ("upscale", self.source, "-o", target, *self.case.options)


def recover(kill: Kill, ground: Ground, folder: Path) -> Recovery:
    """Kill and give the same command again."""
    target = folder / f"out-{kill.number}.tif"
    command = ground.command(target)
    with cluster(kill.victim == "scheduler") as (scheduler, address):
        process = start(*command, *where(kill.victim, address), start_new_session=True)
        said = Lines(process)
        wait_for(kill, process, said, target)
        victim = process.pid if kill.victim.startswith("client") else None
        if kill.victim == "scheduler":
            victim = scheduler
        elif kill.victim == "worker":
            victim = a_worker(process.pid)
        if victim is not None:
            with suppress(ProcessLookupError):  # it may have been faster
                os.kill(victim, signal.SIGKILL)
        code, hung = wait_or_end(process)
        end_all(process.pid)
    ended = "hung" if hung else {-signal.SIGKILL: "killed", 0: "went on"}.get(code, "refused")
    with cluster(kill.victim == "scheduler") as (_, address):
        over = ("--overwrite",) if code == 0 or target.exists() else ()
        outcome = run(*command, *where(kill.victim, address), *over, "--json")
    again = "finished" if outcome.code == 0 else outcome.err.strip()[-500:]
    differences = []
    resumed = 0
    if outcome.code == 0:
        resumed = json.loads(outcome.out)["blocks_resumed"]
        differences = cog_differences(target, ground.undisturbed(kill.victim)) + metadata_differences(
            ground.source, target, SCALE
        )
        left = target.with_name(target.name + ".geosegsr")
        differences += ["job folder"] if left.exists() else []
        target.unlink()
    if ended == "refused" and len(said.errors) != 1:
        ended = "untidy"
    return Recovery(
        kill,
        ended,
        again,
        resumed,
        differences,
        "\n".join(said.lines)[-1500:] if ended in ("untidy", "hung") else "",
    )


class Lines:
    """What a command says on standard error while it runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: list[str] = []
        assert process.stderr is not None
        self._stream = process.stderr
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self) -> None:
        for line in self._stream:
            self.lines.append(line.rstrip())

    @property
    def errors(self) -> list[str]:
        """Lines that neither warn nor tell of progress."""
        return [line for line in self.lines if line and not _PROGRESS.match(line)]


def wait_for(kill: Kill, process: subprocess.Popen[str], said: Lines, target: Path) -> None:
    """Return at the moment of the kill, or when the command has ended before it."""
    journal = target.with_name(target.name + ".geosegsr") / "done.jsonl"
    mark = {"cog": "writing the COG", "verify": "verifying"}.get(kill.stage)
    deadline = time.monotonic() + HUNG_S
    while process.poll() is None and time.monotonic() < deadline:
        if kill.stage == "start" or (mark and any(mark in line for line in said.lines)):
            break
        if kill.stage == "blocks" and journal.exists() and journal.read_bytes().count(b"\n") >= kill.blocks:
            break
        time.sleep(0.002)
    time.sleep(kill.delay)


def a_worker(client: int) -> int | None:
    """A worker process of a command, if it has one by now."""
    try:
        children = psutil.Process(client).children(recursive=True)
        found = [child.pid for child in children if "spawn_main" in " ".join(child.cmdline())]
    except psutil.NoSuchProcess:
        return None
    return found[0] if found else None


def wait_or_end(process: subprocess.Popen[str]) -> tuple[int, bool]:
    """A command's exit code, and whether it had to be ended."""
    try:
        return process.wait(HUNG_S), False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait(), True


def end_all(session: int) -> None:
    """Wait until the processes that a killed command started have gone by themselves."""
    deadline = time.monotonic() + 60
    while any(_session(process) == session for process in psutil.process_iter()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes of session {session} outlive their command")
        time.sleep(0.1)


def _session(process: psutil.Process) -> int:
    try:
        return os.getsid(process.pid) if process.status() != psutil.STATUS_ZOMBIE else 0
    except (ProcessLookupError, psutil.NoSuchProcess):
        return 0


@contextmanager
def cluster(wanted: bool) -> Iterator[tuple[int, str]]:
    """A scheduler and a worker in processes of their own; its process id and address."""
    if not wanted:
        yield 0, ""
        return
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment()}
    # Where it listens is written to a file, so that no port need be chosen here.
    note = Path(f"/proc/{os.getpid()}/cwd").resolve() / f"scheduler-{os.getpid()}-{time.monotonic_ns()}.json"
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    scheduler = subprocess.Popen(
        [*dask, "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(note)],
        **quiet,
    )  # type: ignore[call-overload]
    worker = None
    try:
        deadline = time.monotonic() + HUNG_S
        while not note.exists() or not note.read_text().strip():
            assert scheduler.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        address = json.loads(note.read_text())["address"]
        command = [
            sys.executable,
            "-m",
            "distributed.cli.dask_worker",
            address,
            "--nthreads",
            "1",
            "--no-dashboard",
            "--death-timeout",
            "10",
            "--no-nanny",
        ]
        worker = subprocess.Popen(command, **quiet)  # type: ignore[call-overload]
        yield scheduler.pid, address
    finally:
        for process in (worker, scheduler):
            if process is not None:
                process.kill()
                process.wait()
        note.unlink(missing_ok=True)


def recoveries(
    seed: int, first: int, count: int, folder: Path, cases: Sequence[str] = (FIRST,)
) -> Iterator[Recovery]:
    """The kills first ... first + count - 1 of a seed, one after the other."""
    grounds = {name: Ground.of(name, folder) for name in cases}
    for number in range(first, first + count):
        kill = Kill.drawn(seed, number, cases)
        yield recover(kill, grounds[kill.case], folder)


def main() -> None:
    """Print one line of JSON for each kill."""
    command_line.PATIENCE_S = HUNG_S  # the machine may be busy
    seed, first, count = map(int, sys.argv[1:4])
    for recovery in recoveries(seed, first, count, Path(sys.argv[4])):
        sys.stdout.write(json.dumps({**asdict(recovery), "lost": recovery.lost}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
