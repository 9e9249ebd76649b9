"""SSH keys: the store's own, and the user's."""

from __future__ import annotations

import base64
import binascii
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from msgspec import Struct

from gpubroker.remote.files import private_folder, replace_file

AGENT_DEADLINE_S = 3.0
_FIELDS = {
    "ssh-ed25519": 1,
    "ssh-rsa": 2,
    "ecdsa-sha2-nistp256": 2,
    "ecdsa-sha2-nistp384": 2,
    "ecdsa-sha2-nistp521": 2,
    "sk-ssh-ed25519@openssh.com": 2,
    "sk-ecdsa-sha2-nistp256@openssh.com": 3,
}
"""Kinds of public key that machines admit -> fields behind the kind in the blob (RFC 4253, 6.6)."""


class BrokerKey(Struct, frozen=True):
    """The store's own key pair; the private half stays in its file."""

    private_path: Path
    public_line: str


def broker_key(
    folder: Path, owner: str, agree: Callable[[bytes], bytes] = lambda private: private
) -> BrokerKey:
    """The store's ed25519 key, made on first use with the comment `gb-<owner>`.

    Private half 0600 in `folder`. Two processes at once end with one key. `agree`: of a private
    half that this computer made, the one that all computers on the same store use.
    """
    private = folder / f"gb-{owner}"
    public = folder / f"gb-{owner}.pub"
    if not (private.exists() and public.exists()):
        from filelock import FileLock

        private_folder(folder)
        with FileLock(folder / "keys.lock", timeout=30):
            if not private.exists():
                replace_file(private, agree(_new_private_key()))
            # Derived from the private half each time: a crash between the two files heals itself.
            if not public.exists():
                line = f"{_public_half(private.read_bytes())} gb-{owner}\n"
                replace_file(public, line.encode())
    return BrokerKey(private, check_public_key(public.read_text()))


def _new_private_key() -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )


def _public_half(private: bytes) -> str:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_ssh_private_key(private, password=None)
    line = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return line.decode()


def user_keys(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Public keys of the user: those of the agent, else of ~/.ssh/*.pub; () where there are none.

    What is no plain public key (certificates, retired kinds) is left out.
    """
    return _plain(_agent_lines(environ)) or _plain(_file_lines(environ))


def _agent_lines(environ: Mapping[str, str]) -> list[str]:
    if not environ.get("SSH_AUTH_SOCK"):
        return []
    try:
        asked = subprocess.run(
            ["ssh-add", "-L"],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=AGENT_DEADLINE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return asked.stdout.decode(errors="replace").splitlines() if asked.returncode == 0 else []


def _file_lines(environ: Mapping[str, str]) -> list[str]:
    home = environ.get("HOME")
    lines: list[str] = []
    for path in sorted((Path(home) if home else Path.home()).glob(".ssh/*.pub")):
        try:
            lines += path.read_text(errors="replace").splitlines()
        except OSError:
            continue
    return lines


def _plain(lines: Iterable[str]) -> tuple[str, ...]:
    found: dict[str, str] = {}
    for line in lines:
        try:
            key = check_public_key(line)
        except ValueError:
            continue
        found.setdefault(key.split()[1], key)
    return tuple(found.values())


def check_public_key(line: str) -> str:
    """The line as `kind blob comment`, single-spaced.

    Raises ValueError that says what is wrong and never repeats the text: it may hold a secret.
    """
    if "PRIVATE KEY" in line:
        raise ValueError("this is a private key; give the public one (the .pub file)")
    text = line.strip()
    if not text:
        raise ValueError("the public key is empty")
    if not text.isprintable():
        raise ValueError("a public key is one line of printable text")
    kind, *rest = text.split()
    if kind not in _FIELDS:
        raise ValueError(_why_not(kind, rest))
    if not rest:
        raise ValueError(f"the {kind} key has no data behind its kind")
    try:
        blob = base64.b64decode(rest[0], validate=True)
    except binascii.Error:
        raise ValueError(f"the data of the {kind} key is not base64: it may be cut") from None
    fields = _fields(blob)
    if fields is None or len(fields) != _FIELDS[kind] + 1:
        raise ValueError(f"the data of the {kind} key is incomplete: it may be cut")
    if fields[0] != kind.encode():
        raise ValueError(f"the data behind {kind} is of another kind of key")
    return " ".join([kind, *rest])


def _why_not(kind: str, rest: list[str]) -> str:
    if kind == "ssh-dss":
        return "DSA keys are no longer admitted by SSH servers; use an ed25519 key"
    if "-cert-v01@" in kind:
        return "this is a certificate; give the plain public key"
    if any(word in _FIELDS for word in rest):
        return "options before the key are not supported; start with its kind"
    return "not an SSH public key: it starts with its kind, such as ssh-ed25519"


def _fields(blob: bytes) -> list[bytes] | None:
    """The length-prefixed strings of a key blob, None where a length does not fit."""
    found: list[bytes] = []
    while blob:
        size = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 + size:
            return None
        found.append(blob[4 : 4 + size])
        blob = blob[4 + size :]
    return found
