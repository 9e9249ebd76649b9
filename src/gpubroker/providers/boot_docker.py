"""The container on a VM: Docker runs it, and logins land inside."""

from __future__ import annotations

from shlex import quote
from typing import Literal

from gpubroker.model.entrance import CONTAINER_MARK, FAILED, HOST_MARKER, NOT_READY
from gpubroker.model.launch import LaunchSpec
from gpubroker.providers.boot_text import (
    ONCE,
    checked_name,
    exports,
    filled,
    run_file,
    startup_file,
    written,
)

_CONTAINER = "gpubroker"
_SSH_PORT = 22
_LONGEST_LINE = 60_000
"""Characters: docker reads lines of an --env-file of 64 KiB."""
_SFTP = """\
for f in "$(command -v sftp-server)" /usr/lib/openssh/sftp-server /usr/lib/ssh/sftp-server \
/usr/libexec/openssh/sftp-server /usr/libexec/sftp-server /tmp/.gpubroker-sftp-server
do [ ! -x "$f" ] || """
_ENTER = f"""\
#!/bin/sh
c=${{SSH_ORIGINAL_COMMAND-}}; d=${{0%/*}}
case $c in "{HOST_MARKER} "*) exec "${{SHELL:-/bin/sh}}" -c "$c";; esac
s=$(cat "$d/state" 2>/dev/null)
case $s in
running) ;;
failed*) echo "gpubroker: $s" >&2; exit {FAILED};;
*) echo "gpubroker: ${{s:-the machine is being set up}}" >&2; exit {NOT_READY};;
esac
case $c in *sftp-server*|internal-sftp*) c={quote(f'{_SFTP}exec "$f"; done; exit 127')};; esac
s=; [ "$(id -u)" = 0 ] || s="sudo -n"
t=; [ ! -t 0 ] || t=-t
exec $s docker exec -i $t -e "TERM=${{TERM:-dumb}}" {_CONTAINER} sh -c '
b=sh; ! command -v bash >/dev/null || b=bash
[ -z "$1" ] || exec $b -c "$1"
exec $b' sh "$c"
"""


def entrance() -> str:
    """The forced command of the admitted keys: into the container, or what it waits for."""
    return written("enter", _ENTER) + 'chmod 755 "$d/enter"\n'


_GPUS = {
    "nvidia": "--gpus all",
    "amd": "--device /dev/kfd --device /dev/dri --group-add video",
    "none": "",
}
_DOCKER = """\
d=$1
say() {
printf '%s\\n' "$1" >"$d/state.new"; chmod 644 "$d/state.new"; mv "$d/state.new" "$d/state"
}
forget() { rm -rf "$d/docker" "$d/container.env" "$d/work.sh"; }
fail() { say "failed: $1"; forget; exit 1; }
command -v docker >/dev/null || fail "this VM has no Docker"
n=0; until docker info >/dev/null 2>&1 || [ $n -ge 60 ]; do n=$((n + 1)); sleep 2; done
if docker inspect CONTAINER >/dev/null 2>&1; then
docker start CONTAINER; say running; forget; exit 0
fi
say PULLING
LOGIN
n=0; until docker pull -q IMAGE </dev/null; do
n=$((n + 1)); [ $n -lt 3 ] || fail NOT_PULLED; sleep 5
done
rm -rf "$d/docker"; unset DOCKER_CONFIG
say STARTING
(
VARIABLES
exec docker run -d --name CONTAINER --restart unless-stopped --ipc=host OPTIONS \
--env-file "$d/container.env" IMAGE_AND_ARGUMENTS ) </dev/null || fail NOT_STARTED
rm -f "$d/container.env"
SFTP docker cp -L "$f" CONTAINER:/tmp/.gpubroker-sftp-server && break; done 2>/dev/null
STARTUP
say running
forget
"""
_LOGIN = """\
export DOCKER_CONFIG="$d/docker"
printf %s PASSWORD | docker login -u USERNAME --password-stdin SERVER >/dev/null || fail REFUSED
"""
_GIVE_STARTUP = """\
docker exec -i CONTAINER sh -c 'd=${TMPDIR:-/tmp}/.gpubroker; mkdir -p "$d" && cat >"$d/startup" \
&& chmod 700 "$d/startup" && : >"$d/ready"' <"$d/startup" ||
fail "the startup script did not arrive"
"""
_INSIDE = "d=${TMPDIR:-/tmp}/.gpubroker\n"


