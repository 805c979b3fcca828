"""Where a Dask scheduler is, and the certificates for it.

Work travels to a scheduler as pickles, and so do results: whoever controls it, or the network between, can run any
program here and on the workers.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLError
from typing import Any
from urllib.parse import urlsplit

import psutil

from geosegsr.errors import ConfigError
from geosegsr.files import is_file
from geosegsr.notices import warn

_ENCRYPTED = ("tls", "wss")
_FILES = "--scheduler-ca FILE --scheduler-cert FILE --scheduler-key FILE"


@dataclass(frozen=True)
class Scheduler:
    """A Dask scheduler; what is None comes from Dask's own configuration (`distributed.comm.tls`).

    Raises:
        ConfigError: A file is missing, or the files and the address do not fit together.
    """

    address: str
    """Such as tcp://host:8786, or tls://host:8786 where it is secured by TLS."""
    ca: str | Path | None = None
    """PEM file with the certificate of the authority that signed the scheduler's certificate."""
    cert: str | Path | None = None
    """PEM file with the certificate of this client."""
    key: str | Path | None = None
    """PEM file with the private key of `cert`; None if `cert` holds it, too."""

    def __post_init__(self) -> None:
        for option, file in self._given.items():
            if not is_file(file):
                raise ConfigError(f"Cannot use {option} '{file}': no such file. Check the path.")
        scheme = self._scheme
        if self._given and not scheme:
            object.__setattr__(self, "address", f"tls://{self.address}")
        elif self._given and scheme not in _ENCRYPTED:
            raise ConfigError(
                f"Cannot secure '{self.address}' by certificates: {scheme}:// is not encrypted. Start the scheduler "
                f"for TLS, and pass --scheduler tls{self.address.removeprefix(scheme)}."
            )

    @property
    def is_encrypted(self) -> bool:
        """Whether the connection is."""
        import dask

        return (self._scheme or dask.config.get("distributed.comm.default-scheme", "")) in _ENCRYPTED

    @property
    def is_here(self) -> bool:
        """Whether the scheduler runs on this machine, as far as its address tells."""
        if self._scheme == "inproc":
            return True
        try:
            host = urlsplit(self.address if self._scheme else f"//{self.address}").hostname
            found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
        except (OSError, ValueError):
            return True  # no such host: nothing will be sent
        own = {entry.address for entries in psutil.net_if_addrs().values() for entry in entries}
        return all(address in own or address.startswith("127.") for address in found)

    def warn_if_open(self) -> None:
        """Warn where pickles would travel to another machine in the open."""
        if not self.is_encrypted and not self.is_here:
            warn(
                f"the scheduler at {self.address} is on another machine and does without TLS: whoever can reach it, or "
                "the network between, can run any program as you, here and on the workers. Secure it by TLS, with "
                f"{_FILES}, or use it in a network of your own only"
            )

    def security(self) -> Any:
        """The `distributed.Security` for a client; this reads the files.

        Raises:
            ConfigError: They cannot be used, or an encrypted address has none.
        """
        from distributed import Security

        fields = {"tls_ca_file": self.ca, "tls_client_cert": self.cert, "tls_client_key": self.key}
        given = {field: str(file) for field, file in fields.items() if file is not None}
        found: Any = Security(require_encryption=True if given else None, **given)
        if self.is_encrypted and not (found.tls_ca_file and found.tls_client_cert):
            raise ConfigError(
                f"Cannot connect to '{self.address}' without certificates. Pass {_FILES}, or set "
                "DASK_DISTRIBUTED__COMM__TLS__CA_FILE, DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT and "
                "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY."
            )
        self._check_key(found.tls_client_key or found.tls_client_cert)
        try:
            found.get_connection_args("client")
        except (SSLError, OSError, ValueError) as error:
            raise ConfigError(
                f"Cannot use the certificates for '{self.address}': {_reason(error)}. CA, certificate and key must be "
                f"PEM files, and the key that of the certificate. Pass {_FILES}."
            ) from error
        return found

    def _check_key(self, key: str | None) -> None:
        """Refuse a key that OpenSSL would ask a password for on the terminal."""
        if key is None or not is_file(key):
            return
        if b"ENCRYPTED" in Path(key).read_bytes():
            raise ConfigError(
                f"Cannot use the key '{key}': it is protected by a password. "
                f"Pass one without: openssl pkey -in '{key}' -out plain.key."
            )

    @property
    def _scheme(self) -> str:
        """What precedes :// in the address; empty if nothing does."""
        scheme, separator, _ = self.address.partition("://")
        return scheme if separator else ""

    @property
    def _given(self) -> dict[str, str | Path]:
        """The files that were passed, by option."""
        files = {"--scheduler-ca": self.ca, "--scheduler-cert": self.cert, "--scheduler-key": self.key}
        return {option: file for option, file in files.items() if file is not None}


def _reason(error: Exception) -> str:
    """What OpenSSL found, without its own codes."""
    text = str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)
    return text.replace("_", " ").lower() if isinstance(error, SSLError) else text
