"""User data, read and run as cloud-init does it."""

from __future__ import annotations

import base64
import gzip
import stat
from collections.abc import Awaitable, Callable
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from pathlib import Path

import pytest

from gpubroker.sandbox.cloud_init import CloudInit
from gpubroker.sandbox.filesystem import furnish, local_script
from gpubroker.sandbox.host import MachineSpec
from gpubroker.sandbox.shell import layout_of
from gpubroker.sandbox.user_data import BadUserData, read


def ran(told: list[tuple[str, str]]) -> Callable[[str, list[str]], Awaitable[int]]:
    """Runs nothing: keeps each script's interpreter and text."""

    async def execute(_log: str, argv: list[str]) -> int:
        told.append((" ".join(argv[:-1]), Path(argv[-1]).read_text()))
        return 0

    return execute


@pytest.fixture
def spec(tmp_path: Path) -> MachineSpec:
    made = MachineSpec(
        provider="lambda_labs",
        id="1",
        folder=tmp_path / "machine",
        hostname="rig",
        user="ubuntu",
        keys=("ssh-ed25519 AAAA cloud",),
        keys_in_home=True,
    )
    layout_of(made).make()
    furnish(made.folder, made)
    return made


def with_data(spec: MachineSpec, data: bytes) -> MachineSpec:
    from msgspec.structs import replace

    return replace(spec, user_data=data)


async def first_boot(spec: MachineSpec, data: bytes) -> list[tuple[str, str]]:
    told: list[tuple[str, str]] = []
    boot = CloudInit(with_data(spec, data))
    boot.before_login()
    await boot.run(ran(told))
    return told


async def test_a_script_runs_by_its_first_line_and_once_in_a_machines_life(
    spec: MachineSpec,
) -> None:
    data = b"#!/bin/bash -e\necho hello\n"
    assert await first_boot(spec, data) == [("/bin/bash -e", "#!/bin/bash -e\necho hello\n")]
    assert await first_boot(spec, data) == []
    assert (spec.folder / "var/lib/cloud/instance/boot-finished").exists()


CONFIG = """\
#cloud-config
packages: [htop]
colour: red
runcmd:
  - echo one
  - [printf, "%s", "two words"]
ssh_authorized_keys:
  - ssh-ed25519 BBBB mine
write_files:
  - path: /etc/app/plain
    content: "text: yes"
    permissions: "0600"
  - {path: /etc/app/packed, encoding: gz+b64, content: PACKED}
  - {path: /etc/app/plain, content: " and more", append: true, permissions: "0600"}
  - {path: /opt/late, content: late, defer: true}
bootcmd:
  - echo every boot
"""


async def test_cloud_config_writes_files_then_keys_then_runs_the_commands(
    spec: MachineSpec,
) -> None:
    packed = base64.b64encode(gzip.compress(b"unpacked")).decode()
    told = await first_boot(spec, CONFIG.replace("PACKED", packed).encode())
    etc = spec.folder / "etc/app"
    assert (etc / "plain").read_text() == "text: yes and more"
    assert stat.S_IMODE((etc / "plain").stat().st_mode) == 0o600
    assert (etc / "packed").read_text() == "unpacked"
    assert (spec.folder / "opt/late").read_text() == "late"
    boot, commands = told
    assert boot == ("/bin/sh", "#!/bin/sh\necho every boot\n")
    assert commands == ("/bin/sh", "#!/bin/sh\necho one\nprintf %s 'two words'\n")
    lines = layout_of(spec).authorized_keys.read_text().splitlines()
    assert lines == ["ssh-ed25519 AAAA cloud", "ssh-ed25519 BBBB mine"]
    log = (spec.folder / "logs/cloud-init-output.log").read_text()
    assert "packages: not in the sandbox" in log
    assert "colour: unknown to cloud-init" in log


async def test_boot_commands_alone_run_again_at_the_next_boot(spec: MachineSpec) -> None:
    data = b"#cloud-config\nbootcmd: [echo boot]\nruncmd: [echo once]\n"
    assert len(await first_boot(spec, data)) == 2
    again = await first_boot(spec, data)
    assert again == [("/bin/sh", "#!/bin/sh\necho boot\n")]