def work_in_container(spec: LaunchSpec, gpus: Literal["nvidia", "amd", "none"]) -> str:
    """Pulls and runs the image, beside whoever waits for it; the state is kept for `entrance`."""
    image = spec.image or ""
    in_file = {n: v for n, v in spec.env.items() if _fits_docker_line(v)}
    by_name = {n: v for n, v in spec.env.items() if n not in in_file}
    options = [
        _GPUS[gpus],
        f"-e {CONTAINER_MARK}=1",
        *(f"-e {checked_name(name)}" for name in by_name),
    ]
    published = [port for port in spec.ports if port != (_SSH_PORT, "tcp")]
    options += [f"-p {port}:{port}{'/udp' * (protocol == 'udp')}" for port, protocol in published]
    run = run_file(spec.startup_script, '"$d/startup"')
    script = f'( {run} ) </dev/null >>"$d/startup.log" 2>&1\n' if spec.startup_script else ""
    if spec.command:
        # As on rented containers: the command may end, and SSH still has where to land.
        awaited = 'until [ -e "$d/ready" ]; do sleep 1; done\n' if script else ""
        inside = f'{_INSIDE}{awaited}{script}sh -c "$1"\nexec tail -f /dev/null'
        options.append("--init --entrypoint sh")
        arguments = f"{quote(image)} -c {quote(inside)} sh {quote(spec.command)}"
        beside = ""
    else:
        # A terminal keeps images alive whose own command is a shell.
        options.append("-it")
        arguments = quote(image)
        beside = f"docker exec -d {_CONTAINER} sh -c {quote(_INSIDE + script)} </dev/null &\n"
    auth = spec.registry_auth
    login = auth and filled(
        _LOGIN,
        PASSWORD=quote(auth.password),
        USERNAME=quote(auth.username),
        SERVER=quote(auth.server),
        REFUSED=quote(f"{auth.server} refused the login {auth.name}"),
    )
    work = filled(
        _DOCKER,
        CONTAINER=_CONTAINER,
        PULLING=quote(f"pulling {image}"),
        LOGIN=login or "",
        NOT_PULLED=quote(f"the image {image} could not be pulled"),
        STARTING=quote(f"starting {image}"),
        VARIABLES=exports(by_name),
        OPTIONS=" ".join(option for option in options if option),
        IMAGE_AND_ARGUMENTS=arguments,
        IMAGE=quote(image),
        NOT_STARTED=quote(f"Docker could not run {image}"),
        SFTP=_SFTP.removesuffix('[ ! -x "$f" ] || ') + '[ ! -x "$f" ] ||',
        STARTUP=(filled(_GIVE_STARTUP, CONTAINER=_CONTAINER) + beside) if script else "",
    )
    lines = "".join(f"{checked_name(name)}={value}\n" for name, value in in_file.items())
    return (
        written("state", f"pulling {image}\n")
        + 'chmod 644 "$d/state"\n'
        + startup_file(spec)
        + written("container.env", lines)
        + written("work.sh", work)
        + ONCE.replace("WORK", 'bash "$d/work.sh" "$d"')
    )


def _fits_docker_line(value: str) -> bool:
    """What surely comes out of an --env-file as it went in.

    The rest goes by docker's own environment, where a name may mean something to docker itself.
    """
    return value.isprintable() and value == value.strip() and len(value) < _LONGEST_LINE
