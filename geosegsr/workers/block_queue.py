"""Which worker does which blocks: each a stretch of neighbours, so that it computes the tiles they share once."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable, Sequence


class Stretches:
    """Blocks still to be sent. Every worker has a stretch of its own; one that is through takes half of the longest."""

    def __init__(self, indices: Sequence[int]) -> None:
        self._again: deque[int] = deque()
        self._free = [deque(indices)] if indices else []
        self._own: dict[Hashable, deque[int]] = {}

    def __len__(self) -> int:
        return len(self._again) + sum(map(len, self._free)) + sum(map(len, self._own.values()))

    def put_back(self, index: int) -> None:
        """Have a block sent again, before all others."""
        self._again.appendleft(index)

    def keep(self, workers: Collection[Hashable]) -> None:
        """Free the stretches of those who are gone."""
        for worker in self._own.keys() - set(workers):
            self._free.append(self._own.pop(worker))

    def next_for(self, worker: Hashable) -> int:
        """A block for this worker; there must be one."""
        if self._again:
            return self._again.popleft()
        if not self._own.get(worker):
            self._own[worker] = self._new_stretch()
        return self._own[worker].popleft()

    def _new_stretch(self) -> deque[int]:
        self._free = [stretch for stretch in self._free if stretch]
        if self._free:
            return self._free.pop(0)
        longest = max(self._own.values(), key=len)
        half = deque(longest.pop() for _ in range((len(longest) + 1) // 2))
        half.reverse()
        return half
