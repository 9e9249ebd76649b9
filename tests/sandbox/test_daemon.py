"""The background sandbox: found, started once, replaced, never mistaken for a stranger."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from gpubroker.model.home import Home
from gpubroker.sandbox import daemon
from gpubroker.sandbox.published import listening
from gpubroker.sandbox.server import (
    IDLE_S,
    IDLE_WITH_MACHINES_S,
    FolderInUse,
    IdleRule,
    Ready,
    Settings,
    serve,
)

_DEADLINE_S = 20.0


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path / "home")
    yield made
    daemon.stop(made)


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def recorded(home: Home) -> daemon.Record:
    record = daemon.read_record(daemon.record_file(home))
    assert record is not None
    return record


def rewrite(home: Home, **changes: object) -> None:
    changed = msgspec.structs.replace(recorded(home), **changes)
    daemon.write_record(daemon.record_file(home), changed)


def test_it_is_started_once_and_found_again(home: Home) -> None:
    assert daemon.status(home) is None
    first = daemon.ensure(home)
    again = daemon.ensure(home)
    assert (first.started, again.started) == (True, False)
    assert again == msgspec.structs.replace(first, started=False)
    assert daemon.status(home) == again
    answer = daemon.request(first.port, "GET", daemon.STATUS_PATH)
    assert answer is not None
    assert (answer[1]["pid"], answer[1]["id"]) == (first.pid, first.id)


def test_answers_are_not_held_back_until_the_head_is_acknowledged() -> None:
    with listening(0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_container_that_ends_is_seen_by_its_cloud(home: Home) -> None:
    ended = asyncio.Event()
    ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
    settings = Settings(folder=daemon.state_folder(home), speed=1000)
    serving = asyncio.create_task(serve(settings, ready.set_result, ended))
    try:
        url = (await asyncio.wait_for(ready, _DEADLINE_S)).base_url
        key = {"Authorization": f"Bearer {'a' * 64}"}
        api = f"{url}/vast_ai/api/v0"
        async with httpx2.AsyncClient(headers=key) as http:
            query = {"rentable": {"eq": True}, "limit": 1}
            found = (await http.post(f"{api}/bundles/", json=query)).json()["offers"][0]["id"]
            order = {"image": "ubuntu", "runtype": "args", "args": ["true"]}
            made = (await http.put(f"{api}/asks/{found}/", json=order)).json()
            assert made["success"]

            async def row() -> Any:
                (told,) = (await http.get(f"{url}/_sandbox/machines")).json()
                return told

            deadline = time.monotonic() + _DEADLINE_S
            while (await row())["state"] != "failed":
                assert time.monotonic() < deadline, "it has ended"
                await asyncio.sleep(0.05)
            assert (await row())["billed_for"] == ["disk"]
    finally:
        ended.set()
        await serving


def test_two_commands_at_once_share_one(home: Home) -> None:
    with ThreadPoolExecutor(3) as pool:
        found = [each.result() for each in [pool.submit(daemon.ensure, home) for _ in range(3)]]
    assert len({running.pid for running in found}) == 1
    assert sum(running.started for running in found) == 1


def test_a_killed_one_is_seen_and_restarted_on_its_port_with_its_state(home: Home) -> None:
    first = daemon.ensure(home)
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: daemon.start_time(first.pid) is None, "it is dead")
    began = time.perf_counter()
    assert daemon.status(home) is None
    assert time.perf_counter() - began < 0.1
    second = daemon.ensure(home)
    assert second.pid != first.pid
    assert (second.port, second.id) == (first.port, first.id)


def test_a_port_that_was_taken_meanwhile_is_left_alone(home: Home) -> None:
    first = daemon.ensure(home)
    assert daemon.stop(home)
    with socket.create_server(("127.0.0.1", first.port)):
        assert daemon.ensure(home).port != first.port


def test_another_versions_process_is_replaced_in_place(home: Home) -> None:
    first = daemon.ensure(home)
    rewrite(home, version="0.0.0")
    second = daemon.ensure(home)
    assert second.version == daemon.package_version()
    assert (second.port, second.id) == (first.port, first.id)
    assert daemon.start_time(first.pid) is None


def test_a_record_whose_process_id_now_is_someone_elses_is_not_believed(home: Home) -> None:
    first = daemon.ensure(home)
    assert daemon.stop(home)
    rewrite(home, pid=os.getpid(), start_time=recorded(home).start_time)
    assert daemon.status(home) is None
    assert daemon.stop(home) is False, "and this very process was not ended"
    assert daemon.ensure(home).pid not in {os.getpid(), first.pid}


def test_a_stranger_on_the_port_is_not_believed_and_learns_no_token(home: Home) -> None:
    heard = []
    body = json.dumps({"id": "x", "version": daemon.package_version(), "pid": os.getpid()})

    def answer(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            heard.append(connection.recv(65536).decode())
            head = f"HTTP/1.1 200 OK\r\n{daemon.PROOF}: {'0' * 64}\r\n\r\n"
            connection.sendall((head + body).encode())

    home.sandbox.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        record = daemon.Record(
            pid=os.getpid(),
            start_time=daemon.start_time(os.getpid()) or "",
            port=server.getsockname()[1],
            version=daemon.package_version(),
            token="planted-token",
        )
        daemon.write_record(daemon.record_file(home), record)
        thread = threading.Thread(target=answer, args=(server,))
        thread.start()
        assert daemon.status(home) is None
        thread.join(_DEADLINE_S)
    assert heard
    assert "planted-token" not in heard[0]
    daemon.record_file(home).unlink()


def test_a_broken_record_is_no_record(home: Home) -> None:
    home.sandbox.mkdir(parents=True)
    daemon.record_file(home).write_text('{"pid": "x"')
    assert daemon.status(home) is None
    assert daemon.ensure(home).started


def test_stopping_ends_it_and_says_whether_it_ran(home: Home) -> None:
    assert daemon.stop(home) is False
    running = daemon.ensure(home)
    assert daemon.stop(home) is True
    assert daemon.start_time(running.pid) is None
    assert daemon.stop(home) is False


def test_its_files_are_private_and_nothing_of_our_environment_is_in_it(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAST_API_KEY", "planted-secret")
    running = daemon.ensure(home)
    for file in (daemon.record_file(home), daemon.log_file(home)):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.sandbox.stat().st_mode) == 0o700
    assert running.token not in repr(running) + repr(recorded(home))
    environ = Path(f"/proc/{running.pid}/environ")
    if environ.exists():
        assert b"planted-secret" not in environ.read_bytes()
        assert running.token.encode() not in Path(f"/proc/{running.pid}/cmdline").read_bytes()


def test_what_it_printed_is_in_the_error_when_it_does_not_start(home: Home) -> None:
    daemon.state_folder(home).parent.mkdir(parents=True)
    daemon.state_folder(home).write_text("a file where the folder should be")
    with pytest.raises(daemon.SandboxFailed, match=r"did not start.*Error"):
        daemon.ensure(home)


async def test_one_state_folder_is_served_by_one_process(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.ensure(home)
    monkeypatch.setattr("gpubroker.sandbox.server._LOCK_S", 0.0)
    with pytest.raises(FolderInUse):
        await serve(Settings(folder=daemon.state_folder(home)))


def test_the_proxy_is_opened_once(home: Home) -> None:
    running = daemon.ensure(home)
    url, ca_file = daemon.open_proxy(running)
    assert daemon.open_proxy(running) == (url, ca_file)
    assert ca_file.read_text().startswith("-----BEGIN CERTIFICATE-----")


@pytest.mark.parametrize(
    ("idle_s", "sessions", "machines", "over"),
    [
        (IDLE_S - 1, 0, 0, False),
        (IDLE_S, 0, 0, True),
        (IDLE_S, 1, 0, False),
        (IDLE_S, 0, 1, False),
        (IDLE_WITH_MACHINES_S, 0, 1, True),
        (IDLE_WITH_MACHINES_S, 1, 1, False),
    ],
)
def test_idle_is_half_an_hour_and_twelve_hours_with_machines(
    idle_s: float, sessions: int, machines: int, over: bool
) -> None:
    rule = IdleRule(0.0)
    request_at = 1000.0
    now = request_at + idle_s
    assert rule.over(now, request_at, sessions=sessions, machines=machines) is over


def test_a_session_that_ended_counts_from_its_end() -> None:
    rule = IdleRule(0.0)
    assert not rule.over(IDLE_S, 0.0, sessions=1, machines=0)
    assert not rule.over(2 * IDLE_S - 1, 0.0, sessions=0, machines=0)
    assert rule.over(2 * IDLE_S, 0.0, sessions=0, machines=0)
