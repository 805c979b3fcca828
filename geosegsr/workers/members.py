"""Which workers of a cluster may compute the blocks of a run."""

from __future__ import annotations

import queue
import time
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from geosegsr.notices import warn
from geosegsr.version import __version__
from geosegsr.workers.worker import Accepted, Rejected, prepare

ANSWER_S = 30
"""Seconds to wait for an answer of the scheduler or of a worker."""
LATE_S = 30
"""Seconds that workers have for their checks. Those that are busy with other work answer later; until then the others
decide which kind of device computes the blocks."""


class Members:
    """The workers of a cluster, as one run sees them.

    Every worker, including one that joins late, is checked before it receives blocks.
    """

    def __init__(
        self, client: Any, run_id: str, terms: tuple[Any, ...], told: set[tuple[str, str]] | None = None
    ) -> None:
        """Begin with no workers.

        Args:
            client: A synchronous client of `distributed`.
            run_id: Identifier of the run.
            terms: The remaining arguments of `worker.prepare`.
            told: Addresses of rejected workers and why, of which the user knows; more are added.
        """
        self._told: set[tuple[str, str]] = set() if told is None else told
        self._client = client
        self._run_id = run_id
        self._terms = terms
        self._found: dict[str, Accepted | Rejected | None] = {}  # None: its check has not finished
        self._checks: dict[Any, tuple[str, Any]] = {}  # key -> address, future
        self._device: str | None = None  # not known before the first workers have answered
        self._first_answer = 0.0
        self._reported: set[str] = set()
        self.wants_gpu = False
        """Whether each block claims a GPU that the workers declare."""
        self.had_some = False
        """Whether any worker was ever accepted."""
        self.slots: dict[str, int] = {}
        """Addresses of the accepted workers, and how many blocks each computes at a time."""
        self.events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        """Futures that have finished: checks, and whatever else is put there."""

    @property
    def slot_count(self) -> int:
        """Blocks that the accepted workers compute at a time."""
        return sum(self.slots.values())

    @property
    def empty(self) -> bool:
        """Whether the cluster has no workers."""
        return not self._found

    @property
    def all_accepted(self) -> bool:
        """Whether every worker of the cluster is accepted."""
        return all(isinstance(answer, Accepted) for answer in self._found.values())

    @property
    def all_rejected(self) -> bool:
        """Whether there are workers, and every one was rejected."""
        return bool(self._found) and all(isinstance(answer, Rejected) for answer in self._found.values())

    def why_idle(self) -> str:
        """What the cluster has while nobody can compute a block, for a warning."""
        if self.empty:
            return "no workers now"
        pending = sum(answer is None for answer in self._found.values())
        if not pending:
            return "only workers that cannot help now"
        number = f"{pending} worker{'' if pending == 1 else 's'} that {'has' if pending == 1 else 'have'}"
        return f"{number} not answered yet, still loading the model or busy with other work"

    def update(self) -> None:
        """Ask the scheduler which workers there are; forget those that left, and check new ones."""
        present = self._client.nthreads(callback_timeout=ANSWER_S)
        for address in self._found.keys() - present.keys():
            self.forget(address)
        for address in present.keys() - self._found.keys():
            self._found[address] = None
            key = (f"geosegsr-check-{self._run_id}", address, uuid.uuid4().hex[:8])
            future = self._client.submit(
                prepare, self._run_id, *self._terms, key=key, pure=False, workers=[address]
            )
            self._checks[key] = address, future
            future.add_done_callback(self.events.put)
        self._settle()

    def forget(self, address: str) -> None:
        """Treat a worker as new, should it still be there."""
        self._found.pop(address, None)
        for key in [key for key, (checked, _) in self._checks.items() if checked == address]:
            _, future = self._checks.pop(key)
            future.release()

    def handle(self, future: Any) -> bool:
        """Handle a finished check; return False if the future is not a check."""
        if future.key not in self._checks:
            return False
        address, _ = self._checks.pop(future.key)
        if future.status == "finished":
            try:
                self._found[address] = future.result(timeout=ANSWER_S)
            except TimeoutError:  # it left with its answer
                self.forget(address)
                return True
        elif future.status == "error":
            fault = " ".join(str(future.exception()).split())
            self._found[address] = Rejected(
                f"it cannot run geosegsr ({fault}). Install geosegsr {__version__} on all workers."
            )
        else:
            self.forget(address)
            return True
        self._first_answer = self._first_answer or time.monotonic()
        self._settle()
        return True

    def lost_work(self, address: str) -> None:
        """Note that a worker had a block and no work; one that was accepted must have restarted."""
        if isinstance(self._found.get(address), Accepted):
            self.forget(address)

    def why_none(self) -> str:
        """Why every worker was rejected, for an error."""
        groups = self._rejected(self._found)
        reason, addresses = next(iter(groups.items()))
        others = len(self._found) - len(addresses)
        more = f" {others} more were rejected for other reasons." if others else ""
        return f"Cannot use worker {_names(addresses)}: {reason}{more}"

    def _settle(self) -> None:
        """Decide who may have blocks; report those who may not, as long as somebody may."""
        if self._device is None and not self._chosen():
            return
        for address, answer in self._found.items():
            if isinstance(answer, Accepted) and (misfit := self._misfit(answer)):
                self._found[address] = Rejected(misfit)
        accepted = {address: a for address, a in self._found.items() if isinstance(a, Accepted)}
        self.slots = {address: slots for address, a in accepted.items() if (slots := self._slots(a))}
        self.had_some = self.had_some or bool(accepted)
        if accepted:
            news = self._rejected(self._found.keys() - self._reported)
            self._reported.update(*news.values())
            for reason, addresses in news.items():
                untold = [address for address in addresses if (address, reason) not in self._told]
                self._told.update((address, reason) for address in untold)
                if untold:
                    warn(f"no work for worker {_names(untold)}: {reason.rstrip('.')}")

    def _chosen(self) -> bool:
        """Choose the kind of device once the workers that were there at the start have answered."""
        accepted = [answer for answer in self._found.values() if isinstance(answer, Accepted)]
        late = time.monotonic() - self._first_answer > LATE_S
        if not accepted or (self._checks and not late):
            return False
        self._device = max(answer.device for answer in accepted)  # "cuda" sorts after "cpu" and ""
        self.wants_gpu = self._device == "cuda" and any(answer.capacity.gpus >= 1 for answer in accepted)
        return True

    def _misfit(self, answer: Accepted) -> str:
        """Why a worker that passed its check cannot work beside the others; empty if it can."""
        if answer.device != self._device:
            return (
                f"it would compute on '{answer.device}', other workers compute on '{self._device}', and all blocks "
                f"of a result must come from one kind of device. Pass --device {answer.device} to use this kind."
            )
        if self.wants_gpu and answer.capacity.gpus < 1:
            return "it has a GPU but does not declare it, as others do. Start it with --resources GPU=1."
        return ""

    def _slots(self, answer: Accepted) -> int:
        threads = answer.capacity.threads
        return min(threads, int(answer.capacity.gpus)) if self.wants_gpu else threads

    def _rejected(self, addresses: Iterable[str]) -> dict[str, list[str]]:
        """Those of the workers that were rejected, by reason."""
        groups: dict[str, list[str]] = {}
        for address in sorted(addresses):
            answer = self._found.get(address)
            if isinstance(answer, Rejected):
                groups.setdefault(answer.reason, []).append(address)
        return groups


def _names(addresses: Sequence[str]) -> str:
    more = f" and {len(addresses) - 3} more" if len(addresses) > 3 else ""
    return ", ".join(addresses[:3]) + more
