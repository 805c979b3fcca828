"""Files that appear under their names whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def whole_file(path: Path, *, sync: bool = False) -> Iterator[IO[bytes]]:
    """A file to write to, moved to its name when the block ends well and deleted when it does not.

    Args:
        path: The name; a file that is there is replaced.
        sync: Whether its bytes must be on the disk before the move, so that it outlives a power cut.

    Raises:
        OSError: It could not be written; what was there is untouched.
    """
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
