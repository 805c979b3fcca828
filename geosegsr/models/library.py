"""The models of a user: checkpoints that were added under a name, from a file, an address or Hugging Face."""

from __future__ import annotations

import os
import re
import tempfile
import urllib.request
from pathlib import Path
from typing import IO

import platformdirs

from geosegsr.errors import CheckpointError, ConfigError, redacted, require
from geosegsr.files import sha256_of, whole_file
from geosegsr.models.checkpoint import load_checkpoint
from geosegsr.models.contract import BUNDLED
from geosegsr.models.interpolation import KERNELS

FOLDER_VARIABLE = "GEOSEGSR_MODELS"
HUB = "hf:"
_SUFFIX = ".safetensors"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_HUB_NAME = re.compile(
    r"hf:(?P<repository>[\w.-]+/[\w.-]+)(?:/(?P<file>[\w./-]+\.safetensors))?(?:@(?P<revision>[\w./-]+))?"
)
_CHUNK = 1 << 20
_TIMEOUT_S = 60


def library_folder() -> Path:
    """The folder of the user's models: GEOSEGSR_MODELS, or that of the system for data of users."""
    return Path(os.environ.get(FOLDER_VARIABLE) or platformdirs.user_data_path("geosegsr") / "models")


def library_models() -> tuple[Path, ...]:
    """All checkpoints of the user's folder, by name."""
    return tuple(sorted(library_folder().glob(f"*{_SUFFIX}")))


def find_in_library(name: str | Path) -> Path | None:
    """The checkpoint of a name; None if there is none, or if this is no name."""
    if not _NAME.fullmatch(str(name)):
        return None
    path = library_folder() / f"{name}{_SUFFIX}"
    return path if path.is_file() else None


def add_model(source: str, *, name: str | None = None, sha256: str | None = None) -> Path:
    """Copy a checkpoint into the user's folder, once its checksums are right.

    Args:
        source: A file, an address (https://...), or hf:OWNER/NAME, hf:OWNER/NAME/FILE.safetensors, either with @REVISION.
        name: What `--model` shall call it; by default the name of the file, or of the repository on Hugging Face.
        sha256: Checksum that the file must have, 64 hexadecimal digits. Hugging Face states one itself.

    Returns:
        The file.

    Raises:
        CheckpointError: It cannot be fetched, is no checkpoint, is damaged, or has another checksum.
        ConfigError: The name is taken or impossible, or a package that is needed is not installed.
    """
    target = library_folder() / f"{_checked(name or _name_of(source))}{_SUFFIX}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".add-") as place:
            fetched = Path(place) / target.name
            stated = _fetch(source, fetched)
            _check(fetched, source, sha256 or stated)
            if target.exists():
                if sha256_of(target) == sha256_of(fetched):
                    return target
                raise ConfigError(
                    f"Cannot add '{redacted(source)}' as '{target.stem}': another model has that name ('{target}'). "
                    "Pass --name with another one, or remove that file."
                )
            with fetched.open("rb") as file, whole_file(target, sync=True, replace=False) as out:
                _copy(file, out)
    except OSError as error:
        raise CheckpointError(f"Cannot write '{target}': {error.strerror or error}.") from error
    return target


def _name_of(source: str) -> str:
    if source.startswith(HUB):
        found = _hub(source)
        return Path(found["file"]).stem if found["file"] else str(found["repository"]).partition("/")[2]
    return Path(source.partition("?")[0]).stem


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name) or name.endswith(_SUFFIX):
        raise ConfigError(
            f"Cannot call a model '{name}': needed are letters, digits, '.', '_' and '-', without {_SUFFIX}. Pass --name."
        )
    if name == BUNDLED or name in KERNELS:
        raise ConfigError(f"Cannot call a model '{name}': a built-in model has that name. Pass --name.")
    return name


def _fetch(source: str, target: Path) -> str | None:
    """Write the file to a new place; the checksum that its origin states."""
    if source.startswith(HUB):
        return _fetch_from_hub(source, target)
    if source.startswith(("https://", "http://")):
        _download(source, target)
        return None
    try:
        with Path(source).open("rb") as file, target.open("xb") as out:
            _copy(file, out)
    except OSError as error:
        raise CheckpointError(
            f"Cannot add '{source}': {error.strerror or error}. "
            f"Pass a {_SUFFIX} file, an address, or hf:OWNER/NAME."
        ) from error
    return None


def _download(address: str, target: Path) -> None:
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as response, target.open("xb") as out:
            _copy(response, out)
    except (OSError, ValueError) as error:
        raise _unreachable(redacted(address), error) from error


def _hub(source: str) -> dict[str, str | None]:
    found = _HUB_NAME.fullmatch(source)
    if found is None:
        raise ConfigError(
            f"Cannot read '{source}': needed is hf:OWNER/NAME or hf:OWNER/NAME/FILE{_SUFFIX}, either with @REVISION."
        )
    return found.groupdict()


def _fetch_from_hub(source: str, target: Path) -> str | None:
    """Fetch a file of a repository on Hugging Face; the checksum that it states, if it does."""
    require("hub", f"fetch '{source}'", "huggingface_hub")
    import huggingface_hub as hub

    wanted = _hub(source)
    repository, revision = str(wanted["repository"]), wanted["revision"]
    address = f"https://huggingface.co/{repository}"
    try:
        files = [] if wanted["file"] else hub.list_repo_files(repository, revision=revision)
    except (OSError, ValueError) as error:  # its own errors are children of these
        raise _unreachable(address, error) from error
    file = wanted["file"] or _only_file(files, repository)
    try:
        address = hub.hf_hub_url(repository, file, revision=revision)
        path = hub.hf_hub_download(repository, file, revision=revision)
        stated = hub.get_hf_file_metadata(address).etag
    except (OSError, ValueError) as error:
        raise _unreachable(address, error) from error
    with Path(path).open("rb") as given, target.open("xb") as out:
        _copy(given, out)
    return stated if stated and re.fullmatch(r"[0-9a-f]{64}", stated) else None


def _only_file(files: list[str], repository: str) -> str:
    fitting = [file for file in files if file.endswith(_SUFFIX)]
    if len(fitting) != 1:
        raise ConfigError(
            f"Cannot choose a model of 'hf:{repository}': it has {len(fitting)} files that end in {_SUFFIX}"
            f"{': ' + ', '.join(fitting[:8]) if fitting else ''}. Pass hf:{repository}/FILE{_SUFFIX}."
        )
    return fitting[0]


def _check(file: Path, source: str, sha256: str | None) -> None:
    """Refuse a file with another checksum, or that is no whole checkpoint of this package."""
    found = sha256_of(file)
    if sha256 is not None and found != sha256.lower():
        raise CheckpointError(
            f"Cannot add '{redacted(source)}': its SHA-256 is {found}, and {sha256.lower()} was stated. "
            "It is damaged, or another file: fetch it again, or ask where it comes from."
        )
    try:
        load_checkpoint(file)
    except CheckpointError as error:
        raise CheckpointError(str(error).replace(str(file), redacted(source))) from error


def _unreachable(address: str, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"Cannot fetch '{address}' ({type(error).__name__}). On a machine with a network, fetch it, put the file where this "
        "machine can read it, and run geosegsr models add FILE."
    )


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    while chunk := source.read(_CHUNK):
        target.write(chunk)
