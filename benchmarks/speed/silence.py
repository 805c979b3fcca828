"""The longest silence of a command, on a terminal and in a log.

    python benchmarks/speed/silence.py -- geosegsr upscale scene.tif -o out.tif --overwrite --no-resume

The command runs twice: with a pseudo-terminal of 80 columns, and with pipes. Every piece of output is stamped; the
silence before the first counts, too. What passes between the last and the end of the process is stated apart.
"""

from __future__ import annotations

import argparse
import fcntl
import itertools
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time


def stamped(read: int, process: subprocess.Popen) -> tuple[list[float], bytes]:
    """Moments at which output came, from the start of the process to its end, and the output."""
    moments, text = [time.monotonic()], b""
    while True:
        ready, _, _ = select.select([read], [], [], 0.05)
        if ready:
            try:
                data = os.read(read, 65536)
            except OSError:  # the terminal's other side is closed
                data = b""
            if not data:
                break
            moments.append(time.monotonic())
            text += data
        elif process.poll() is not None:
            break
    process.wait()
    return [*moments, time.monotonic()], text


def on_terminal(command: list[str]) -> tuple[list[float], bytes, int]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    env = {**os.environ, "TERM": "xterm-256color"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    moments, text = stamped(ours, process)
    os.close(ours)
    return moments, text, process.returncode


def in_log(command: list[str]) -> tuple[list[float], bytes, int]:
    read, write = os.pipe()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=write, stderr=write)
    os.close(write)
    moments, text = stamped(read, process)
    os.close(read)
    return moments, text, process.returncode


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=["terminal", "log"])
    parser.add_argument("--show", action="store_true", help="print the output, too")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    failed = 0
    for name, run in {"terminal": on_terminal, "log": in_log}.items():
        if options.only in (None, name):
            moments, text, code = run(options.command)
            gaps = [later - earlier for earlier, later in itertools.pairwise(moments[:-1])]
            longest = max(range(len(gaps)), key=gaps.__getitem__)
            print(
                f"{name:<9}{moments[-1] - moments[0]:7.1f} s, {len(gaps)} pieces of output, longest silence "
                f"{gaps[longest]:.2f} s, from second {moments[longest] - moments[0]:.1f}; "
                f"{moments[-1] - moments[-2]:.2f} s to leave; exit code {code}"
            )
            failed |= code
            if options.show:
                print(text.decode(errors="replace").replace("\r", "\n"))
    sys.exit(failed)


if __name__ == "__main__":
    main()
