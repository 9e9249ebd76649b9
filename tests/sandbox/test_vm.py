"""A machine as a VM: keys in a file, user data, units, users and docker, with the real ssh."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from msgspec.structs import replace

from gpubroker.sandbox.host import MachineSpec
from gpubroker.sandbox.machine import LoopbackHost
from gpubroker.sandbox.processes import own_address
from gpubroker.sandbox.shell import members


def _of_machines() -> ModuleType:
    """test_machine.py beside this file, by its path: test folders are no packages."""
    name = "tests.sandbox.test_machine"
    if name not in sys.modules:
        file = Path(__file__).with_name("test_machine.py")
        found = importlib.util.spec_from_file_location(name, file)
        assert found
        assert found.loader
        sys.modules[name] = importlib.util.module_from_spec(found)
        found.loader.exec_module(sys.modules[name])
    return sys.modules[name]


_machines = _of_machines()
call, new_key, until, keys = (
    _machines.call,
    _machines.new_key,
    _machines.until,
    _machines.keys,
)
Keys = Any


class Time:
    """Sandbox time that the test moves."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def host(time: Time) -> AsyncIterator[LoopbackHost]:
    told: list[str] = []

    async def powered(_provider: str, _id: str, word: str) -> None:
        told.append(word)

    running = LoopbackHost(powered, clock=time)
    running.told = told  # type: ignore[attr-defined]  # read by the tests alone
    yield running
    await running.close()


@pytest.fixture
def spec(tmp_path: Path, keys: Keys) -> MachineSpec:
    return MachineSpec(
        provider="lambda_labs",
        id="42",
        folder=tmp_path / "machine",
        hostname="rig",
        user="ubuntu",
        keys=(keys.public,),
        keys_in_home=True,
        docker=True,
        gpu_tool_name="NVIDIA A10",
        gpu_memory_mib=23028,
    )


async def ssh(machine: Any, keys: Keys, *command: str, **more: Any) -> Any:
    return await _machines.ssh(machine, keys, *command, user="ubuntu", **more)


async def finished(spec: MachineSpec) -> str:
    """The first boot is over; what it printed."""
    await until((spec.folder / "var/lib/cloud/instance/boot-finished").exists, "the first boot")
    return (spec.folder / "logs/cloud-init-output.log").read_text()


# --- keys ---------------------------------------------------------------------------------


async def test_the_clouds_key_is_a_line_of_authorized_keys_and_counts_only_there(
    host: LoopbackHost, spec: MachineSpec, keys: Keys
) -> None:
    machine = await host.start(spec)
    file = spec.folder / "home/ubuntu/.ssh/authorized_keys"
    assert file.read_text() == f"{keys.public}\n"
    assert (await ssh(machine, keys, "true")).code == 0
    file.write_text("")
    assert (await ssh(machine, keys, "true")).code == 255


async def test_a_key_that_is_added_to_the_file_is_let_in_at_the_next_login(
    host: LoopbackHost, spec: MachineSpec, keys: Keys, tmp_path: Path
) -> None:
    other = await new_key(tmp_path, "other")
    machine = await host.start(spec)
    added = f"printf '# mine\\nnonsense\\n%s\\n' '{other.public}' >> ~/.ssh/authorized_keys"
    assert (await ssh(machine, keys, added)).code == 0
    assert (await ssh(machine, other, "echo in")).out == "in\n"
    await ssh(machine, keys, "chmod g+w ~/.ssh/authorized_keys")
    assert (await ssh(machine, other, "echo in")).code == 255, "others may write to it"


async def test_keys_that_a_cloud_changes_leave_lines_of_others_alone(
    host: LoopbackHost, spec: MachineSpec, keys: Keys, tmp_path: Path
) -> None:
    later = await new_key(tmp_path, "later")
    await host.start(spec)
    file = spec.folder / "home/ubuntu/.ssh/authorized_keys"
    with file.open("a") as lines:
        lines.write("ssh-ed25519 AAAA somebody\n")
    await host.admit(spec.provider, spec.id, (later.public,))
    assert file.read_text() == f"ssh-ed25519 AAAA somebody\n{later.public}\n"


def forced(spec: MachineSpec, keys: Keys, options: str) -> None:
    file = spec.folder / "home/ubuntu/.ssh/authorized_keys"
    file.write_text(f"{options} {keys.public}\n")


async def test_a_forced_command_runs_instead_of_everything_that_is_asked_for(
    host: LoopbackHost, spec: MachineSpec, keys: Keys, tmp_path: Path
) -> None:
    machine = await host.start(spec)
    forced(spec, keys, 'command="echo forced: $SSH_ORIGINAL_COMMAND; cat"')
    done = await ssh(machine, keys, "rm -rf x", feed=b"fed\n")
    assert done.out == "forced: rm -rf x\nfed\n"
    assert (await ssh(machine, keys, feed=b"typed\n")).out == "forced:\ntyped\n"
    copied = await call(
        "scp", *_machines.options(keys), "-P", str(machine.ssh_port),
        "ubuntu@127.0.0.1:/etc/hostname", str(tmp_path / "got"),
    )  # fmt: skip
    assert copied.code != 0
    assert not (tmp_path / "got").exists()


