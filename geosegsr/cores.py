"""How many of the machine's cores one block may use: whoever computes several at a time says it, models heed it."""

from __future__ import annotations

from contextvars import ContextVar

cores_of_a_block: ContextVar[int | None] = ContextVar("cores_of_a_block", default=None)
"""In a thread that computes blocks; None where one call has the machine for itself."""
