"""Machines on loopback, used with the real ssh, scp, rsync and curl."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from gpubroker.sandbox.host import MachineSpec, RunningMachine
from gpubroker.sandbox.machine import LoopbackHost
from gpubroker.sandbox.shell import members

_DEADLINE_S = 20.0


class Done(NamedTuple):
    code: int
    out: str
    err: str


async def call(*argv: str, feed: bytes = b"") -> Done:
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(feed), _DEADLINE_S)
    return Done(process.returncode or 0, out.decode(), err.decode())


async def until(true: Callable[[], bool], what: str) -> None:
    deadline = asyncio.get_running_loop().time() + _DEADLINE_S
    while not true():
        assert asyncio.get_running_loop().time() < deadline, what
        await asyncio.sleep(0.02)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Keys(NamedTuple):
    private: Path
    public: str


async def new_key(folder: Path, name: str = "id") -> Keys:
    made = await call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
    assert made.code == 0, made.err
    return Keys(folder / name, (folder / f"{name}.pub").read_text().strip())


@pytest.fixture
async def keys(tmp_path: Path) -> Keys:
    return await new_key(tmp_path)


@pytest.fixture
async def host() -> AsyncIterator[LoopbackHost]:
    running = LoopbackHost()
    yield running
    await running.close()


@pytest.fixture
def spec(tmp_path: Path, keys: Keys) -> MachineSpec:
    return MachineSpec(
        provider="vast_ai",
        id="4711",
        folder=tmp_path / "machine",
        hostname="rig",
        keys=(keys.public,),
        env={"TOKEN": "of the machine"},
        gpu_tool_name="NVIDIA GeForce RTX 4090",
        gpu_count=2,
        gpu_memory_mib=24564,
    )


def options(keys: Keys) -> list[str]:
    settings = (
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "ConnectTimeout=10",
    )
    return ["-F", "none", "-i", str(keys.private), *(f"-o{setting}" for setting in settings)]


async def ssh(
    machine: RunningMachine,
    keys: Keys,
    *command: str,
    user: str = "root",
    flags: tuple[str, ...] = (),
    feed: bytes = b"",
) -> Done:
    port = str(machine.ssh_port)
    target = f"{user}@127.0.0.1"
    return await call("ssh", *options(keys), "-p", port, *flags, target, *command, feed=feed)


async def test_a_command_runs_with_its_exit_code_and_both_streams(
    host: LoopbackHost, spec: MachineSpec, keys: Keys
) -> None:
    machine = await host.start(spec)
    done = await ssh(machine, keys, "cat; echo bad >&2; exit 7", feed=b"fed\n" * 50_000)
    assert done == Done(7, "fed\n" * 50_000, "bad\n")


async def test_the_command_works_in_a_private_home(
    host: LoopbackHost, spec: MachineSpec, keys: Keys
) -> None:
    machine = await host.start(spec)
    done = await ssh(machine, keys, "pwd; echo $HOME; echo $USER; hostname; echo it > file")
    home = spec.folder / "root"
    assert done.out.splitlines() == [str(home), str(home), "root", "rig"]
    assert (home / "file").read_text() == "it\n"
    assert stat.S_IMODE(spec.folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("case", ["another key", "another user"])
async def test_a_stranger_is_refused(
    host: LoopbackHost, spec: MachineSpec, keys: Keys, tmp_path: Path, case: str
) -> None:
    machine = await host.start(spec)
    used = keys if case == "another user" else await new_key(tmp_path, "other")
    user = "ubuntu" if case == "another user" else "root"
    done = await ssh(machine, used, "true", user=user)
    assert done.code == 255
    assert "Permission denied" in done.err


async def test_admitted_keys_change_at_once(
    host: LoopbackHost, spec: MachineSpec, keys: Keys, tmp_path: Path
) -> None:
    machine = await host.start(spec)
    other = await new_key(tmp_path, "other")
    await host.admit(spec.provider, spec.id, (other.public,))
    assert (await ssh(machine, other, "true")).code == 0
    assert (await ssh(machine, keys, "true")).code == 255


async def test_a_line_that_is_no_key_admits_nobody(
    host: LoopbackHost, spec: MachineSpec, keys: Keys
) -> None:
    machine = await host.start(spec)
    await host.admit(spec.provider, spec.id, ("ssh-ed25519 nonsense",))
    assert (await ssh(machine, keys, "true")).code == 255


async def test_nothing_of_our_own_environment_is_visible(
    host: LoopbackHost, spec: MachineSpec, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAST_API_KEY", "planted-secret")
    machine = await host.start(spec)
    done = await ssh(machine, keys, "env", flags=("-oSendEnv=VAST_API_KEY",))
    assert "planted-secret" not in done.out
    assert "TOKEN=of the machine" in done.out.splitlines()


async def test_env_in_ssh_is_the_vendors_choice_and_etc_environment_adds_to_it(
    host: LoopbackHost, spec: MachineSpec, keys: Keys
) -> None:
    from msgspec.structs import replace

    real = Path("/etc/environment")
    before = real.read_bytes() if real.exists() else None
    script = "env | grep TOKEN >> /etc/environment; echo ran > ~/done"
    machine = await host.start(replace(spec, env_in_ssh=False, startup_script=script))
    await until((spec.folder / "root/done").exists, "the startup script ran")
    assert (await ssh(machine, keys, "echo $TOKEN")).out == "of the machine\n"
    assert (real.read_bytes() if real.exists() else None) == before
    (spec.folder / "etc/environment").unlink()
    assert (await ssh(machine, keys, "echo $TOKEN")).out == "\n"


async def test_startup_script_and_command_run_with_their_output_kept(
    host: LoopbackHost, spec: MachineSpec, keys: Keys
) -> None:
    from msgspec.structs import replace

    script = "#!/bin/sh\necho up with $TOKEN; echo oops >&2"
    await host.start(replace(spec, startup_script=script, command="echo serving $TOKEN"))
    startup, container = (spec.folder / "logs" / f"{log}.log" for log in ("startup", "container"))
    await until(lambda: startup.exists() and "oops" in startup.read_text(), "startup.log")
    await until(lambda: container.exists() and "serving" in container.read_text(), "container.log")
    assert startup.read_text() == "up with of the machine\noops\n"
    assert container.read_text() == "serving of the machine\n"


async def test_nvidia_smi_reports_exactly_the_machines_gpus(
    host: LoopbackHost, spec: MachineSpec, keys: Keys
) -> None:
    machine = await host.start(spec)
    query = "nvidia-smi --query-gpu=name,memory.total,compute_cap --format=csv,noheader,nounits"
    assert (await ssh(machine, keys, query)).out == "NVIDIA GeForce RTX 4090, 24564, 8.9\n" * 2
    listed = (await ssh(machine, keys, "nvidia-smi -L")).out.splitlines()
    assert len(listed) == len(set(listed)) == 2
    table = (await ssh(machine, keys, "nvidia-smi")).out
    assert "CUDA Version: 12.8" in table
    assert table.count("24564MiB") == 2
    bad = await ssh(machine, keys, "nvidia-smi --query-gpu=nonsense --format=csv")
    assert (bad.code, "not a valid field" in bad.err) == (2, True)


@pytest.mark.parametrize(
    ("vendor", "command"),
    [
        ("amd", "rocm-smi --showproductname --json"),
        ("amd", "amd-smi static"),
        ("google", "tpu-info"),
        ("aws", "neuron-ls --json-output"),
    ],
)
async def test_every_vendors_tool_reports_the_count(
    host: LoopbackHost, spec: MachineSpec, keys: Keys, vendor: str, command: str
) -> None:
    from msgspec.structs import replace

    machine = await host.start(replace(spec, gpu_vendor=vendor, gpu_tool_name="The Chip"))
    done = await ssh(machine, keys, command)
    assert done.code == 0, done.err
    assert (
        done.out.count("card")
        + done.out.count("GPU:")
        + done.out.count("/dev/vfio")
        + done.out.count("neuron_device")
        == 2
    )
    assert (await ssh(machine, keys, "nvidia-smi")).code == 127


async def test_a_terminal_is_a_real_one(host: LoopbackHost, spec: MachineSpec, keys: Keys) -> None:
    machine = await host.start(spec)
    typed = b"tty; stty size; echo pid $$ sid $(ps -o sid= -p $$); exit 5\n"
    done = await ssh(machine, keys, flags=("-tt",), feed=typed)
    assert done.code == 5
    assert "/dev/pts/" in done.out
    assert "root@rig" in done.out


async def test_scp_both_ways(
    host: LoopbackHost, spec: MachineSpec, keys: Keys, tmp_path: Path
) -> None:
    machine = await host.start(spec)
    payload = os.urandom(300_000)
    (tmp_path / "up").write_bytes(payload)
    copy = ["scp", *options(keys), "-P", str(machine.ssh_port)]
    up = await call(*copy, str(tmp_path / "up"), "root@127.0.0.1:sent")
    assert up.code == 0, up.err
    assert (spec.folder / "root/sent").read_bytes() == payload
    for number, name in enumerate(("sent", "/root/sent", f"{spec.folder}/root/sent")):
        down = await call(*copy, f"root@127.0.0.1:{name}", str(tmp_path / f"down{number}"))
        assert down.code == 0, down.err
        assert (tmp_path / f"down{number}").read_bytes() == payload


async def test_rsync_copies_a_tree(
    host: LoopbackHost, spec: MachineSpec, keys: Keys, tmp_path: Path
) -> None:
    machine = await host.start(spec)
    (tmp_path / "tree/inner").mkdir(parents=True)
    (tmp_path / "tree/inner/file").write_text("text")
    shell = " ".join(["ssh", *options(keys), "-p", str(machine.ssh_port)])
    source, target = str(tmp_path / "tree"), "root@127.0.0.1:"
    done = await call("rsync", "-a", "-e", shell, source, target)
    assert done.code == 0, done.err
    assert (spec.folder / "root/tree/inner/file").read_text() == "text"


async def test_ports_are_published_and_forwarded_to_this_machine_only(
    host: LoopbackHost, spec: MachineSpec, keys: Keys, tmp_path: Path
) -> None:
    from msgspec.structs import replace

    inner, local = free_port(), free_port()
    ports = ((inner, "tcp"), (22, "tcp"))
    serve = f"echo hello > page; exec python3 -m http.server {inner} --bind 127.0.0.1"
    mine = await host.start(replace(spec, ports=ports, command=serve))
    other = await host.start(
        replace(spec, id="2", folder=tmp_path / "other", ports=((inner, "tcp"),))
    )
    assert mine.published["22/tcp"] == mine.ssh_port
    url = f"http://127.0.0.1:{mine.published[f'{inner}/tcp']}/page"

    def listens() -> bool:
        from gpubroker.sandbox.shell import listening_ports

        owned = listening_ports(spec.folder)
        return owned is None or inner in owned

    await until(listens, "the server in the machine listens")
    assert (await call("curl", "-sS", url)).out == "hello\n"
    wrong = await call("curl", "-sS", f"http://127.0.0.1:{other.published[f'{inner}/tcp']}/page")
    assert wrong.code != 0

    for machine, reached in ((mine, True), (other, False)):
        flags = ("-oExitOnForwardFailure=yes", "-L", f"{local}:127.0.0.1:{inner}")
        argv = ["ssh", *options(keys), "-p", str(machine.ssh_port), *flags]
        tunnel = await asyncio.create_subprocess_exec(
            *argv,
            "root@127.0.0.1",
            "echo open; cat",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert tunnel.stdout
        assert await asyncio.wait_for(tunnel.stdout.readline(), _DEADLINE_S) == b"open\n"
        got = await call("curl", "-sS", f"http://127.0.0.1:{local}/page")
        assert (got.out == "hello\n") is reached
        await tunnel.communicate(b"")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc to find them")
async def test_every_process_ends_with_the_machine(
    host: LoopbackHost, spec: MachineSpec, keys: Keys
) -> None:
    machine = await host.start(spec)
    stubborn = "trap '' TERM HUP; sleep 1000 & wait"
    done = await ssh(machine, keys, f'setsid sh -c "{stubborn}" >/dev/null 2>&1 & echo started')
    assert done.out == "started\n"
    open_session = asyncio.create_task(ssh(machine, keys, "sleep 1000"))
    await until(lambda: len(members(spec.folder)) >= 3, "the processes run")
    await host.stop(spec.provider, spec.id)
    assert members(spec.folder) == set()
    assert (await open_session).code == 255


async def test_a_stopped_machine_comes_back_with_its_key_ports_and_files(
    host: LoopbackHost, spec: MachineSpec, keys: Keys
) -> None:
    from msgspec.structs import replace

    inner = free_port()
    first = await host.start(replace(spec, ports=((inner, "tcp"),)))
    await ssh(first, keys, "echo kept > file")
    await host.stop(spec.provider, spec.id)
    again = await host.start(
        replace(spec, ports=((inner, "tcp"),), ssh_port=first.ssh_port, published=first.published)
    )
    assert again == first
    assert (await ssh(again, keys, "cat file")).out == "kept\n"
    scanned = await call("ssh-keyscan", "-p", str(again.ssh_port), "127.0.0.1")
    assert again.host_key in scanned.out
    key_file = spec.folder / "ssh_host_ed25519_key"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600


async def test_a_taken_port_is_replaced(host: LoopbackHost, spec: MachineSpec, keys: Keys) -> None:
    from msgspec.structs import replace

    with socket.create_server(("127.0.0.1", 0)) as taken:
        machine = await host.start(replace(spec, ssh_port=taken.getsockname()[1]))
        assert machine.ssh_port != taken.getsockname()[1]
    assert (await ssh(machine, keys, "true")).code == 0


async def test_starting_stopping_and_removing_are_idempotent(
    host: LoopbackHost, spec: MachineSpec
) -> None:
    assert await host.start(spec) == await host.start(spec)
    await host.stop(spec.provider, spec.id)
    await host.stop(spec.provider, spec.id)
    await host.remove(spec.provider, spec.id)
    await host.remove(spec.provider, spec.id)
    assert not spec.folder.exists()


async def test_many_logins_at_once_lose_no_output(
    host: LoopbackHost, spec: MachineSpec, keys: Keys
) -> None:
    machine = await host.start(spec)
    done = await asyncio.gather(*(ssh(machine, keys, f"echo out {n}") for n in range(12)))
    assert [each.out for each in done] == [f"out {n}\n" for n in range(12)]


async def test_open_sessions_are_counted(host: LoopbackHost, spec: MachineSpec, keys: Keys) -> None:
    machine = await host.start(spec)
    assert host.sessions() == 0
    argv = ["ssh", *options(keys), "-p", str(machine.ssh_port), "root@127.0.0.1", "cat"]
    login = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.PIPE)
    await until(lambda: host.sessions() == 1, "a session is open")
    await login.communicate(b"")
    await until(lambda: host.sessions() == 0, "it is closed")


async def test_poweroff_and_reboot_are_the_machines_not_this_computers(
    spec: MachineSpec, keys: Keys
) -> None:
    told: list[tuple[str, str, str]] = []

    async def listen(*words: str) -> None:
        told.append((words[0], words[1], words[2]))

    host = LoopbackHost(listen)
    try:
        machine = await host.start(spec)
        assert (await ssh(machine, keys, "sudo -n shutdown -h +600 && shutdown -c")).code == 0
        await ssh(machine, keys, "sudo reboot")
        await until(lambda: told == [("vast_ai", "4711", "reboot")], "it rebooted")
        assert (await ssh(machine, keys, "echo up")).out == "up\n"
        await ssh(machine, keys, "systemctl poweroff")
        await until(lambda: len(told) == 2, "it is off")
        assert (await ssh(machine, keys, "true")).code == 255
        assert told[1][2] == "off"
    finally:
        await host.close()


async def test_the_end_of_its_command_is_told_once_and_the_machine_goes_on(
    spec: MachineSpec, keys: Keys
) -> None:
    from msgspec.structs import replace

    told: list[tuple[str, str, int]] = []

    async def listen(provider: str, machine_id: str, status: int) -> None:
        told.append((provider, machine_id, status))

    host = LoopbackHost(on_exit=listen)
    try:
        machine = await host.start(replace(spec, command="echo said; exit 3"))
        await until(lambda: bool(told), "its end is told")
        assert told == [("vast_ai", "4711", 3)]
        assert (await ssh(machine, keys, "echo up")).out == "up\n"
        await host.stop("vast_ai", "4711")
        await host.start(replace(spec, command="exec sleep 600"))
        await host.stop("vast_ai", "4711")
    finally:
        await host.close()
    assert len(told) == 1, "stopping it is no end by itself"


@pytest.mark.parametrize("command", ["docker ps", "crontab -l", "systemd-run true"])
async def test_commands_that_would_reach_past_the_machine_are_absent(
    host: LoopbackHost, spec: MachineSpec, keys: Keys, command: str
) -> None:
    machine = await host.start(spec)
    done = await ssh(machine, keys, command)
    assert (done.code, "command not found" in done.err) == (127, True)


async def test_docker_runs_a_command_with_its_env_and_ports(
    host: LoopbackHost, spec: MachineSpec, keys: Keys
) -> None:
    from msgspec.structs import replace

    from gpubroker.sandbox.shell import listening_ports

    inner, outer = free_port(), free_port()
    machine = await host.start(replace(spec, docker=True, ports=((outer, "tcp"),)))
    serve = f"echo $WORD > page; echo serving; exec python3 -m http.server {inner}"
    run = (
        f"docker run -dit --gpus all -p {outer}:{inner} -e WORD=hi --name web image sh -c '{serve}'"
    )
    started = await ssh(machine, keys, run)
    assert started.code == 0, started.err

    def listens() -> bool:
        owned = listening_ports(spec.folder)
        return owned is None or inner in owned

    await until(listens, "the container serves")
    url = f"http://127.0.0.1:{machine.published[f'{outer}/tcp']}/page"
    assert (await call("curl", "-sS", url)).out == "hi\n"
    assert "serving" in (await ssh(machine, keys, "docker logs web")).out
    assert (await ssh(machine, keys, "docker exec web sh -c 'echo $WORD'")).out == "hi\n"
    assert "web" in (await ssh(machine, keys, "docker ps")).out
    assert (await ssh(machine, keys, "docker rm -f web && docker ps -aq")).out == "web\n"
    assert inner not in (listening_ports(spec.folder) or ())
    kept = await ssh(machine, keys, "docker run --rm image sh -c 'exit 3'")
    assert kept.code == 3
