"""The configuration is read by the real ssh, and nothing a provider says gets out of its field."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from gpubroker.model.instance import Endpoint
from gpubroker.remote.keys import broker_key
from gpubroker.remote.known_hosts import forget_host, pin_host, pinned
from gpubroker.remote.ssh_config import HostEntry, include_in_user_config, write_config

ALIAS = "gb-abc234-aaaaaaaaaaaaaaaa"


def entry(
    name: str = "box",
    *,
    host: str = "203.0.113.9",
    port: int = 40022,
    user: str = "root",
    alias: str = ALIAS,
    proxy: str | None = None,
    identity: Path | None = None,
) -> HostEntry:
    return HostEntry(
        name=name,
        alias=alias,
        endpoint=Endpoint(host, port, user, proxy=proxy),
        identity=identity,
    )


def as_ssh_reads_it(config: Path, host: str) -> dict[str, list[str]]:
    printed = subprocess.run(
        ["ssh", "-G", "-F", str(config), host], capture_output=True, text=True, check=True
    ).stdout
    options: dict[str, list[str]] = {}
    for line in printed.splitlines():
        keyword, _, value = line.partition(" ")
        options.setdefault(keyword, []).append(value)
    return options


def test_ssh_reads_every_option_as_written(tmp_path: Path) -> None:
    folder = tmp_path / "a folder with 100% spaces"
    key = folder / "gb-abc234"
    config = write_config(
        folder,
        [entry(identity=key), entry("other", host="2001:db8::7", port=22, user="ubuntu")],
    )
    box = as_ssh_reads_it(config, "gb-box")
    assert box["hostname"] == ["203.0.113.9"]
    assert box["port"] == ["40022"]
    assert box["user"] == ["root"]
    assert box["identitiesonly"] == ["yes"]
    assert box["hostkeyalias"] == [ALIAS]
    assert box["stricthostkeychecking"] == ["accept-new"]
    assert box["hashknownhosts"] == ["no"]
    assert box["forwardagent"] == ["no"]
    assert box["identityfile"] == [str(key).replace("%", "%%")]
    assert box["userknownhostsfile"] == [str(folder / "known_hosts")], "shown as expanded"
    other = as_ssh_reads_it(config, "gb-other")
    assert other["hostname"] == ["2001:db8::7"]
    assert other["identitiesonly"] == ["no"], "an adopted machine is reached with the user's keys"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600


def test_writing_again_replaces_what_was_there(tmp_path: Path) -> None:
    write_config(tmp_path, [entry("old")])
    text = write_config(tmp_path, [entry("new")]).read_text()
    assert "gb-old" not in text
    assert text.count("Host gb-new") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["config"]


@pytest.mark.parametrize(
    "host",
    [
        "-oProxyCommand=id",
        "a b",
        "a\nProxyCommand id",
        "%h",
        "",
        'a"b',
        "fe80::1%eth0",
        "a\n",
        "é",
        "$(id)",
    ],
)
def test_hostile_hosts_are_refused(host: str) -> None:
    with pytest.raises(ValueError, match="host"):
        entry(host=host)


@pytest.mark.parametrize("user", ["", "-l", "root\nProxyCommand id", "a b", "%u", "root\n"])
def test_hostile_users_are_refused(user: str) -> None:
    with pytest.raises(ValueError, match="user"):
        entry(user=user)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_impossible_ports_are_refused(port: int) -> None:
    with pytest.raises(ValueError, match="port"):
        entry(port=port)


@pytest.mark.parametrize("proxy", ["-J", "a b", "a,b", "a\nb", "a:x"])
def test_hostile_jump_hosts_are_refused(proxy: str) -> None:
    with pytest.raises(ValueError, match="jump host"):
        entry(proxy=proxy)


@pytest.mark.parametrize("name", ["*", "a b", "!x", "", "x\nHost *"])
def test_names_that_ssh_reads_as_patterns_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="machine name"):
        entry(name)


def test_a_jump_host_reaches_ssh(tmp_path: Path) -> None:
    config = write_config(tmp_path, [entry(proxy="me@jump.example.com:2200")])
    assert as_ssh_reads_it(config, "gb-box")["proxyjump"] == ["me@jump.example.com:2200"]


def test_include_makes_a_private_configuration(tmp_path: Path) -> None:
    ours = write_config(tmp_path / "ours", [entry()])
    user = tmp_path / ".ssh"
    assert include_in_user_config(user, ours)
    assert stat.S_IMODE((user / "config").stat().st_mode) == 0o600
    assert stat.S_IMODE(user.stat().st_mode) == 0o700
    assert as_ssh_reads_it(user / "config", "gb-box")["port"] == ["40022"]


def test_include_stands_once_at_the_top_and_keeps_the_rest(tmp_path: Path) -> None:
    ours = write_config(tmp_path / "our files", [entry()])
    user = tmp_path / ".ssh"
    user.mkdir()
    former = b"Host *\r\n  User someone\r\n  ForwardAgent yes\n\xff"
    (user / "config").write_bytes(former.replace(b"\n\xff", b"\n# \xff"))
    before = (user / "config").read_bytes()
    (user / "config").chmod(0o640)
    assert include_in_user_config(user, ours)
    assert not include_in_user_config(user, ours)
    after = (user / "config").read_bytes()
    assert after == f'Include "{ours}"\n'.encode() + before
    assert stat.S_IMODE((user / "config").stat().st_mode) == 0o640
    assert [path.name for path in user.iterdir()] == ["config"]
    box = as_ssh_reads_it(user / "config", "gb-box")
    assert (box["user"], box["forwardagent"]) == (["root"], ["no"]), "ours come before Host *"
    assert as_ssh_reads_it(user / "config", "elsewhere")["user"] == ["someone"]


def test_include_changes_a_linked_configuration_where_it_lies(tmp_path: Path) -> None:
    ours = write_config(tmp_path / "ours", [entry()])
    dotfiles = tmp_path / "dotfiles" / "ssh_config"
    dotfiles.parent.mkdir()
    dotfiles.write_text("Host x\n")
    user = tmp_path / ".ssh"
    user.mkdir()
    (user / "config").symlink_to(dotfiles)
    assert include_in_user_config(user, ours)
    assert (user / "config").is_symlink()
    assert dotfiles.read_text().startswith("Include ")


def test_a_path_that_ssh_would_misread_is_refused(tmp_path: Path) -> None:
    for name in ("a*", "a[b]", 'a"b', "a${HOME}"):
        with pytest.raises(ValueError, match="path"):
            include_in_user_config(tmp_path / ".ssh", tmp_path / name / "config")
    assert not (tmp_path / ".ssh").exists()


def test_forgetting_a_machine_leaves_the_others_pinned(tmp_path: Path) -> None:
    one = broker_key(tmp_path / "k", "aaaaaa").public_line
    two = broker_key(tmp_path / "k", "bbbbbb").public_line
    pin_host(tmp_path, ALIAS, one)
    pin_host(tmp_path, ALIAS, one)
    pin_host(tmp_path, ALIAS + "x", two)
    assert pinned(tmp_path, ALIAS) == (" ".join(one.split()[:2]),)
    forget_host(tmp_path, ALIAS)
    forget_host(tmp_path, "never-seen")
    assert pinned(tmp_path, ALIAS) == ()
    assert len(pinned(tmp_path, ALIAS + "x")) == 1
    assert stat.S_IMODE((tmp_path / "known_hosts").stat().st_mode) == 0o600
