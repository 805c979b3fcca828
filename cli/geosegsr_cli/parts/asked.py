"""What was asked of geosegsr upscale, for one scene or for many."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geosegsr_cli.parts.beside import Beside

if TYPE_CHECKING:
    from geosegsr.models.contract import Upscaler
    from geosegsr.pipeline.task import Request
    from geosegsr.workers.scheduler import Scheduler


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What holds for every scene, in the library's words, and how to print it."""

    scale: int
    model: str | Upscaler
    pixels: dict[str, Any]
    """How pixels are computed: the fields of `PlanOptions` that have an option."""
    files: dict[str, Any]
    """Which files are written and replaced: `creation`, `stac`, `acquired`, `overwrite` and `resume` of `Request`."""
    workers: int | None
    scheduler: Scheduler | None
    scratch: Path | None
    beside: Beside
    as_json: bool
    quiet: bool

    @property
    def separate(self) -> bool:
        """Whether each band becomes a file of its own."""
        return bool(self.pixels["separate"])

    @property
    def keywords(self) -> dict[str, Any]:
        """Arguments of `upscale` and of `upscale_batch`."""
        where = {"workers": self.workers, "scheduler": self.scheduler, "scratch": self.scratch}
        return where | self.files | self.pixels

    def request(self) -> Request:
        """The same for a dry run."""
        from geosegsr.pipeline.staging import Staging
        from geosegsr.pipeline.task import Request

        return Request(self.scale, self.model, self.pixels, **self.files, staging=Staging.at(self.scratch))  # type: ignore[arg-type]
