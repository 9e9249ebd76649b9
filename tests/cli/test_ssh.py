"""`ssh`: exit codes pass through, and 125 means that nothing was started."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from gpubroker.model.errors import WrongState

# As the real one: what is to be done once it is let in is an option, then the command runs.
FAKE_SSH = """#!/bin/sh
printf '%s\\n' "$@" > "$ARGUMENTS"
[ -n "$REFUSED" ] && exit 255
for argument in "$@"; do
    case "$argument" in LocalCommand=*) sh -c "${argument#LocalCommand=}" ;; esac
done
exit "$CODE"
"""


@pytest.fixture
def fake_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for ssh on the PATH; the file of the arguments it was given."""
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(FAKE_SSH)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setenv("ARGUMENTS", str(tmp_path / "arguments"))
    monkeypatch.setenv("REFUSED", "")
    return tmp_path / "arguments"


@pytest.mark.parametrize("code", [0, 1, 7, 125, 255])
def test_the_exit_code_of_the_command_is_passed_on(
    run: Any, fake_ssh: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setenv("CODE", str(code))
    assert run("ssh", "train-1", "--", "nvidia-smi", "--json").code == code
    given = fake_ssh.read_text().splitlines()
    assert given[-3:] == ["gb-train-1", "--", "nvidia-smi --json"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--", "docker", "ps"), "GPUBROKER_HOST=1 docker ps"),
        (("--", "docker ps; df"), "GPUBROKER_HOST=1 docker ps; df"),
        ((), 'GPUBROKER_HOST=1 exec "$SHELL" -l'),
    ],
)
def test_host_means_the_vm_and_not_the_container_on_it(
    run: Any,
    fake_ssh: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    line: str,
) -> None:
    monkeypatch.setenv("CODE", "0")
    assert run("ssh", "--host", "train-1", *words).code == 0
    given = fake_ssh.read_text().splitlines()
    assert given[-3:] == ["gb-train-1", "--", line]
    assert ("-t" in given) is (not words)


def test_a_machine_that_is_not_reached_exits_125(
    run: Any, fake_ssh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUSED", "yes")
    ran = run("ssh", "train-1", "--", "true")
    assert ran.code == 125
    assert ran.err.startswith("gpubroker: train-1 was not reached")
    assert ran.out == ""


def test_what_fails_before_ssh_exits_125_too(run: Any, world: Any, fake_ssh: Path) -> None:
    unknown = run("ssh", "nobody", "--", "true")
    assert (unknown.code, unknown.out) == (125, "")
    assert unknown.err.startswith("gpubroker: no machine is called 'nobody'")
    world.fails["endpoint"] = WrongState("train-1 is stopped")
    assert run("ssh", "train-1").code == 125
    assert not fake_ssh.exists()


def test_without_an_ssh_program_it_is_said_what_to_install(
    run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = run("ssh", "train-1")
    assert ran.code == 125
    assert "openssh-client" in ran.err


def test_the_address_is_read_again_first(
    run: Any, world: Any, fake_ssh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODE", "0")
    run("ssh", "train-1")
    assert world.verbs() == ["machines", "endpoint"]


def test_json_tells_the_command_line_and_cannot_stand_beside_a_command(run: Any) -> None:
    told = run("ssh", "train-1", "--json").json
    assert told["argv"][0] == "ssh"
    assert told["argv"][-1] == "gb-train-1"
    assert run("ssh", "train-1", "--json", "--", "ls").code == 2
