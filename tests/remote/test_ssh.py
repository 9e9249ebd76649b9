"""The real ssh against a small server on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import asyncssh
import pytest

from gpubroker.model.bill import Bill
from gpubroker.model.gpu import Gpu
from gpubroker.model.instance import Endpoint
from gpubroker.model.machine import Machine
from gpubroker.model.money import Nanos
from gpubroker.model.terms import Expiry, Market, State
from gpubroker.remote.acceptance import GpuSeen
from gpubroker.remote.keys import BrokerKey, broker_key
from gpubroker.remote.known_hosts import forget_host, pin_host, pinned
from gpubroker.remote.ssh import probe, run_on, ssh_command
from gpubroker.remote.ssh_config import HostEntry, write_config

ALIAS = "gb-abc234-aaaaaaaaaaaaaaaa"
CSV = "NVIDIA GeForce RTX 4090, 24564, 570.133.20\n"


class Host:
    """An SSH server that answers nvidia-smi and a few words."""

    def __init__(self, key: BrokerKey) -> None:
        self.admitted = key.public_line
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.commands: list[str] = []
        self.has_gpu = True
        self.port = 0
        self._acceptor: asyncssh.SSHAcceptor | None = None

    async def open(self, port: int = 0) -> None:
        self._acceptor = await asyncssh.listen(
            "127.0.0.1",
            port,
            server_host_keys=[self.host_key],
            authorized_client_keys=asyncssh.import_authorized_keys(self.admitted),
            process_factory=self._answer,
        )
        self.port = self._acceptor.get_port()

    async def close(self) -> None:
        if self._acceptor is not None:
            self._acceptor.close()
            await self._acceptor.wait_closed()

    async def _answer(self, process: asyncssh.SSHServerProcess[str]) -> None:
        command = process.command or ""
        self.commands.append(command)
        if command == "hang":
            await process.wait_closed()
            return
        if command.startswith("nvidia-smi") and self.has_gpu:
            process.stdout.write(CSV)
        elif command.startswith("nvidia-smi"):
            process.stderr.write("sh: nvidia-smi: not found\n")
            process.exit(127)
            return
        else:
            process.stdout.write("done\n")
        process.exit(3 if command == "fail" else 0)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("127.0.0.1", self.port, "root")


@pytest.fixture
def key(tmp_path: Path) -> BrokerKey:
    return broker_key(tmp_path, "abc234")


@pytest.fixture
async def host(key: BrokerKey) -> AsyncIterator[Host]:
    host = Host(key)
    await host.open()
    yield host
    await host.close()


def machine(endpoint: Endpoint | None, name: str = "box") -> Machine:
    return Machine(
        launch_id="l",
        name=name,
        realm="live",
        provider="p",
        account="a",
        provider_id="1",
        state=State.RUNNING,
        wanted="running",
        phase="ready",
        gpu=Gpu("RTX 4090", "RTX 4090", 24),
        gpu_count=1,
        market=Market.ON_DEMAND,
        region="r",
        price=Nanos(1),
        price_stopped=Nanos(0),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        expiry=Expiry.CONTROLLER_ONLY,
        ssh=endpoint,
        cost_so_far=Nanos(0),
        bill=Bill(status="running"),
    )


async def test_a_probe_tells_the_gpus_and_pins_the_host_key(
    host: Host, key: BrokerKey, tmp_path: Path
) -> None:
    seen = await probe(host.endpoint, key.private_path, tmp_path, ALIAS)
    assert (seen.problem, seen.gpus) == (
        "",
        (GpuSeen("NVIDIA GeForce RTX 4090", 24564, "570.133.20"),),
    )
    line = host.host_key.export_public_key().decode()
    assert pinned(tmp_path, ALIAS) == (" ".join(line.split()[:2]),)


async def test_another_host_key_is_refused_until_forgotten(
    host: Host, key: BrokerKey, tmp_path: Path
) -> None:
    assert (await probe(host.endpoint, key.private_path, tmp_path, ALIAS)).problem == ""
    port = host.port
    await host.close()
    host.host_key = asyncssh.generate_private_key("ssh-ed25519")
    await host.open(port)
    changed = await probe(host.endpoint, key.private_path, tmp_path, ALIAS)
    assert (changed.problem, changed.gpus) == ("host_key_changed", ())
    forget_host(tmp_path, ALIAS)
    assert (await probe(host.endpoint, key.private_path, tmp_path, ALIAS)).problem == ""


async def test_a_key_that_the_provider_told_admits_no_other(
    host: Host, key: BrokerKey, tmp_path: Path
) -> None:
    pin_host(tmp_path, ALIAS, broker_key(tmp_path, "zzzzzz").public_line)
    seen = await probe(host.endpoint, key.private_path, tmp_path, ALIAS)
    assert seen.problem == "host_key_changed"
    assert host.commands == []


async def test_a_key_that_is_not_admitted_is_told(host: Host, tmp_path: Path) -> None:
    stranger = broker_key(tmp_path, "zzzzzz")
    seen = await probe(host.endpoint, stranger.private_path, tmp_path, ALIAS)
    assert seen.problem == "key_refused"


async def test_nobody_there_is_unreachable(host: Host, key: BrokerKey, tmp_path: Path) -> None:
    await host.close()
    seen = await probe(host.endpoint, key.private_path, tmp_path, ALIAS)
    assert seen.problem == "unreachable"


async def test_a_machine_without_the_tool_answers_without_gpus(
    host: Host, key: BrokerKey, tmp_path: Path
) -> None:
    host.has_gpu = False
    seen = await probe(host.endpoint, key.private_path, tmp_path, ALIAS)
    assert (seen.problem, seen.gpus) == ("", ())
    assert "not found" in seen.detail


async def test_silence_ends_at_the_deadline(key: BrokerKey, tmp_path: Path) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    seen = await probe(
        Endpoint("127.0.0.1", port, "root"), key.private_path, tmp_path, ALIAS, deadline_s=0.5
    )
    server.close()
    assert seen.problem == "timed_out"


async def test_commands_run_through_the_written_configuration(host: Host, tmp_path: Path) -> None:
    folder = tmp_path / "a folder with 100% spaces"
    key = broker_key(folder, "abc234")
    host.admitted = key.public_line
    await host.close()
    await host.open()
    write_config(
        folder,
        [HostEntry(name="box", alias=ALIAS, endpoint=host.endpoint, identity=key.private_path)],
    )
    box = machine(host.endpoint)
    ran = await run_on(box, folder, ("say", "two words", "-x"), deadline_s=20)
    assert (ran.code, ran.stdout) == (0, "done\n")
    assert (await run_on(box, folder, ("fail",), deadline_s=20)).code == 3
    assert (await run_on(box, folder, ("ls | wc -l",), deadline_s=20)).code == 0
    assert host.commands == ["say 'two words' -x", "fail", "ls | wc -l"]
    assert pinned(folder, ALIAS) != ()


async def test_a_command_that_hangs_is_ended(host: Host, key: BrokerKey, tmp_path: Path) -> None:
    write_config(
        tmp_path,
        [HostEntry(name="box", alias=ALIAS, endpoint=host.endpoint, identity=key.private_path)],
    )
    ran = await run_on(machine(host.endpoint), tmp_path, ("hang",), deadline_s=1)
    assert ran.code is None


def test_a_command_never_becomes_an_option_of_ssh(tmp_path: Path) -> None:
    argv = ssh_command(machine(Endpoint("h", 22, "root")), tmp_path, ("-oProxyCommand=id",))
    assert argv == [
        "ssh",
        "-F",
        str(tmp_path / "config"),
        "gb-box",
        "--",
        "-oProxyCommand=id",
    ]
    shell = ssh_command(machine(Endpoint("h", 22, "root")), tmp_path, tty=True)
    assert shell[-2:] == ["-t", "gb-box"]


def test_a_machine_without_ssh_has_no_command(tmp_path: Path) -> None:
    for endpoint in (None, Endpoint("h", 1, "u", via="exec")):
        with pytest.raises(ValueError, match="no SSH endpoint"):
            ssh_command(machine(endpoint), tmp_path)
