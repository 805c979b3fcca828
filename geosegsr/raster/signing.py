"""Addresses whose signatures expire: a command of the user's prints new ones.

GEOSEGSR_SIGN holds the command, in the environment of each process that reads. It gets an address without its query as its
last argument, and prints the same address with a new signature. What it prints is a secret.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import threading
import time
from xml.sax.saxutils import escape, unescape

from geosegsr.errors import SceneError

VARIABLE = "GEOSEGSR_SIGN"
_PATIENCE_S = 60
_ADDRESS = r"https?://[^\s<>\"'?]+(?:\?[^\s<>\"']*)?"
_WHOLE = re.compile(rf"((?:/vsicurl/)?)({_ADDRESS})")
_BEGIN = re.compile(r"(?:/vsicurl/)?https?://")
_IN_VRT = re.compile(rf"(?<=>)((?:/vsicurl/)?)({_ADDRESS})(?=<)")
_links: dict[str, tuple[str, float]] = {}  # by address without its query: the link, and when it was made
_lock = threading.Lock()


def signed(path: str) -> str:
    """What GDAL opens in place of a path.

    Args:
        path: A path, an address, or a VRT document. Nothing but addresses of http and https is signed.

    Raises:
        SceneError: The command fails, or prints no address.
    """
    command = os.environ.get(VARIABLE)
    if not command:
        return path
    words, is_vrt = shlex.split(command), path.lstrip().startswith("<")

    def link(found: re.Match[str]) -> str:
        address = unescape(found[2]) if is_vrt else found[2]
        made = _link(address.partition("?")[0], words)
        return found[1] + (escape(made) if is_vrt else made)

    if is_vrt:
        return _IN_VRT.sub(link, path)
    whole = _WHOLE.fullmatch(path)
    return path if whole is None else link(whole)


def has_query(path: str) -> bool:
    """Whether GDAL opens an address with a query: its own, or that of a new signature."""
    return _BEGIN.match(path) is not None and ("?" in path or bool(os.environ.get(VARIABLE)))


def expire(path: str, began: float) -> bool:
    """Have the addresses of a path signed anew, because one was refused.

    Args:
        path: As in `signed`.
        began: When reading began, by `time.monotonic`; what was signed since is kept.

    Returns:
        Whether it is worth another try.
    """
    if not os.environ.get(VARIABLE):
        return False
    found = {unescape(address).partition("?")[0] for address in re.findall(_ADDRESS, path)}
    with _lock:
        for address in found & _links.keys():
            if _links[address][1] < began:
                del _links[address]
    return bool(found)


def _link(address: str, command: list[str]) -> str:
    with _lock:
        if address not in _links:
            _links[address] = _printed(address, command), time.monotonic()
        return _links[address][0]


def _printed(address: str, command: list[str]) -> str:
    try:
        done = subprocess.run(
            [*command, address], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE_S, check=True,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        reason = f"ended with exit code {error.returncode}"
    except subprocess.TimeoutExpired:
        reason = f"has printed nothing for {_PATIENCE_S} seconds"
    except (OSError, ValueError) as error:
        reason = f"cannot be run ({getattr(error, 'strerror', None) or 'it prints no text'})"
    else:
        link = done.stdout.strip()
        if re.fullmatch(_ADDRESS, link):
            return link
        reason = "printed no address"
    raise SceneError(
        f"Cannot read '{address}': the command of {VARIABLE} {reason}. Check it with: ${VARIABLE} '{address}'"
    ) from None
