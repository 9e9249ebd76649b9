"""The boot recipe: what was asked for arrives on the machine, byte for byte."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from random import Random
from threading import Thread

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.providers.booting import DOCKER, StandIn

from gpubroker.model.entrance import NOT_READY
from gpubroker.model.errors import Invalid
from gpubroker.model.launch import LaunchSpec, RegistryAuth
from gpubroker.providers.boot import (
    Boot,
    as_line,
    container_boot,
    seconds_left,
    secrets_of,
    vm_boot,
    web_call,
)

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKEYKEYKEY gb-aaaaaa"
BIG = "".join(Random(1).choices("0123456789abcdef'\"$`\\ ", k=16 * 1024))  # noqa: S311
VALUES = [
    "plain", "", "two words", " edges ", "it's", 'say "hi"', "'", '"', "$HOME `id` $(id)",
    "back\\slash\\", "both ' and \" and $x", "%s %d", "a=b", "; rm -rf /", "*", "ü→", "# no", "a#b",
    "two\nlines\n", "tab\there", "\r", "x" * 2000, BIG, "\u2028", "!history", "EOF\nEOF", "-n",
]  # fmt: skip
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60)
MUCH = 1 << 20
NONE = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[StandIn]:
    made = StandIn(tmp_path)
    yield made
    made.end()


def asked(**fields: object) -> LaunchSpec:
    return LaunchSpec(**({"expires_at": None, "ssh_keys": (KEY,)} | fields))  # type: ignore[arg-type] # checked by msgspec's constructor alone


def container(spec: LaunchSpec, limit: int = MUCH, **more: object) -> Boot:
    given_ = {"seconds_left": None, "end": "true", "sessions_see_env": False} | more
    return container_boot(spec, limit=limit, **given_)  # type: ignore[arg-type] # as above


def vm(spec: LaunchSpec, limit: int = MUCH, **more: object) -> Boot:
    return vm_boot(spec, limit=limit, **({"seconds_left": None, "user": "ubuntu"} | more))  # type: ignore[arg-type] # as above


SHOW = 'printf %s "$A" >"$HOME/shown"'


@pytest.mark.parametrize("value", VALUES)
def test_sessions_of_a_container_see_each_value_exactly(machine: StandIn, value: str) -> None:
    machine.boot(container(asked(env={"A": value, "B": "last"})).text)
    assert machine.session("bash", "-c", 'printf %s "$A"') == value
    assert machine.session("bash", "-lc", 'printf %s "$A"') == value
    assert machine.session("bash", "-c", 'printf %s "$B"') == "last"


def test_each_start_leaves_one_set_of_variables(machine: StandIn) -> None:
    (machine.root / "etc").mkdir()
    (machine.root / "etc/environment").write_text('PATH="/usr/bin:/bin"\nOLD=1')
    boot = container(asked(env={"A": "1", "B": "x\ny"}))
    for _ in range(3):
        machine.boot(boot.text)
    lines = (machine.root / "etc/environment").read_text().split()
    assert [line.partition("=")[0] for line in lines if "=" in line] == [
        "PATH", "OLD", "A", "BASH_ENV",
    ]  # fmt: skip
    for name in (".bashrc", ".profile"):
        assert (machine.home / name).read_text().count("session.sh") == 1


@pytest.mark.parametrize("build", [container, vm])
@pytest.mark.parametrize("limit", [MUCH, 4096, 0])
def test_script_and_command_run_once_in_order_with_all_variables(
    machine: StandIn, build: object, limit: int
) -> None:
    script = (
        "#!/usr/bin/env python3\nimport os\n"
        "with open(os.path.expanduser('~/out'), 'a', newline='') as file:\n"
        " file.write(os.environ['A'])\n"
    )
    spec = asked(env={"A": BIG}, startup_script=script, command='printf "|%s" "$A" >>"$HOME/out"')
    boot = build(spec, limit)  # type: ignore[operator] # one of the two above
    assert len(boot.text.encode()) <= limit
    assert bool(boot.after) is (limit < MUCH)
    if boot.text:
        machine.boot(boot.text)
    for _ in range(2):
        if boot.after:
            assert machine.over_ssh(boot.after) == 0
    out = machine.home / "out"
    expected = f"{BIG}|{BIG}"
    machine.until(lambda: out.exists() and len(out.read_text()) >= len(expected), "the command ran")
    assert out.read_text() == expected
    assert (machine.state / "startup").read_text() == script


def test_what_came_afterwards_runs_at_the_next_start_of_a_container(machine: StandIn) -> None:
    spec = asked(command=f": {BIG.encode().hex()}; echo ran >>~/out")
    boot = container(spec, 4096)
    machine.boot(boot.text)
    assert boot.after
    assert not machine.over_ssh(boot.after)
    out = machine.home / "out"
    machine.until(out.exists, "the command ran")
    machine.boot(boot.text)
    machine.until(lambda: out.read_text() == "ran\nran\n", "it ran again")


def test_a_text_too_long_is_packed_before_anything_is_left_for_afterwards(
    machine: StandIn,
) -> None:
    spec = asked(startup_script="#!/bin/sh\n" + "echo again and again >>~/out\n" * 500)
    boot = container(spec, 4096)
    assert len(boot.text.encode()) <= 4096
    assert not boot.after
    machine.boot(boot.text)
    machine.until(lambda: (machine.state / "startup").read_text() == spec.startup_script, "it came")


def test_what_fits_does_not_depend_on_the_time_that_is_left() -> None:
    spec = asked(command="x" * 500)
    lengths = range(400, 3000)
    for left in (1.0, 999999.0):
        fits = [container(spec, limit, seconds_left=left).after == "" for limit in lengths]
        assert fits == [container(spec, limit, seconds_left=5e6).after == "" for limit in lengths]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(env=st.dictionaries(st.sampled_from("ABC"), TEXT), script=TEXT, command=TEXT)
def test_any_text_is_sound_shell_and_any_value_arrives(
    env: dict[str, str], script: str, command: str
) -> None:
    auth = RegistryAuth("mine", "ghcr.io", "me", script)
    fields = {"env": env, "startup_script": script, "command": command, "registry_auth": auth}
    for boot in (
        container(asked(**fields), sshd="recipe"),
        vm(asked(**fields)),
        vm(asked(**fields, image="a/b:c"), seconds_left=5.0),
        vm(asked(**fields, image="a/b:c"), 0),
    ):
        for shell in ("sh", "bash"):
            for text in (boot.text, boot.after):
                subprocess.run([shell, "-n"], input=text.encode(), check=True)
    with tempfile.TemporaryDirectory() as folder:
        machine = StandIn(Path(folder))
        machine.boot(container(asked(env=env, startup_script=script)).text)
        shown = machine.session("bash", "-c", 'printf "%s." "$A" "$B" "$C"')
        assert shown == "".join(f"{env.get(name, '')}." for name in "ABC")
        if script:
            assert (machine.state / "startup").read_bytes() == script.encode()
        machine.end()


@pytest.mark.parametrize("value", VALUES)
def test_docker_gives_the_container_each_value_exactly(machine: StandIn, value: str) -> None:
    env = {"A": value, "PATH": "/opt/bin", "DOCKER_HOST": "tcp://127.0.0.1:1"}
    machine.boot(vm(asked(image="a/b:c", env=env)).text)
    machine.until(lambda: bool(machine.docker("run")), "docker ran")
    assert machine.container_env() == env | {"GPUBROKER_CONTAINER": "1"}
    assert not any(value in word for word in machine.docker("run")[0]["argv"] if len(value) > 9)
    assert not (machine.root / "etc/environment").exists()


def test_a_vm_runs_the_image_with_gpus_ports_and_command(machine: StandIn) -> None:
    spec = asked(
        image="ghcr.io/me/it:1",
        command="echo 'it''s' >~/out",
        ports=((8888, "tcp"), (53, "udp"), (22, "tcp")),
    )
    machine.boot(vm(spec).text)
    machine.until(lambda: machine.enter("true").returncode == 0, "the container is there")
    argv = " ".join(machine.docker("run")[0]["argv"])
    for words in (
        "--gpus all", "-p 8888:8888 ", "-p 53:53/udp", "--restart unless-stopped",
    ):  # fmt: skip
        assert words in argv
    assert "22:22" not in argv
    assert "--device /dev/kfd" in vm(spec, gpus="amd").text
    arguments = machine.docker("run")[0]["argv"]
    machine.command("tail", "#!/bin/sh\nexit 9\n")
    inside = arguments[arguments.index("ghcr.io/me/it:1") + 1 :]
    ran = subprocess.run(["sh", *inside], env=machine.environment(), check=False)
    assert (ran.returncode, (machine.home / "out").read_text()) == (9, "its\n")


def test_the_script_runs_in_the_container_before_its_command(machine: StandIn) -> None:
    script = "#!/bin/sh\nprintf '%s' \"it's\" >>~/out\n"
    spec = asked(image="a", startup_script=script, command="printf ! >>~/out")
    machine.boot(vm(spec).text)
    machine.until(lambda: machine.enter("true").returncode == 0, "the container is there")
    argv = machine.docker("run")[0]["argv"]
    machine.command("tail", "#!/bin/sh\n")
    subprocess.run(
        ["sh", *argv[argv.index("a") + 1 :]], env=machine.environment(), check=True, timeout=20
    )
    assert (machine.home / "out").read_text() == "it's!"


def test_a_login_waits_for_the_image_then_lands_in_the_container(machine: StandIn) -> None:
    machine.command("docker", "#!/bin/sh\nsleep 60\n")
    spec = asked(image="big/image:1")
    machine.boot(vm(spec).text)
    waiting = machine.enter("true")
    assert (waiting.returncode, "pulling big/image:1" in waiting.stderr) == (NOT_READY, True)
    on_the_vm = machine.enter("GPUBROKER_HOST=1 echo here")
    assert (on_the_vm.returncode, on_the_vm.stdout) == (0, "here\n")
    (machine.state / "state").write_text("running\n")
    machine.command("docker", DOCKER)
    landed = machine.enter("printf '%s' \"it's $((1 + 1))\"")
    assert (landed.returncode, landed.stdout) == (0, "it's 2")
    assert machine.docker("exec")[0]["argv"][:2] == ["exec", "-i"]
    assert machine.enter("exit 3").returncode == 3


@pytest.mark.parametrize(
    ("fails", "said"), [("login", "ghcr.io refused the login mine"), ("run", "could not run")]
)
def test_a_login_is_told_why_there_is_no_container(machine: StandIn, fails: str, said: str) -> None:
    auth = RegistryAuth("mine", "ghcr.io", "me", "hush")
    spec = asked(image="x", env={"TOKEN": "hush"}, registry_auth=auth)
    machine.boot(vm(spec).text, {"DOCKER_FAILS": fails})
    machine.until(lambda: machine.enter("true").returncode == 70, "it failed")
    assert said in machine.enter("true").stderr
    machine.until(lambda: not (machine.state / "work.sh").exists(), "it tidied up")
    assert not (machine.state / "container.env").exists()


def test_docker_logs_in_by_standard_input_and_keeps_no_password(machine: StandIn) -> None:
    password = "it's $ecret\\ `x`"
    auth = RegistryAuth("mine", "ghcr.io", "me", password)
    machine.boot(vm(asked(image="ghcr.io/me/it", registry_auth=auth)).text)
    machine.until(lambda: machine.enter("true").returncode == 0, "the container is there")
    (login,) = machine.docker("login")
    assert login["argv"] == ["login", "-u", "me", "--password-stdin", "ghcr.io"]
    assert login["stdin"] == password
    machine.until(lambda: not (machine.state / "work.sh").exists(), "it tidied up")
    kept = [file.read_text() for file in machine.state.rglob("*") if file.is_file()]
    assert not any(password in text for text in kept)
    assert password not in repr(auth) + repr(asked(registry_auth=auth)) + repr(vm(asked()))
    assert password in secrets_of(asked(registry_auth=auth))


def test_our_keys_come_first_and_others_stay(machine: StandIn) -> None:
    (machine.home / ".ssh").mkdir()
    file = machine.home / ".ssh/authorized_keys"
    file.write_text(f"{KEY}\nssh-rsa AAAAforeign other\n")
    for _ in range(2):
        machine.boot(vm(asked(image="x")).text)
    first, second, end = file.read_text().split("\n")
    assert first.startswith('command="')
    assert first.endswith(KEY)
    assert (second, end) == ("ssh-rsa AAAAforeign other", "")
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("build", [container, vm])
def test_the_timer_ends_the_machine_at_its_expiry(machine: StandIn, build: object) -> None:
    boot = build(asked(), seconds_left=1.2, end="poweroff")  # type: ignore[operator] # as above
    machine.boot(boot.text)
    machine.until((machine.root / "power").exists, "it powered off")


def test_a_machine_without_expiry_has_no_timer() -> None:
    assert "expiry" not in vm(asked()).text


def test_the_time_that_is_left_is_told_by_the_expiry() -> None:
    spec = asked(expires_at=NONE + timedelta(hours=1))
    assert seconds_left(spec, NONE) == 3600
    assert seconds_left(asked(), NONE) is None


def test_a_container_without_sshd_is_given_one(machine: StandIn) -> None:
    machine.command("sshd", '#!/bin/sh\necho "$@" >"$HOME/sshd"\n')
    machine.command("ssh-keygen", "#!/bin/sh\n")
    machine.boot(container(asked(), sshd="recipe", then="echo then >~/then").text)
    assert "PermitUserEnvironment=yes" in (machine.home / "sshd").read_text()
    assert KEY in (machine.home / ".ssh/authorized_keys").read_text()
    assert (machine.home / "then").read_text() == "then\n"


def test_a_text_can_be_one_line_of_ascii(machine: StandIn) -> None:
    line = as_line(container(asked(env={"A": "ü\n"})).text)
    assert line.isascii()
    assert "\n" not in line
    subprocess.run(["sh", "-c", line], env=machine.environment(), check=True)
    assert machine.session("bash", "-c", "echo $A") == "ü\n"


def test_a_name_that_no_shell_can_hold_is_refused() -> None:
    with pytest.raises(Invalid, match="a variable's name"):
        container(asked(env={"A B": "x", "C": "\n"}, command="x"))


@pytest.mark.parametrize("program", ["curl", "python3", "wget"])
def test_a_machine_can_call_its_cloud_with_what_its_image_has(
    machine: StandIn, program: str
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed here")
    asked_for: list[tuple[str, str, str, bytes]] = []

    class Cloud(BaseHTTPRequestHandler):
        def do_DELETE(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            kind = self.headers["content-type"]
            asked_for.append((self.path, self.headers["authorization"], kind, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Cloud)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    alone = machine.root / "alone"
    alone.mkdir()
    real = sys.executable if program == "python3" else shutil.which(program) or ""
    (alone / program).symlink_to(real)
    for name in ("mktemp", "rm"):
        (alone / name).symlink_to(f"/usr/bin/{name}")
    call = web_call("DELETE", f"http://127.0.0.1:{server.server_port}/$ID/", "OWN_KEY")
    try:
        subprocess.run(
            ["/bin/sh", "-c", call],
            env={"PATH": str(alone), "ID": "7", "OWN_KEY": "k-1"},
            check=True,
            timeout=20,
        )
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert asked_for == [("/7/", "Bearer k-1", "application/json", b"{}")]
