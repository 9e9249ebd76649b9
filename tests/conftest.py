"""What tests of several packages need: a real PostgreSQL server, started when first asked for."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_DEBIAN = Path("/usr/lib/postgresql")
_PASSWORD = "pw-of-the-test-server"
SHOWN_CLAIMS, LONGEST_CLAIM = 12, 110


def _programs() -> Path | None:
    """The folder of initdb and postgres; Debian keeps them off PATH."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    versions = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return versions[-1].parent if versions else None


def _as_server(folder: Path) -> list[str]:
    """PostgreSQL refuses to run as root: there it runs as the user that its package made."""
    if os.getuid():
        return []
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        user = pwd.getpwnam("nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class PostgresServer:
    """A real server of our own on loopback, which can be stopped and started again."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder, self._port = programs, folder, _free_port()
        self._prefix = _as_server(folder)
        self._running: subprocess.Popen[bytes] | None = None
        self.url = f"postgres://gpubroker:{_PASSWORD}@127.0.0.1:{self._port}/postgres"
        password = folder / "password"
        password.write_text(_PASSWORD)
        password.chmod(0o644)
        subprocess.run(
            [*self._prefix, programs / "initdb", "-D", folder / "data", "-U", "gpubroker",
             "--pwfile", password, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync"],
            check=True, capture_output=True, cwd=folder,
        )  # fmt: skip

    def start(self) -> None:
        if self._running is not None:
            return
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self._port,
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": 100,
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        log = self._folder / "log"
        with log.open("wb") as file:
            self._running = subprocess.Popen(
                [*self._prefix, self._programs / "postgres", "-D", self._folder / "data", *options],
                stdout=file, stderr=file, cwd=self._folder,
            )  # fmt: skip
        _until_it_answers(self.url, self._running, log)

    def stop(self) -> None:
        """At once, as `pg_ctl stop -m immediate`: no client is told anything."""
        if self._running is not None:
            self._running.send_signal(signal.SIGQUIT)
            self._running.wait(30)
            self._running = None


@contextmanager
def _server() -> Iterator[PostgresServer]:
    programs = _programs()
    if programs is None:
        missing = "no PostgreSQL server is installed (Debian: apt-get install postgresql)"
        if os.environ.get("GPUBROKER_REQUIRE_POSTGRES"):
            pytest.fail(missing)
        pytest.skip(missing)
    folder = Path(tempfile.mkdtemp(prefix="gpubroker-postgres-"))
    try:
        server = PostgresServer(programs, folder)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The address of a server that the tests share; it ends with them."""
    with _server() as server:
        yield server.url


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[PostgresServer]:
    """One that a test may stop and start."""
    with _server() as server:
        yield server


def _until_it_answers(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    import time

    import psycopg

    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()}") from None
            time.sleep(0.05)
        else:
            return


@pytest.fixture
def postgres(postgres_server: str) -> Iterator[str]:
    """An empty database of its own for one test."""
    import psycopg

    name = f"t_{secrets.token_hex(6)}"
    with psycopg.connect(postgres_server, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        yield f"{postgres_server.rpartition('/')[0]}/{name}"
        server.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Every vendor's client that judged, and what it did."""
    did: dict[str, list[str]] = {}
    for report in terminalreporter.getreports("passed"):
        claim = report.nodeid.rpartition("::test_")[2].replace("_", " ")
        for name, judge in report.user_properties:
            if name == "judge":
                did.setdefault(str(judge), []).append(claim)
    if did:
        terminalreporter.section("vendors' own clients, unmodified, against the sandbox")
    for judge, claims in sorted(did.items()):
        client, _, version = judge.rpartition("-")
        terminalreporter.write_line(f"{client} {version}: {len(claims)} tests")
        for claim in sorted(claims)[:SHOWN_CLAIMS]:
            terminalreporter.write_line(f"    {claim[:LONGEST_CLAIM]}")
