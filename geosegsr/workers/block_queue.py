"""The order in which blocks are sent: each worker gets neighbouring blocks, so that it computes shared tiles once."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable, Sequence


class BlockQueue:
    """Blocks still to be sent, in segments of neighbours.

    Every worker has a segment of its own. One that has finished its segment takes half of the longest other.
    """

    def __init__(self, indices: Sequence[int]) -> None:
        self._again: deque[int] = deque()
        self._free = [deque(indices)] if indices else []
        self._own: dict[Hashable, deque[int]] = {}

    def __len__(self) -> int:
        return len(self._again) + sum(map(len, self._free)) + sum(map(len, self._own.values()))

    def put_back(self, index: int) -> None:
        """Have a block sent again, before all others."""
        self._again.appendleft(index)

    def retain(self, workers: Collection[Hashable]) -> None:
        """Free the segments of all other workers."""
        for worker in self._own.keys() - set(workers):
            self._free.append(self._own.pop(worker))

    def next_for(self, worker: Hashable) -> int:
        """Remove a block for this worker and return its index; the queue must not be empty."""
        if self._again:
            return self._again.popleft()
        if not self._own.get(worker):
            self._own[worker] = self._new_segment()
        return self._own[worker].popleft()

    def _new_segment(self) -> deque[int]:
        self._free = [segment for segment in self._free if segment]
        if self._free:
            return self._free.pop(0)
        longest = max(self._own.values(), key=len)
        half = deque(longest.pop() for _ in range((len(longest) + 1) // 2))
        half.reverse()
        return half
