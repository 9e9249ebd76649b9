"""The shell text of which a boot consists: one function a step, each safe to run again.

All steps share the variables that a head sets: `u` login user, `h` its home, `d` our folder there.
Text for a container's own shell is POSIX sh; only a VM is known to have bash.
"""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Mapping
from shlex import quote

from gpubroker.model.errors import Invalid
from gpubroker.model.launch import LaunchSpec

_HERE = "$d/boot.sh"
_LONGEST_LINE = 900
"""Bytes: pam_env has read lines of 1 KiB."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHEBANG = "#!"

LATER = f'[ ! -f "{_HERE}" ] || . "{_HERE}"\n'
"""Runs what came over SSH after an earlier start."""


# Heads: where things are


def container_head() -> str:
    """For the container's own shell, whichever that is."""
    return """\
#!/bin/sh
umask 077; u=; h=${HOME:-/root}; d=$h/.gpubroker; r=${GPUBROKER_ROOT-}
mkdir -p "$d"
"""


def vm_head(user: str) -> str:
    """Some clouds make the login user while the script runs already: it is waited for."""
    return f"""\
#!/bin/bash
umask 077; r=${{GPUBROKER_ROOT-}}; n=0
while for u in {" ".join(map(quote, user.split()))}; do
h=$(getent passwd "$u" | cut -d: -f6); [ -z "$h" ] || break
done; [ -z "$h" ] && [ $n -lt 60 ]; do
n=$((n + 1)); sleep 1
done
[ -n "$h" ] || {{ u=root; h=${{HOME:-/root}}; }}
d=$h/.gpubroker; mkdir -p "$d"; chmod 711 "$d"
"""


CONTAINER_START = 'rm -rf "$d/ran"\n'
"""The text runs at starts only: what ran at the last one ended with it."""
VM_START = """\
b=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)
[ "$b" = "$(cat "$d/boot_id" 2>/dev/null)" ] || { rm -rf "$d/ran"; echo "$b" >"$d/boot_id"; }
"""
"""Some clouds run the text at every boot, some once, and a person may run it again."""


# How a text reaches the machine


def packed(body: str) -> str:
    """The body as one line that unpacks and runs it."""
    text = base64.b64encode(gzip.compress(body.encode(), mtime=0)).decode()
    return f'printf %s {text} | base64 -d | gzip -dc >"{_HERE}" && . "{_HERE}"\n'


def kept(body: str) -> str:
    """Writes the body to where LATER finds it, and runs it."""
    return f'{written("boot.sh", body).rstrip()} || exit 1\n. "{_HERE}"\n'


def over_ssh(script: str) -> str:
    """For the standard input of `sh`: read to its end before anything of it runs."""
    return from_file(script, "sh")


def over_ssh_as_root(script: str) -> str:
    """The same, by sudo where the login user is not root."""
    return from_file(script, "$s bash", AS_ROOT)


AS_ROOT = 's=; [ "$(id -u)" = 0 ] || s="sudo -n"\n'


def from_file(script: str, run: str, before: str = "", arguments: str = "") -> str:
    """`run` gets the script as a file, which is gone afterwards; its exit code stays."""
    return f"""\
umask 077; {before}f=$(mktemp) || exit
printf %s {quote(script)} >"$f" || exit
{run} "$f"{arguments}; c=$?; rm -f "$f"; exit $c
"""


def written(name: str, text: str) -> str:
    """The text as a file of our folder, whole or not at all."""
    return f'printf %s {quote(text)} >"$d/{name}.new" && mv "$d/{name}.new" "$d/{name}"\n'


# Variables

_ETC_ENVIRONMENT = """\
e=$r/etc; e=$e/environment; mkdir -p "${e%/*}"
{ [ ! -f "$e" ] || sed '/^# gpubroker begin$/,/^# gpubroker end$/d;/^$/d' "$e"
printf '%s\\n' '' '# gpubroker begin' LINES '# gpubroker end'; } >"$d/etc"
cat "$d/etc" >"$e"; rm -f "$d/etc"
"""
_SHELL_FILES = """\
[ -z "$u" ] || chown "$u" "$d/session.sh" 2>/dev/null
for f in .profile .bash_profile .bashrc; do
if [ -f "$h/$f" ] || [ $f != .bash_profile ] && ! grep -qs gpubroker/session "$h/$f"; then
{ echo '. "$HOME/.gpubroker/session.sh"'; cat "$h/$f" 2>/dev/null; } >"$d/shell"
cat "$d/shell" >"$h/$f"; chmod 644 "$h/$f"; [ -z "$u" ] || chown "$u" "$h/$f" 2>/dev/null
fi
done; rm -f "$d/shell"
"""
"""First in the file: what follows is often for terminals only."""


def session_variables(spec: LaunchSpec) -> str:
    """What SSH sessions see: /etc/environment, and for the rest a file that shells read."""
    if not spec.env:
        return ""
    plain = {name: value for name, value in spec.env.items() if _fits_etc_environment(value)}
    rest = {name: value for name, value in spec.env.items() if name not in plain}
    lines = [quote(f"{name}={_in_quotes(value)}") for name, value in plain.items()]
    text = ""
    if rest:
        # A session's own change of a variable is not undone by the scripts that it runs.
        once = '[ -n "${GPUBROKER_SESSION-}" ] || {\nexport GPUBROKER_SESSION=1\n'
        text = written("session.sh", f"{once}{exports(rest)}}}\n") + _SHELL_FILES
        lines.append('"BASH_ENV=$d/session.sh"')
    return text + _ETC_ENVIRONMENT.replace("LINES", " ".join(lines))