async def test_a_forced_command_that_runs_what_was_asked_serves_files_too(
    host: LoopbackHost, spec: MachineSpec, keys: Keys, tmp_path: Path
) -> None:
    if not any(Path(p).exists() for p in ("/usr/lib/openssh/sftp-server",)):
        pytest.skip("this computer has no sftp-server")
    machine = await host.start(spec)
    forced(spec, keys, 'command="sh -c \\"$SSH_ORIGINAL_COMMAND\\""')
    (tmp_path / "sent").write_text("through")
    copy = ["scp", *_machines.options(keys), "-P", str(machine.ssh_port)]
    done = await call(*copy, str(tmp_path / "sent"), "ubuntu@127.0.0.1:got")
    assert done.code == 0, done.err
    assert (spec.folder / "home/ubuntu/got").read_text() == "through"


async def test_a_lines_options_are_heeded(
    host: LoopbackHost, spec: MachineSpec, keys: Keys
) -> None:
    machine = await host.start(spec)
    forced(spec, keys, 'no-pty,environment="LEAKED=1"')
    assert "PTY allocation request failed" in (await ssh(machine, keys, "x", flags=("-tt",))).err
    assert (await ssh(machine, keys, "echo ${LEAKED-no}")).out == "no\n"
    forced(spec, keys, 'from="10.0.0.0/8"')
    assert (await ssh(machine, keys, "true")).code == 255
    forced(spec, keys, "restrict")
    argv = ("-oExitOnForwardFailure=yes", "-W", "127.0.0.1:22")
    assert (await ssh(machine, keys, flags=argv)).code != 0


# --- where it is --------------------------------------------------------------------------


async def test_it_has_an_address_of_its_own_where_the_system_allows_it(
    host: LoopbackHost, spec: MachineSpec, keys: Keys
) -> None:
    address = own_address(spec.provider, spec.id)
    assert address.startswith("127.")
    assert address != own_address(spec.provider, "43")
    machine = await host.start(replace(spec, address=address))
    assert (machine.ssh_host, machine.ssh_port) == (address, 22) or machine.ssh_host == "127.0.0.1"
    argv = ["ssh", *_machines.options(keys), "-p", str(machine.ssh_port)]
    assert (await call(*argv, f"ubuntu@{machine.ssh_host}", "hostname")).out == "rig\n"


# --- first boot ---------------------------------------------------------------------------

TOUR = """\
#!/bin/bash
set -eu
home=$(getent passwd ubuntu | cut -d: -f6)
echo "$(whoami) $(id -u) $(id -u ubuntu) $HOME" > "$home/who"
mkdir -p /opt/app /home/ubuntu/data
echo there > /opt/app/file
chown -R ubuntu:ubuntu /home/ubuntu
apt-get update && apt-get install -y htop
systemctl is-active --quiet docker
sudo -u ubuntu -H sh -c 'echo "$USER $HOME"' >> "$home/who"
su - ubuntu -c 'pwd' >> "$home/who"
chown nobody_here "$home" 2>/dev/null && exit 9
install -o ubuntu -m 600 /opt/app/file /home/ubuntu/data/copy
echo over
"""


async def test_a_script_of_user_data_works_as_root_and_never_outside_the_machine(
    host: LoopbackHost, spec: MachineSpec, keys: Keys
) -> None:
    machine = await host.start(replace(spec, user_data=TOUR.encode()))
    assert (await finished(spec)).endswith("over\n")
    home = spec.folder / "home/ubuntu"
    assert (home / "who").read_text().splitlines() == [
        f"root 0 1000 {spec.folder}/root",
        f"ubuntu {home}",
        str(home),
    ]
    assert (home / "data/copy").read_text() == "there\n"
    assert not Path("/opt/app").exists()
    assert "apt-get install -y htop" in (spec.folder / "logs/ignored.log").read_text()
    done = await ssh(machine, keys, "id -un; cat /opt/app/file; cloud-init status --wait")
    assert done.out.splitlines() == ["ubuntu", "there", "status: done"]


async def test_user_data_does_not_run_again_after_a_reboot(
    host: LoopbackHost, spec: MachineSpec, keys: Keys
) -> None:
    data = b"#!/bin/sh\necho ran >> /root/times\ncat /proc/sys/kernel/random/boot_id > /root/boot\n"
    machine = await host.start(replace(spec, user_data=data))
    await finished(spec)
    first = (spec.folder / "root/boot").read_text()
    await ssh(machine, keys, "sudo reboot")
    await until(lambda: host.told == ["reboot"], "it rebooted")  # type: ignore[attr-defined]  # as above
    assert (await ssh(machine, keys, "cat /proc/sys/kernel/random/boot_id")).out != first
    assert (spec.folder / "root/times").read_text() == "ran\n"


