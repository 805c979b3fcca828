"""Tries the command on thousands of damaged and hostile files, and makes the table of docs/reliability.md.

    python benchmarks/faults/fuzz.py --workdir FOLDER                              60 scenes and 20 of each other kind
    python benchmarks/faults/fuzz.py --workdir FOLDER --scenes 2000 --others 300 --jobs 2
    python benchmarks/faults/fuzz.py --workdir FOLDER --again scene:2026:113       one mutant, with what it says
    GEOSEGSR_EXAMPLES=1000 python -m pytest tests/faults/test_metadata_properties.py

Every mutant depends on its kind, seed and number, and on whether the real scenes lie beside the repository. Each is tried in a process of its own with limits on
processor time, memory and file size; see tests/kits/fuzzing.py.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "kits"))

import fuzzing  # noqa: E402

SEED = 2026
PIECE = 100
"""Mutants that one process tries; a fresh one takes the next."""


def main() -> None:
    """Try, tell what did not end well, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--others", type=int, default=20)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--again", metavar="KIND:SEED:NUMBER")
    parser.add_argument("--table", nargs="*", type=Path, help="Only print the table of earlier outputs.")
    args = parser.parse_args()
    args.workdir.mkdir(parents=True, exist_ok=True)
    if args.table:
        lines = (line for path in args.table for line in path.read_text().splitlines())
        print_table([fuzzing.Trial(**json.loads(line)) for line in lines])
    elif args.again:
        kind, seed, number = args.again.split(":")
        for trial in tried((kind, int(seed), int(number), 1), args.workdir):
            print(
                trial.name,
                trial.ended,
                f"{trial.seconds} s",
                f"{trial.memory / 1e6:.0f} MB",
                trial.said,
                sep="\n",
            )
    else:
        campaign(args)


def campaign(args: argparse.Namespace) -> None:
    """All kinds, in pieces, some at a time; each piece's lines are kept in the folder."""
    counts = {kind: args.scenes if kind == "scene" else args.others for kind in fuzzing.KINDS}
    pieces = [("traps", 0, 0, 0)] + [
        (kind, args.seed, first, min(PIECE, count - first))
        for kind, count in counts.items()
        for first in range(0, count, PIECE)
    ]
    found: list[fuzzing.Trial] = []
    with ThreadPoolExecutor(args.jobs) as pool:
        for trials in pool.map(lambda piece: list(tried(piece, args.workdir)), pieces):
            found += trials
            for trial in trials:
                if not trial.fine:
                    print(
                        f"{trial.kind}:{trial.seed}:{trial.number} {trial.ended}: {trial.name}",
                        file=sys.stderr,
                    )
    print_table(found)


def tried(piece: tuple[str, int, int, int], workdir: Path) -> Iterator[fuzzing.Trial]:
    """Try one piece in a process of its own."""
    name = "-".join(map(str, piece))
    folder = workdir / name
    folder.mkdir(exist_ok=True)
    numbers = [] if piece[0] == "traps" else list(map(str, piece[1:]))
    command = [sys.executable, "-W", "ignore", fuzzing.__file__, piece[0], *numbers, str(folder)]
    with (workdir / f"{name}.jsonl").open("w") as lines:
        subprocess.run(command, stdout=lines, check=True)
    for line in (workdir / f"{name}.jsonl").read_text().splitlines():
        yield fuzzing.Trial(**json.loads(line))


def print_table(found: list[fuzzing.Trial]) -> None:
    """Kinds by how they ended."""
    print(f"{date.today()}, {platform.machine()}, Python {platform.python_version()}\n")
    print(
        "| kind | tried | verified result | refused in one line | still at work | faults | longest, s | most memory, MB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for kind in dict.fromkeys(trial.kind for trial in found):
        trials = [trial for trial in found if trial.kind == kind]
        ways = fuzzing.tally(trials)
        faults = {way: count for way, count in ways.items() if way not in fuzzing.FINE}
        longest = max((trial.seconds for trial in trials if trial.ended != "working"), default=0)
        print(
            f"| {kind} | {len(trials)} | {ways['result']} | {ways['refused']} | {ways['working']} | "
            f"{', '.join(f'{count} {way}' for way, count in faults.items()) or 0} | {longest:.1f} | "
            f"{max(trial.memory for trial in trials) / 1e6:.0f} |"
        )


if __name__ == "__main__":
    main()
