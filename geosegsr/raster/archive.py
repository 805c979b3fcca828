"""Files of a product that is a folder, a zip or a tar: listed and read without extracting anything."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from geosegsr.errors import SceneError
from geosegsr.files import is_file, is_folder

_MOST_TEXT_BYTES = 32_000_000
_MOST_FILES = 20_000
_ENDINGS = {
    ".zip": "/vsizip/", ".tar": "/vsitar/", ".tar.gz": "/vsitar/", ".tgz": "/vsitar/",
}  # fmt: skip


@dataclass(frozen=True)
class Archive:
    """A folder, a zip or a tar on this machine."""

    path: str
    """As the user named it."""
    names: tuple[str, ...]
    """Of all files inside, relative to it, with slashes between folders, sorted."""

    @classmethod
    def of(cls, path: str, *, deep: bool = True) -> Archive | None:
        """List what is inside; None if the path is neither a folder nor such a file.

        Args:
            path: A local path.
            deep: Whether the files in subfolders of a folder count, too.

        Raises:
            SceneError: It is such a file, and damaged, or it may not be read.
        """
        with _readable(path):
            if is_folder(path):
                found = sorted(_in_folder(Path(path), deep))
            elif not is_file(path) or not prefix_of(path):
                return None
            elif prefix_of(path) == "/vsizip/":
                with zipfile.ZipFile(path) as file:
                    found = sorted(info.filename for info in file.infolist() if not info.is_dir())
            else:
                with tarfile.open(path) as tar:
                    found = sorted(info.name for info in tar if info.isfile())
        return cls(path, tuple(found))

    def text(self, name: str) -> bytes:
        """The content of a file inside, such as the product's XML.

        Raises:
            SceneError: It cannot be read, or is no text of a sensible size.
        """
        with _readable(self.path):
            if is_folder(self.path):
                with (Path(self.path) / name).open("rb") as file:
                    content = file.read(_MOST_TEXT_BYTES + 1)
            elif prefix_of(self.path) == "/vsizip/":
                with zipfile.ZipFile(self.path) as packed, packed.open(name) as member:
                    content = member.read(_MOST_TEXT_BYTES + 1)
            else:
                with tarfile.open(self.path) as tar:
                    inside = tar.extractfile(name)
                    content = b"" if inside is None else inside.read(_MOST_TEXT_BYTES + 1)
        if len(content) > _MOST_TEXT_BYTES:
            raise SceneError(
                f"Cannot read '{name}' of '{self.path}': it has more than {_MOST_TEXT_BYTES / 1e6:.0f} MB, which is no "
                "description of a product. Pass one of the rasters inside."
            )
        return content

    def gdal(self, name: str) -> str:
        """A file inside, as GDAL opens it from any working directory."""
        top = Path(self.path).absolute().as_posix()
        return f"{top}/{name}" if is_folder(self.path) else f"{prefix_of(self.path)}{{{top}}}/{name}"


def prefix_of(path: str) -> str:
    """GDAL's prefix for the files in an archive of that name; empty if the name is that of no archive."""
    return next((prefix for ending, prefix in _ENDINGS.items() if path.lower().endswith(ending)), "")


def _in_folder(top: Path, deep: bool) -> Iterator[str]:
    """Visible files; links to folders are not followed."""
    for count, path in enumerate(top.rglob("*") if deep else top.iterdir()):
        if count >= _MOST_FILES:
            return  # no product has so many
        if not path.name.startswith(".") and is_file(path):
            yield path.relative_to(top).as_posix()


@contextmanager
def _readable(path: str) -> Iterator[None]:
    try:
        yield
    except (
        OSError,
        zipfile.BadZipFile,
        tarfile.TarError,
        EOFError,
        KeyError,
        RuntimeError,
        ValueError,
    ) as error:
        reason = getattr(error, "strerror", None) or error
        raise SceneError(
            f"Cannot read '{path}': it is damaged or incomplete ({reason}). Download or copy it again."
        ) from error