def _fits_etc_environment(value: str) -> bool:
    """Old readers of that file end a value at `#`, and none knows more than one line."""
    return (
        value.isprintable()
        and not {"#"} & set(value)
        and not ("'" in value and set('"$`\\') & set(value))
        and not value.endswith("\\")
        and len(value.encode()) <= _LONGEST_LINE
    )


def _in_quotes(value: str) -> str:
    # Either pair does for who logs in; single quotes keep a shell that reads it from expanding.
    mark = "'" if set('"$`\\') & set(value) else '"'
    return f"{mark}{value}{mark}"


def exports(env: Mapping[str, str]) -> str:
    """For a shell to read, whatever the values hold."""
    return "".join(f"export {checked_name(name)}={quote(value)}\n" for name, value in env.items())


def checked_name(name: str) -> str:
    """The one thing that stands in a shell text unquoted."""
    if _NAME.fullmatch(name):
        return name
    error = Invalid("a variable's name is of letters, digits and underscores")
    error.field = "env"
    raise error


# SSH


_ADMIT = """\
mkdir -p "$h/.ssh"; a=$h/.ssh/authorized_keys; touch "$a"
{ for k in KEYS; do printf '%s\\n' "PREFIX$k"; done
grep -vF BODIES "$a"; } >"$d/keys"
cat "$d/keys" >"$a"; rm -f "$d/keys"; chmod 600 "$a"; chmod 700 "$h/.ssh"
[ -z "$u" ] || chown "$u" "$h/.ssh" "$a" 2>/dev/null || :
"""
_FORCED = """command=\\"sh '$d/enter'\\" """


def admitted(spec: LaunchSpec, *, forced: bool) -> str:
    """The keys, before all others: the first line of a key is the one that counts."""
    keys = [key.strip() for key in spec.ssh_keys if key.strip()]
    if not keys:
        return ""
    bodies = " ".join(f"-e {quote(key.split()[1])}" for key in keys if " " in key)
    return filled(
        _ADMIT,
        PREFIX=_FORCED if forced else "",
        KEYS=" ".join(map(quote, keys)),
        BODIES=bodies,
    )


_SSHD = """\
command -v sshd >/dev/null || if command -v apt-get >/dev/null; then
apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq openssh-server
elif command -v dnf >/dev/null; then dnf install -y -q openssh-server
elif command -v apk >/dev/null; then apk add -q openssh
fi >"$d/boot.log" 2>&1
[ -s "$d/host_key" ] || ssh-keygen -q -t ed25519 -N '' -f "$d/host_key"
mkdir -p "$r/run/sshd"
printf 'PATH=%s\\n' "$PATH" >"$h/.ssh/environment"
"$(command -v sshd || echo /usr/sbin/sshd)" -h "$d/host_key" -o PermitUserEnvironment=yes \
-o PermitRootLogin=prohibit-password -o PasswordAuthentication=no
"""
"""With a host key of our own: images must not share theirs."""


def ssh_server(spec: LaunchSpec) -> str:
    """An SSH server in a container whose cloud starts none."""
    return admitted(spec, forced=False) + _SSHD


# Startup script and command, on the machine itself


def work_on_machine(spec: LaunchSpec) -> str:
    """Both beside the machine's SSH server, one after the other, once in a start."""
    parts = []
    if spec.startup_script:
        parts.append(_step(run_file(spec.startup_script, '"$d/startup"'), "startup.log"))
    if spec.command:
        parts.append(_step(f"exec /bin/sh -c {quote(spec.command)}", "command.log"))
    if not parts:
        return ""
    script = 'd=$1; cd "$2"\n' + "".join(parts)
    return (
        startup_file(spec)
        + written("env.sh", exports(spec.env))
        + written("work.sh", script)
        + ONCE.replace("WORK", '/bin/sh "$d/work.sh" "$d" "$h"')
    )


ONCE = """\
if mkdir "$d/ran" 2>/dev/null; then
nohup WORK </dev/null >>"$d/boot.log" 2>&1 &
fi
"""


def _step(run: str, log: str) -> str:
    """In a shell of its own: its PATH may be anything."""
    return f'( . "$d/env.sh"\n{run} ) >>"$d/{log}" 2>&1\n'


def startup_file(spec: LaunchSpec) -> str:
    """The startup script, byte for byte."""
    if not spec.startup_script:
        return ""
    return written("startup", spec.startup_script) + 'chmod 700 "$d/startup"\n'


def run_file(script: str, file: str) -> str:
    """By its own first line, else by the best shell there is."""
    if script.startswith(_SHEBANG):
        return f"exec {file}"
    return f"b=/bin/sh; [ ! -x /bin/bash ] || b=/bin/bash; exec $b {file}"


def filled(template: str, **words: str) -> str:
    """Each word of the template once, so that what is filled in is never filled in again."""
    names = sorted(words, key=len, reverse=True)
    return re.sub("|".join(names), lambda found: words[found.group()], template)
