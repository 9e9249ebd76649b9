"""Keys: one per store whatever happens, and nothing secret ever repeated."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gpubroker.remote.keys import broker_key, check_public_key, user_keys

PrivateKey = Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def public_line(key: PrivateKey | None = None, comment: str = "") -> str:
    line = (
        (key or Ed25519PrivateKey.generate())
        .public_key()
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    )
    return f"{line.decode()} {comment}".strip()


def private_pem() -> str:
    return (
        Ed25519PrivateKey.generate()
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
        .decode()
    )


def test_the_broker_key_is_private_and_carries_the_owner(tmp_path: Path) -> None:
    key = broker_key(tmp_path / "ssh", "abc234")
    assert stat.S_IMODE(key.private_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.private_path.parent.stat().st_mode) == 0o700
    assert key.public_line.startswith("ssh-ed25519 ")
    assert key.public_line.endswith(" gb-abc234")


def test_ssh_keygen_derives_the_same_public_key(tmp_path: Path) -> None:
    key = broker_key(tmp_path, "abc234")
    derived = subprocess.run(
        ["ssh-keygen", "-y", "-f", str(key.private_path)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert derived.split()[:2] == key.public_line.split()[:2]


def test_the_key_is_made_once(tmp_path: Path) -> None:
    assert broker_key(tmp_path, "abc234") == broker_key(tmp_path, "abc234")
    assert broker_key(tmp_path, "zzz234").public_line != broker_key(tmp_path, "abc234").public_line


def test_a_crash_between_the_two_files_heals(tmp_path: Path) -> None:
    before = broker_key(tmp_path, "abc234")
    (tmp_path / "gb-abc234.pub").unlink()
    assert broker_key(tmp_path, "abc234") == before


def test_processes_that_start_at_once_end_with_one_key(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        keys = pool.starmap(broker_key, [(tmp_path, "abc234")] * 8)
    assert len({key.public_line for key in keys}) == 1
    assert not list(tmp_path.glob(".gb-*")), "a temporary file was left"


@pytest.mark.parametrize(
    "line",
    [
        public_line(),
        public_line(comment="me@laptop"),
        public_line(rsa.generate_private_key(65537, 2048)),
        public_line(ec.generate_private_key(ec.SECP384R1())),
    ],
    ids=("plain", "with a comment", "rsa", "ecdsa"),
)
def test_plain_public_keys_pass(line: str) -> None:
    assert check_public_key(f"  {line.replace(' ', '   ')}\n") == line


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "empty"),
        ("hello", "not an SSH public key"),
        ("ssh-ed25519", "no data"),
        ("ssh-ed25519 !!!", "not base64"),
        (public_line()[:60], "cut"),
        (public_line().replace("ssh-ed25519", "ssh-rsa"), "another kind|incomplete"),
        (public_line() + "\nssh-ed25519 AAAA", "one line"),
        ('command="x" ' + public_line(), "options"),
        ("ssh-dss AAAA", "DSA"),
        ("ssh-ed25519-cert-v01@openssh.com AAAA", "certificate"),
        (public_line() + " a\x1b[2Jb", "printable"),
    ],
    ids=lambda text: text[:12],  # the keys are made anew in each process
)
def test_anything_else_is_refused_with_the_reason(line: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_public_key(line)


def test_a_private_key_is_refused_and_never_repeated() -> None:
    pem = private_pem()
    secret = pem.splitlines()[1]
    for pasted in (pem, pem.replace("\n", " "), secret, f"ssh-ed25519 {secret}"):
        with pytest.raises(ValueError, match=r"private|not an SSH|cut") as refused:
            check_public_key(pasted)
        assert secret[:16] not in str(refused.value)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[dict[str, str]]:
    if shutil.which("ssh-agent") is None:
        pytest.skip("no ssh-agent on this machine")
    # Short: a socket's path may have some 100 characters only.
    folder = Path(os.path.realpath("/tmp")) / f"gb-agent-{os.getpid()}"
    folder.mkdir(mode=0o700)
    socket = folder / "s"
    process = subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()  # printed once the socket listens
    yield {**os.environ, "SSH_AUTH_SOCK": str(socket), "HOME": str(tmp_path)}
    process.terminate()
    process.communicate(timeout=10)
    shutil.rmtree(folder)


def test_the_agents_keys_come_first(agent: dict[str, str], tmp_path: Path) -> None:
    held = broker_key(tmp_path / "held", "abc234")
    (tmp_path / ".ssh").mkdir()
    on_disk = public_line(comment="file")
    (tmp_path / ".ssh" / "id.pub").write_text(on_disk)
    assert user_keys(agent) == (on_disk,), "an empty agent leaves the files"
    subprocess.run(
        ["ssh-add", "-q", str(held.private_path)], env=agent, check=True, capture_output=True
    )
    assert [key.split()[1] for key in user_keys(agent)] == [held.public_line.split()[1]]


def test_without_an_agent_the_files_are_read_and_odd_ones_passed_over(tmp_path: Path) -> None:
    ssh = tmp_path / ".ssh"
    ssh.mkdir()
    good = public_line(comment="me")
    (ssh / "a.pub").write_text(good + "\n")
    (ssh / "b.pub").write_text(good + "\n")
    (ssh / "c-cert.pub").write_text("ssh-ed25519-cert-v01@openssh.com AAAA x\n")
    (ssh / "d.pub").write_bytes(b"\xff\xfe")
    (ssh / "e.pub").mkdir()
    environ = {"HOME": str(tmp_path), "SSH_AUTH_SOCK": str(tmp_path / "gone"), "PATH": "/usr/bin"}
    assert user_keys(environ) == (good,)
    assert user_keys({"HOME": str(tmp_path / "nowhere")}) == ()
