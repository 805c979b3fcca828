"""Kills runs and fills disks at moments drawn by lot, gives the same command again, and makes the tables of docs/reliability.md.

python benchmarks/faults/faults.py --workdir FOLDER --count 20 kills       kill -9 of the command, of a worker, of a scheduler
python benchmarks/faults/faults.py --workdir FOLDER --count 20 disks       small file systems in memory; needs the right to mount
python benchmarks/faults/faults.py --workdir FOLDER fsync                  what it would cost to force every block to the disk
"""

from __future__ import annotations

import argparse
import functools
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "kits"), str(ROOT / "cli"), str(ROOT)]

import command_line  # noqa: E402
import kills  # noqa: E402
from command_line import run  # noqa: E402
from comparison import cog_differences  # noqa: E402

from geosegsr.files import whole_file  # noqa: E402

SMALL = 60
"""Of a disk, in kB."""


def main() -> None:
    """Run one of the campaigns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=14)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("what", choices=["kills", "disks", "fsync"])
    args = parser.parse_args()
    args.workdir.mkdir(parents=True, exist_ok=True)
    command_line.PATIENCE_S = kills.HUNG_S  # the machine may be busy
    print(f"{date.today()}, {platform.machine()}, Python {platform.python_version()}\n")
    {"kills": kill, "disks": fill, "fsync": force}[args.what](args)


def kill(args: argparse.Namespace) -> None:
    """Kills, one after the other."""
    found = []
    for recovery in kills.recoveries(args.seed, 0, args.count, args.workdir, tuple(kills.CASES)):
        found.append(recovery)
        if recovery.lost:
            print(recovery, file=sys.stderr)
    print(
        "| way | killed | when | runs | went on by itself | same command finished it | blocks kept, on average | lost |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for case, victim, stage in sorted({(r.kill.case, r.kill.victim, r.kill.stage) for r in found}):
        group = [r for r in found if (r.kill.case, r.kill.victim, r.kill.stage) == (case, victim, stage)]
        alone = [r for r in group if r.ended == "went on"]
        again = [r for r in group if r.ended != "went on" and not r.lost]
        kept = sum(r.resumed for r in again) / max(1, len(again))
        print(
            f"| {case} | {victim} | {stage} | {len(group)} | {len(alone)} | {len(again)} | "
            f"{kept:.0f} | {sum(r.lost for r in group)} |"
        )


def fill(args: argparse.Namespace) -> None:
    """Disks too small for the run, made larger for the same command; a row for each."""
    ground = functools.cache(lambda name: kills.Ground.of(name, args.workdir))
    names = tuple(kills.CASES)
    rng = random.Random(args.seed)
    print("| way | disk, kB | on the small disk | on the larger one |\n|---|---|---|---|")
    for number in range(args.count):
        found = ground(name := names[number % len(names)])
        size = rng.randrange(SMALL, 2 * found.wanted.stat().st_size // 1000)  # job and result together
        with small_disk(args.workdir / "disk", size) as disk:
            first = ending(run(*found.command(disk / "out.tif")), disk)
            subprocess.run(["mount", "-o", "remount,size=200m", "tmpfs", str(disk)], check=True)
            again = run(*found.command(disk / "out.tif"), "--overwrite")
            lost = again.code != 0 or cog_differences(disk / "out.tif", found.wanted)
            print(f"| {name} | {size} | {first} | {'LOST' if lost else 'finished, the same'} |", flush=True)


def ending(outcome: command_line.Outcome, disk: Path) -> str:
    """How a run on a small disk ended."""
    if outcome.code == 0:
        return "had room"
    line = outcome.said[0] if len(outcome.said) == 1 else ""
    if outcome.code != 1 or "No space left" not in line or (disk / "out.tif").exists():
        print(outcome, file=sys.stderr)
        return "fault"
    return (
        "refused in one line, in a block"
        if "block" in line.partition("No space")[0]
        else "refused in one line, in the COG or the notes"
    )


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system in memory of that many kB."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def force(args: argparse.Namespace) -> None:
    """Time to write and journal a block's file as it is, and with both forced to the disk; medians, taken in turns."""
    print("| block | MB | written, ms | forced to the disk, ms |")
    print("|---|---|---|---|")
    for side in (48, 512, 2048):
        data = os.urandom(side * side * 2)
        times: dict[bool, list[float]] = {False: [], True: []}
        for number in range(60):
            sync = number % 2 == 1
            began = time.perf_counter()
            with whole_file(args.workdir / f"{number}.tif", sync=sync) as file:
                file.write(data)
            with (args.workdir / "done.jsonl").open("a") as journal:
                journal.write("x" * 500 + "\n")
                journal.flush()
                if sync:
                    os.fsync(journal.fileno())
            times[sync].append(1000 * (time.perf_counter() - began))
        plain, forced = (statistics.median(times[sync]) for sync in (False, True))
        print(f"| {side} x {side} | {len(data) / 1e6:.2f} | {plain:.2f} | {forced:.2f} |")


if __name__ == "__main__":
    main()
