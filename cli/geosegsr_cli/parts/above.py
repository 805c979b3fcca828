"""Standard error while rows move: what is printed appears above them."""

from __future__ import annotations

from rich.file_proxy import FileProxy


class Above(FileProxy):
    """Prints above the rows, broken between words.

    Without an encoding, click takes the stream for misconfigured and writes past it, into the row.
    """

    encoding = "utf-8"
    errors = "backslashreplace"