async def test_timers_go_off_in_sandbox_time(
    host: LoopbackHost, spec: MachineSpec, keys: Keys, time: Time
) -> None:
    data = (
        b"#!/bin/sh\nsystemd-run --quiet --collect --unit=expiry --on-active=3600 poweroff\n"
        b"systemd-run --unit=expiry --on-active=60 true\n"
    )
    machine = await host.start(replace(spec, user_data=data))
    assert "Unit expiry.timer was already loaded" in await finished(spec)
    assert (await ssh(machine, keys, "systemctl is-active expiry.timer")).out == "active\n"
    waiting = "nohup sh -c 'sleep 600; echo woke > /root/woke' >/dev/null 2>&1 &"
    await ssh(machine, keys, waiting)

    def woke() -> bool:
        time.at += 5
        return (spec.folder / "root/woke").exists()

    await until(woke, "the sleep is over")
    assert time.at >= 1600
    assert host.told == []  # type: ignore[attr-defined]  # as above
    time.at += 3600
    await until(lambda: host.told == ["off"], "the timer went off")  # type: ignore[attr-defined]  # as above


async def test_a_timer_can_be_stopped(
    host: LoopbackHost, spec: MachineSpec, keys: Keys, time: Time
) -> None:
    machine = await host.start(spec)
    await ssh(machine, keys, "sudo systemd-run --unit=end --on-active=1h touch /root/went")
    before = len(members(spec.folder))
    assert before
    assert (await ssh(machine, keys, "sudo systemctl stop end.timer")).code == 0
    await until(lambda: len(members(spec.folder)) < before, "its process is gone")
    assert (await ssh(machine, keys, "systemctl is-active end.timer")).code == 3


# --- docker -------------------------------------------------------------------------------


async def test_docker_login_is_kept_without_its_password(
    host: LoopbackHost, spec: MachineSpec, keys: Keys
) -> None:
    machine = await host.start(spec)
    login = "docker login -u me --password-stdin ghcr.io"
    assert "Succeeded" in (await ssh(machine, keys, login, feed=b"very-secret\n")).out
    assert (await ssh(machine, keys, "docker logout ghcr.io")).code == 0
    kept = json.loads((spec.folder / "docker/daemon/logins.json").read_text())
    assert (kept["ghcr.io"]["user"], kept["ghcr.io"]["logged_in"]) == ("me", False)
    for file in spec.folder.rglob("*"):
        assert not (file.is_file() and b"very-secret" in file.read_bytes()), file


async def test_docker_exec_is_inside_the_containers_own_environment(
    host: LoopbackHost, spec: MachineSpec, keys: Keys
) -> None:
    machine = await host.start(replace(spec, env={"OF_HOST": "1"}))
    run = "docker run -d --name app -e WORD=hi -w /work --restart unless-stopped image:1 sleep 900"
    assert (await ssh(machine, keys, run)).code == 0
    seen = "docker exec -i -e MORE=you app sh -c 'cat; echo $WORD $MORE ${OF_HOST-none}; pwd'"
    done = await ssh(machine, keys, seen, feed=b"in\n")
    assert done.out == f"in\nhi you none\n{spec.folder}/work\n"
    assert "not a TTY" in (await ssh(machine, keys, "docker exec -it app sh")).err
    inside = await ssh(machine, keys, "docker exec -it app tty", flags=("-tt",))
    assert "/dev/" in inside.out
    assert (await ssh(machine, keys, "docker exec app no-such-command")).code == 127
    assert (await ssh(machine, keys, "docker exec other true")).code == 1


async def test_docker_tells_how_a_container_is_and_ended(
    host: LoopbackHost, spec: MachineSpec, keys: Keys
) -> None:
    machine = await host.start(spec)
    state = "docker inspect --format '{{.State.Running}} {{.State.Status}} {{.State.ExitCode}}' job"
    assert (await ssh(machine, keys, "docker image inspect image:1")).code == 1
    await ssh(machine, keys, "docker run -d --name job image:1 sh -c 'sleep 1; exit 7'")
    assert (await ssh(machine, keys, "docker image inspect image:1")).code == 0
    assert (await ssh(machine, keys, state)).out == "true running 0\n"
    assert (await ssh(machine, keys, "docker wait job")).out == "7\n"
    assert (await ssh(machine, keys, state)).out == "false exited 7\n"
    assert (await ssh(machine, keys, "docker start job && docker stop job")).code == 0
    assert "false exited" in (await ssh(machine, keys, state)).out
    assert (await ssh(machine, keys, "docker inspect nothing")).code == 1
    pulled = await ssh(machine, keys, "docker pull registry.invalid/image")
    assert (pulled.code, "no such host" in pulled.err) == (1, True)


async def test_a_container_comes_back_with_its_machine_if_it_was_told_to(
    host: LoopbackHost, spec: MachineSpec, keys: Keys
) -> None:
    machine = await host.start(spec)
    for name, policy in (("kept", "unless-stopped"), ("gone", "no")):
        run = f"docker run -d --name {name} --restart {policy} image sleep 900"
        assert (await ssh(machine, keys, run)).code == 0
    await host.stop(spec.provider, spec.id)
    again = await host.start(replace(spec, ssh_port=machine.ssh_port))

    async def names() -> str:
        return str((await ssh(again, keys, "docker ps --format '{{.Names}}'")).out)

    for _ in range(100):
        if await names() == "kept\n":
            break
    assert await names() == "kept\n"
