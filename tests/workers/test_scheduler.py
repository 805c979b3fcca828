"""A scheduler is trusted like a shell: its connection is secured by TLS, and one that is not, elsewhere, is warned of."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dask
import psutil
import pytest
import scene_factory as factory
from command_line import Outcome, assert_refused, run_here
from comparison import file_differences
from distributed import LocalCluster, Security

import geosegsr
from geosegsr.errors import ConfigError, GeoSegSRWarning, JobError
from geosegsr.workers import engine
from geosegsr.workers.scheduler import Scheduler

OPTIONS = ("-s", 2, "-m", "bicubic", "--tile", 16, "--overlap", 4, "--block", 48)


@dataclass(frozen=True)
class Identity:
    """A key, and its certificate by an authority."""

    ca: Path
    cert: Path
    key: Path

    def options(self) -> tuple[object, ...]:
        return "--scheduler-ca", self.ca, "--scheduler-cert", self.cert, "--scheduler-key", self.key


def certified(folder: Path) -> Identity:
    """A new authority and a certificate by it."""
    folder.mkdir()

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(
        "req", "-x509", *curve, "-days", "2", "-subj", "/CN=test CA", "-keyout", "ca.key", "-out", "ca.pem"
    )
    openssl("req", *curve, "-subj", "/CN=test", "-keyout", "own.key", "-out", "own.csr")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
    openssl("x509", "-req", "-in", "own.csr", *signed, "-out", "own.pem")
    return Identity(folder / "ca.pem", folder / "own.pem", folder / "own.key")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    if shutil.which("openssl") is None:
        pytest.skip("needs the program openssl")
    return certified(tmp_path_factory.mktemp("tls") / "own")


@pytest.fixture(scope="module")
def foreign(own: Identity) -> Identity:
    return certified(own.ca.parent.with_name("foreign"))


@pytest.fixture(scope="module")
def secured(own: Identity) -> Iterator[str]:
    """The address of a cluster of one worker, over TLS."""
    pair = {"cert": str(own.cert), "key": str(own.key)}
    roles = {
        f"tls_{role}_{part}": file
        for role in ("client", "scheduler", "worker")
        for part, file in pair.items()
    }
    security = Security(tls_ca_file=str(own.ca), require_encryption=True, **roles)
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tls://", security=security,
        dashboard_address=None, silence_logs="CRITICAL",
    ) as cluster:  # fmt: skip
        yield str(cluster.scheduler_address)


@pytest.fixture
def command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    source = factory.write_plain(tmp_path / "in.tif", size=(40, 50), count=1)
    return lambda *options: run_here(capfd, "upscale", source, "-o", tmp_path / "out.tif", *OPTIONS, *options)


@pytest.fixture
def wanted(tmp_path: Path, command: Callable[..., Outcome]) -> Path:
    """The result of threads of this process."""
    assert command().code == 0
    return (tmp_path / "out.tif").rename(tmp_path / "wanted.tif")


# Over TLS.


@pytest.mark.parametrize("through", ["options", "variables", "Dask's configuration"])
def test_blocks_are_computed_over_tls(
    through: str, own: Identity, secured: str, wanted: Path, command: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    assert secured.startswith("tls://")
    given: tuple[object, ...] = ("--scheduler", secured)
    settings = {}
    if through == "options":
        given += own.options()
    elif through == "variables":
        for name in ("ca", "cert", "key"):
            monkeypatch.setenv(f"GEOSEGSR_UPSCALE_SCHEDULER_{name.upper()}", str(getattr(own, name)))
    else:
        tls = "distributed.comm.tls"
        settings = {f"{tls}.ca-file": own.ca, f"{tls}.client.cert": own.cert, f"{tls}.client.key": own.key}
    with dask.config.set({name: str(file) for name, file in settings.items()}):
        outcome = command(*given)
    assert outcome.code == 0, outcome.err
    assert outcome.warned == []
    assert file_differences(wanted.with_name("out.tif"), wanted) == []


def test_from_python(own: Identity, secured: str, tmp_path: Path) -> None:
    source = factory.write_plain(tmp_path / "in.tif", size=(20, 24), count=1)
    scheduler = Scheduler(secured.removeprefix("tls://"), own.ca, own.cert, own.key)
    assert scheduler.address == secured
    assert geosegsr.upscale(source, tmp_path / "out.tif", 2, "nearest", scheduler=scheduler).status == "done"


def test_the_key_may_be_in_the_certificates_file(own: Identity, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(own.key.read_bytes() + own.cert.read_bytes())
    Scheduler("tls://localhost:1", own.ca, both).security().get_connection_args("client")


def test_a_scheduler_of_another_authority_is_refused(
    foreign: Identity, secured: str, command: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_CONNECT_TIMEOUT_S", 3)
    outcome = command("--scheduler", secured, *foreign.options())
    assert_refused(outcome, 1, f"Cannot reach a Dask scheduler at '{secured}'")


# What cannot work is refused before a scene is read.


def test_tls_without_certificates(command: Callable[..., Outcome]) -> None:
    outcome = command("--scheduler", "tls://localhost:8786")
    assert_refused(
        outcome,
        1,
        "'tls://localhost:8786' without certificates",
        "--scheduler-ca",
        "DASK_DISTRIBUTED__COMM__TLS__",
    )


def test_certificates_without_tls(own: Identity, command: Callable[..., Outcome]) -> None:
    outcome = command("--scheduler", "tcp://localhost:8786", *own.options())
    assert_refused(outcome, 1, "--scheduler tls://localhost:8786", "is not encrypted")


def test_certificates_without_a_scheduler(own: Identity, command: Callable[..., Outcome]) -> None:
    assert_refused(command(*own.options()), 2, "Pass --scheduler, too")


@pytest.mark.parametrize("name", ["ca", "cert", "key"])
def test_a_file_that_is_not_there(name: str, own: Identity) -> None:
    files = {**vars(own), name: own.ca.with_name("nothing")}
    with pytest.raises(ConfigError, match=f"Cannot use --scheduler-{name} '.*nothing': no such file"):
        Scheduler("tls://localhost:1", **files)


@pytest.mark.parametrize("name", ["ca", "cert", "key"])
def test_a_file_that_is_no_pem(name: str, own: Identity, tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"junk")
    scheduler = Scheduler("tls://localhost:1", **{**vars(own), name: tmp_path / "junk"})
    with pytest.raises(ConfigError, match="CA, certificate and key must be PEM files"):
        scheduler.security()


def test_a_key_of_another_certificate(own: Identity, foreign: Identity) -> None:
    with pytest.raises(ConfigError, match="key values mismatch"):
        Scheduler("tls://localhost:1", own.ca, own.cert, foreign.key).security()


def test_a_key_with_a_password_is_not_asked_for_one(own: Identity, tmp_path: Path) -> None:
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "pkey", "-in", own.key, "-aes256", "-passout", "pass:x", "-out", locked], check=True
    )
    with pytest.raises(ConfigError, match="is protected by a password"):
        Scheduler("tls://localhost:1", own.ca, own.cert, locked).security()


# The warning.


@pytest.mark.parametrize(
    ("address", "is_here"),
    [
        ("tcp://127.0.0.1:8786", True),
        ("tcp://localhost:8786", True),
        ("localhost:8786", True),
        ("tcp://[::1]:8786", True),
        ("inproc://10.0.0.7/1/1", True),
        ("tcp://192.0.2.9:8786", False),
        ("192.0.2.9:8786", False),
        ("tcp://[2001:db8::1]:8786", False),
        ("tcp://[bad", True),
        ("tcp://no such host:8786", True),
    ],
)
def test_which_schedulers_are_on_this_machine(address: str, is_here: bool) -> None:
    assert Scheduler(address).is_here is is_here


def test_an_address_of_this_machine_is_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        address = "192.0.2.9"

    monkeypatch.setattr(psutil, "net_if_addrs", lambda: {"eth0": [Entry]})
    assert Scheduler("tcp://192.0.2.9:8786").is_here


def test_a_scheduler_elsewhere_without_tls_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The warning precedes the connection, which fails here."""
    monkeypatch.setattr(engine, "_CONNECT_TIMEOUT_S", 0.2)
    honest = socket.getaddrinfo
    elsewhere = [(socket.AF_INET, 1, 6, "", ("192.0.2.9", 0))]
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *a, **k: elsewhere if host == "localhost" else honest(host, *a, **k),
    )
    source = factory.write_plain(tmp_path / "in.tif", size=(20, 24), count=1)
    with (
        pytest.warns(GeoSegSRWarning, match=r"tcp://localhost:1 is on another machine and does without TLS"),
        pytest.raises(JobError, match="Cannot reach a Dask scheduler"),
    ):
        geosegsr.upscale(source, tmp_path / "out.tif", 2, "nearest", scheduler="tcp://localhost:1")


def test_a_scheduler_elsewhere_with_tls_is_not_warned_of(recwarn: pytest.WarningsRecorder) -> None:
    Scheduler("tls://192.0.2.9:8786").warn_if_open()
    assert not recwarn.list
