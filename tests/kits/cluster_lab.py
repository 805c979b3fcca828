"""A Dask cluster in this process, whose workers come and go by name."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distributed import LocalCluster, Worker, get_worker

from geosegsr.workers import engine
from geosegsr.workers.worker import Capacity


class Lab:
    """A cluster in this process, whose workers come and go by name."""

    def __init__(self, inner: LocalCluster) -> None:
        self._inner = inner
        self._workers: dict[str, Worker] = {}
        self.scheduler = inner.scheduler

    @property
    def address(self) -> str:
        return str(self._inner.scheduler_address)

    def add(self, name: str, **options: Any) -> None:
        async def begin() -> Worker:
            return await Worker(
                self.address, name=name, dashboard=False, **{"nthreads": 1, "memory_limit": 0, **options}
            )

        self._workers[name] = self._inner.sync(begin)

    def remove(self, name: str) -> None:
        """The worker ends what it is at, and leaves."""
        self._inner.sync(self._workers.pop(name).close)

    def retire_all(self) -> None:
        for name in list(self._workers):
            self.remove(name)


def where(index: int) -> tuple[int, str]:
    time.sleep(0.01)
    return index, str(get_worker().name)


def work_through(
    lab: Lab,
    folder: Path,
    *,
    blocks: int = 40,
    work: Callable[[int], Any] = where,
    check: Callable[[Capacity], str] | None = None,
    then: Callable[[int], None] = lambda done: None,
) -> list[Any]:
    """Run on the lab; `then` hears after each block how many are done."""
    results: list[Any] = []

    def on_done(result: Any) -> None:
        results.append(result)
        then(len(results))

    with engine.open_engine(scheduler=lab.address) as opened:
        opened.run(
            work, range(blocks), on_done, together=blocks, shared_folder=folder,
            check=None if check is None else lambda: check,
        )  # fmt: skip
    return results


def assert_each_once(results: list[tuple[int, str]], blocks: int = 40) -> None:
    assert sorted(index for index, _ in results) == list(range(blocks))
