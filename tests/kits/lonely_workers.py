"""A scheduler and workers as processes that share no folder with the command or with each other."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from command_line import environment


@contextmanager
def lonely_workers(folder: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and two workers, each restarted by its nanny, with temporary folders of their own.

    Args:
        folder: Where their folders are made.

    Yields:
        The scheduler's address; and the processes, the scheduler's first.
    """
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard"]
    processes = [
        subprocess.Popen(
            [*dask, "--host", "127.0.0.1", "--port", address.rpartition(":")[2]], env=environment(), **quiet
        )
    ]
    for name in ("one", "two"):
        own = folder / name
        own.mkdir(parents=True, exist_ok=True)
        command = ["-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
        processes.append(
            subprocess.Popen(
                [sys.executable, *command, "--local-directory", str(own)],
                env={**environment(), "TMPDIR": str(own)},
                cwd=own,
                **quiet,
            )
        )
    try:
        yield address, processes
    finally:
        for process in processes:
            for child in psutil.Process(process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            process.kill()
            process.wait()
