"""What upscale writes beside a result for people: a preview and a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])
_STEM = "{stem}"


def beside_options(function: Function) -> Function:
    """The --preview and --report options."""
    for option in (
        click.option(
            "--report", "report_name", metavar="FILE",
            help="HTML report to write: verdict, pictures, measures. For several scenes a name with {stem}, the result's own.",
        ),
        click.option(
            "--preview", "preview_name", metavar="FILE",
            help="PNG to write for a quick look, of at most 1024 pixels. For several scenes a name with {stem}.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


@dataclass(frozen=True)
class Beside:
    """Names of what is written beside each result; None for nothing."""

    preview: str | None
    report: str | None
    overwrite: bool

    def check(self, scenes: Sequence[tuple[str, Path]], *, several: bool, separate: bool) -> None:
        """Refuse what could not be written, before the work.

        Raises:
            click.UsageError: A name for several results lacks {stem}, or a result has several files.
            GeoSegSRError: A name is that of another file.
        """
        if self.report is not None:
            import geosegsr.appraisal  # noqa: F401 - refuses where its packages are missing

        for option, name in (("--preview", self.preview), ("--report", self.report)):
            if name is None:
                continue
            if separate:
                raise click.UsageError(f"{option} needs one file a scene. Leave out --separate.")
            if several and (_STEM not in name or Path(name).name != name):
                raise click.UsageError(
                    f"{option} '{name}' is not a name for several results. Pass one with {_STEM}, such as "
                    f"{option} '{_STEM}{'.png' if option == '--preview' else '.html'}'."
                )
        if not several:
            for source, result in scenes:
                self._check_one(source, result)

    def _check_one(self, source: str, result: Path) -> None:
        if (name := self._path(self.preview, result)) is not None:
            from geosegsr.raster.preview import check_preview_path
            from geosegsr.stores.small_file import local_file

            with local_file(name, sent=False) as path:
                check_preview_path(path, overwrite=self.overwrite)
        if (name := self._path(self.report, result)) is not None:
            from geosegsr.appraisal.target import check_report_path
            from geosegsr.stores.small_file import local_file

            with local_file(name, sent=False) as path:
                check_report_path(path, [source, result], overwrite=self.overwrite)

    def write(
        self,
        source: str,
        result: Path,
        uncertainty: str | None = None,
        *,
        progress: Callable[[float], None] | None = None,
    ) -> dict[str, Any]:
        """Write all that is wanted; returns it for --json.

        Args:
            source: The scene.
            result: What was made of it.
            uncertainty: Its uncertainty.
            progress: As for `geosegsr.report`.

        Raises:
            GeoSegSRError: It could not be written.
        """
        written: dict[str, Any] = {}
        if (name := self._path(self.preview, result)) is not None:
            from geosegsr.raster.preview import write_preview
            from geosegsr.raster.scene import Scene
            from geosegsr.stores.small_file import local_file

            with local_file(name) as path:
                write_preview(Scene.open(shown(result)), path, overwrite=self.overwrite)
            written["preview"] = shown(name)
        if (name := self._path(self.report, result)) is not None:
            from geosegsr.files import temporary_folder

            with temporary_folder(result.parent):  # torch wants one as soon as it is loaded
                from geosegsr.appraisal.report import report

                made = report(
                    source, shown(result), name,
                    uncertainty=uncertainty, overwrite=self.overwrite, progress=progress,
                )  # fmt: skip
            written["appraisal"] = made.to_dict()
        return written

    @property
    def wanted(self) -> bool:
        """Whether anything is."""
        return self.preview is not None or self.report is not None

    def _path(self, name: str | None, result: Path) -> Path | None:
        if name is None:
            return None
        return result.with_name(name.replace(_STEM, result.stem)) if _STEM in name else Path(name)


def shown(path: Path) -> str:
    """A result's name; of one in an object store its address, of which pathlib has dropped a slash."""
    from geosegsr.stores.address import address_of

    return str(address_of(path) or path)


def describe(written: dict[str, Any]) -> list[str]:
    """Lines about what was written."""
    lines = [f"preview: {written['preview']}"] if "preview" in written else []
    if "appraisal" in written:
        lines.append(f"report: {written['appraisal']['path']}. {written['appraisal']['headline']}")
    return lines
