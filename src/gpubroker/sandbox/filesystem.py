"""A machine's own file system, as far as it has one: folders that stand for a real one's.

A machine is a folder, not a root directory. Scripts name absolute paths all the same, and those
of this computer must not be touched: paths of the places below are made to mean the machine's.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from gpubroker.sandbox.host import MachineSpec

ROOT_VARIABLE = "GPUBROKER_ROOT"
"""Variable of every process of a machine; its value is the machine's folder."""

_FOLDERS = (
    "root", "run", "opt", "srv", "lambda", "usr/local/bin", "usr/local/sbin",
    "var/lib", "var/tmp", "var/cache", "var/spool", "proc/sys/kernel/random",
)  # fmt: skip
_LINKS = {"var/log": "../logs", "var/run": "../run"}
_SHARED_ETC = r"(?:ssl|alternatives|ld\.so|nsswitch|localtime)"
"""Read by programs of this computer that run in the machine; nothing writes there."""
_PLACES = (
    r"root|run|opt|srv|lambda|start\.sh|var/(?:lib|log|run|tmp|cache|spool)"
    "|proc/uptime|proc/sys/kernel/random/boot_id"
)
_BEFORE = r"""(?:(?<![\w./$})\]~*?"'\\%@-])|(?<=[\s=:<>|&;(,`"'\[{]["']))"""
_AFTER = r"""(?=[/\s"';|&)<>:,`}\]]|\Z)"""
_PLAIN = re.compile(r"[\w./@%+,:=-]+")


def furnish(root: Path, spec: MachineSpec) -> None:
    """Makes the folders and what scripts read in /etc where they are missing; programs anew."""
    for name in _FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name, target in _LINKS.items():
        link = root / name
        if not link.is_symlink():
            link.symlink_to(target)
    home = "/root" if spec.user == "root" else f"/home/{spec.user}"
    people = {"root": ("0", "/root"), spec.user: ("0" if spec.user == "root" else "1000", home)}
    texts = {
        "hostname": f"{spec.hostname}\n",
        "hosts": f"127.0.0.1 localhost\n127.0.1.1 {spec.hostname}\n",
        "os-release": 'NAME="Ubuntu"\nID=ubuntu\nVERSION_ID="22.04"\nVERSION_CODENAME=jammy\n',
        "passwd": "".join(f"{n}:x:{i}:{i}:{n}:{h}:/bin/bash\n" for n, (i, h) in people.items()),
        "group": "".join(f"{n}:x:{i}:\n" for n, (i, _) in people.items()) + "docker:x:999:\n",
    }
    for name, text in texts.items():
        file = root / "etc" / name
        if not file.exists():
            file.write_text(text)
    for path, text in spec.programs.items():
        file = inside(root, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)


def tell_boot(root: Path, boot_id: str) -> None:
    """A new boot has an id of its own."""
    (root / "proc/sys/kernel/random/boot_id").write_text(f"{boot_id}\n")


def tell_uptime(root: Path, seconds: float) -> None:
    """The machine's /proc/uptime: by it whatever waits in the machine waits in sandbox time."""
    fresh = root / "proc/uptime.new"
    fresh.write_text(f"{seconds:.2f} {seconds:.2f}\n")
    fresh.replace(root / "proc/uptime")


def inside(root: Path, path: str) -> Path:
    """Where an absolute path of a machine is on this computer; `..` does not lead out of it."""
    if path == str(root) or path.startswith(f"{root}/"):
        return Path(path)
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    return root.joinpath(*parts)


def local_script(text: str, root: Path, user: str) -> str:
    """The script, with the machine's own places meant where it names those of a whole computer.

    Without it a vendor's advice (append to /etc/environment, write to /var/log) would be carried
    out on this computer. A path that is in the machine's folder already stays as it is.
    """
    own = rf"etc(?!/{_SHARED_ETC}\b)|{_PLACES}"
    if user != "root":
        own += f"|home/{re.escape(user)}"
    home = "root" if user == "root" else f"home/{user}"
    prefix = str(root)
    meant = re.compile(
        rf"(?P<ours>{re.escape(prefix)}(?:/[^\s\"';|&)<>,`]*)?{_AFTER})"
        rf"|(?P<place>{_BEFORE}/(?:{own}){_AFTER})"
        rf"|(?P<tilde>(?<![\w/$}}\"'\\])~(?:root|{re.escape(user)}){_AFTER})"
        rf"|(?P<program>{_BEFORE}/usr/local/s?bin/[\w.-]+)"
    )
    # Literal where it can be: that holds in every kind of quotes and in here-documents.
    shown = prefix if _PLAIN.fullmatch(prefix) else f'"${ROOT_VARIABLE}"'

    def rewritten(found: re.Match[str]) -> str:
        text = found[0]
        if found["ours"] or (found["program"] and Path(text).exists()):
            return text
        if found["tilde"]:
            return f"{shown}/{'root' if text == '~root' else home}"
        return shown + text

    return meant.sub(rewritten, text)


def script_words(text: str) -> list[str]:
    """How a file with this text is run by its first line; [] where that names no interpreter."""
    first = text.partition("\n")[0].strip()
    return shlex.split(first[2:]) if first.startswith("#!") else []