async def test_an_archive_runs_its_scripts_before_the_commands(spec: MachineSpec) -> None:
    archive = MIMEMultipart()
    for kind, text in (
        ("cloud-config", "#cloud-config\nruncmd: [echo last]\n"),
        ("x-shellscript", "#!/bin/sh\necho first\n"),
    ):
        archive.attach(MIMEText(text, kind))
    told = await first_boot(spec, archive.as_bytes())
    assert ["first" in text for _, text in told] == [True, False]


async def test_gzip_is_unpacked_and_base64_is_not(spec: MachineSpec) -> None:
    script = b"#!/bin/sh\ntrue\n"
    assert read(gzip.compress(script)).scripts == [script]
    plan = read(base64.b64encode(script))
    assert (plan.scripts, len(plan.ignored)) == ([], 1)
    with pytest.raises(BadUserData, match="no gzip"):
        read(b"\x1f\x8b broken")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"echo no first line", "Unhandled"),
        (b"#cloud-config\n- a list", "must be a mapping"),
        (b"#cloud-config\nruncmd: echo", "runcmd must be a list"),
        (b"#cloud-config\nwrite_files: [{content: x}]", "a path is missing"),
        (b"#cloud-config\nwrite_files: [{path: /x, permissions: rwx}]", "permissions 'rwx'"),
        (b"#cloud-config\n\tx: [", "Failed loading yaml"),
        (b"#cloud-config\nruncmd: [{a: b}]", "neither text nor list"),
    ],
)
async def test_what_cannot_be_read_is_told_in_the_log_and_harms_nothing(
    spec: MachineSpec, data: bytes, words: str
) -> None:
    assert await first_boot(spec, data) == []
    assert words in (spec.folder / "logs/cloud-init-output.log").read_text()


ROOT = Path("/srv/sandbox/m1")
PATHS = [
    ("echo x >> /etc/environment", "echo x >> {}/etc/environment"),
    ('cat "/etc/environment"', 'cat "{}/etc/environment"'),
    ("sh -c 'echo > /var/log/x'", "sh -c 'echo > {}/var/log/x'"),
    ("cat <<END >/root/x\n/opt/y\nEND", "cat <<END >{}/root/x\n{}/opt/y\nEND"),
    ("cp a /home/ubuntu/.ssh/", "cp a {}/home/ubuntu/.ssh/"),
    ("ls ~ubuntu/ ~root", "ls {}/home/ubuntu/ {}/root"),
    ("A=/run/x; B=/proc/uptime", "A={}/run/x; B={}/proc/uptime"),
    ("docker run -v /opt/a:/opt/b i", "docker run -v {}/opt/a:{}/opt/b i"),
    ("/usr/local/bin/surely-no-such-program", "{}/usr/local/bin/surely-no-such-program"),
]
NOT_PATHS = [
    "curl https://example.com/etc/environment",
    'echo "$r/etc/environment"',
    "ls ./etc ~/etc /etcetera /rooted /home/me /home/ubuntu2",
    "sed s/\\/etc\\/x// f",
    "cat /etc/ssl/certs/ca-certificates.crt",
    "#!/usr/bin/env bash",
    "cat /proc/cpuinfo",
    f"cat {ROOT}/home/ubuntu/x {ROOT}/etc/environment",
]


@pytest.mark.parametrize(("text", "meant"), PATHS)
def test_a_path_of_a_whole_computer_is_the_machines_own(text: str, meant: str) -> None:
    assert local_script(text, ROOT, "ubuntu") == meant.replace("{}", str(ROOT))


@pytest.mark.parametrize("text", NOT_PATHS)
def test_what_is_no_such_path_stays_as_it_is(text: str) -> None:
    assert local_script(text, ROOT, "ubuntu") == text


def test_a_folder_with_blanks_in_its_name_is_named_by_its_variable() -> None:
    text = local_script("cat /etc/environment", Path("/srv/my machines/1"), "root")
    assert text == 'cat "$GPUBROKER_ROOT"/etc/environment'
