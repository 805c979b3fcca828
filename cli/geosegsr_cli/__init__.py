"""The command line of geosegsr, and the progress bar that it shows, for programs and notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geosegsr_cli.parts.progress import ProgressBar

__all__ = ["ProgressBar"]


def __getattr__(name: str) -> Any:
    if name != "ProgressBar":
        raise AttributeError(f"module 'geosegsr_cli' has no attribute '{name}'")
    from geosegsr_cli.parts.progress import ProgressBar

    return ProgressBar
