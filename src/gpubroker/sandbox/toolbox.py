"""The vendors' command-line tools of a machine, reporting exactly its accelerators."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path

from gpubroker.sandbox.host import MachineSpec
from gpubroker.sandbox.shell import SYSTEM_PATH, Layout
from gpubroker.sandbox.tools import accounts

_PARENT = Path(__file__).parent
_TOOLS = {
    "nvidia": {"nvidia-smi": "nvidia_smi"},
    "amd": {"rocm-smi": "rocm_smi", "amd-smi": "amd_smi"},
    "google": {"tpu-info": "tpu_info"},
    "aws": {"neuron-ls": "neuron_ls"},
    "intel": {},
}
_OF_CLOUD = {"runpod": ("runpodctl",)}
"""A client that a cloud puts on its machines, with a key for the machine itself."""
_POWER = ("shutdown", "poweroff", "halt", "reboot")
_OF_VM = ("systemd-run", "cloud-init")
_ABSENT = ("crontab", "at", "batch", "telinit")
"""Would leave something behind on this computer, outside the machine."""
_QUIET = (
    "apt", "apt-get", "apt-key", "add-apt-repository", "dpkg", "yum", "dnf", "apk", "snap",
    "mount", "umount", "mkfs", "mkfs.ext4", "mkfs.xfs", "swapon", "swapoff", "modprobe", "sysctl",
    "iptables", "ip6tables", "nft", "ufw", "service", "loginctl", "hostnamectl", "timedatectl",
    "usermod", "userdel", "groupadd", "gpasswd", "passwd", "chpasswd", "update-initramfs",
    "ldconfig", "nvidia-ctk", "update-alternatives", "chroot", "nvidia-persistenced",
)  # fmt: skip
"""Would change this computer: said to have worked, and written to `ignored.log`."""
_RUN = (
    "import sys; sys.path.append(sys.argv.pop(1)); "
    "from tools.{} import main; sys.exit(main(sys.argv[1:]))"
)
"""Without site packages and without our own package they start in a few milliseconds."""
_SUDO = """\
user=root
while [ $# -gt 0 ]; do
  case "$1" in
    -u) user=$2; shift 2;;
    -g|-h|-p|-C|-D|-R|-T) shift 2;;
    -i|-s) set -- "$SHELL" -l; break;;
    --user=*) user=${1#--user=}; shift;;
    --) shift; break;;
    -*) shift;;
    *=*) export "$1"; shift;;
    *) break;;
  esac
done
home=$(getent passwd "$user" | cut -d: -f6)
[ -n "$home" ] || { echo "sudo: unknown user $user" >&2; exit 1; }
export SUDO_USER=${SUDO_USER:-$USER} USER=$user LOGNAME=$user HOME="$home"
[ $# -gt 0 ] && exec "$@"
"""
"""A machine's root is this user: nothing may gain more on this computer."""
_SLEEP = """\
case "$*" in
  ""|[0-4]|[0-4].*|.*|*[!0-9.smhd]*) exec {real} "$@";;
esac
{ours}
"""
"""Short waits are real ones, and so is `infinity`."""

_DF = """\
[ "$*" = "-Pk /" ] || exec {real} "$@"
echo "Filesystem 1024-blocks Used Available Capacity Mounted on"
echo "/dev/root {blocks} 0 {blocks} 0% /"
"""
"""The machine's disk is as large as was rented, whatever this computer has."""

FACTS = "accelerators.json"
FACTS_VARIABLE = "GPUBROKER_ACCELERATORS"


def install_tools(spec: MachineSpec, layout: Layout) -> None:
    """Writes the machine's facts to its etc and one command per tool to its bin.

    Beside the vendor's own these are docker (refused where the machine has none) and stand-ins
    for the commands that would reach past the machine: power, users, units, packages, schedulers.
    """
    facts = {
        "machine": f"{spec.provider}/{spec.id}",
        "name": spec.gpu_tool_name,
        "count": spec.gpu_count,
        "memory_mib": spec.gpu_memory_mib,
        "driver_version": spec.driver_version,
        "cuda_version": spec.cuda_version,
    }
    (layout.etc / FACTS).write_text(json.dumps(facts))
    given = f"export {FACTS_VARIABLE}={shlex.quote(str(layout.etc / FACTS))}"
    for name, body in _commands(spec, layout).items():
        file = layout.tools / name
        file.write_text(f"#!/bin/sh\n{given}\n{body}\n")
        file.chmod(0o755)


def _commands(spec: MachineSpec, layout: Layout) -> dict[str, str]:
    """The text of each, without its head."""
    is_vm = spec.docker or spec.keys_in_home
    absent = (*_ABSENT, *(() if spec.docker else ("docker",)), *(() if is_vm else _OF_VM))
    vendors = _TOOLS[spec.gpu_vendor].items() if spec.gpu_count else ()
    log = shlex.quote(str(layout.logs / "ignored.log"))
    quiet = 'echo "${{0##*/}} $*" >>{}'
    commands = {name: _python(source) for name, source in vendors}
    commands |= {name: _python(name) for name in _OF_CLOUD.get(spec.provider, ())}
    commands |= {name: _python("power", name) for name in _POWER}
    commands |= {name: _python("accounts", name) for name in accounts.NAMES}
    commands |= {name: quiet.format(log) for name in _QUIET}
    commands |= {name: f"echo '{name}: command not found' >&2; exit 127" for name in absent}
    commands["systemctl"] = _python("systemd", "systemctl" if is_vm else "no-systemctl")
    if is_vm:
        commands |= {name: _python("systemd", name) for name in _OF_VM}
    if spec.docker:
        (layout.root / "docker").mkdir(exist_ok=True)
        commands["docker"] = _python("docker")
    real_sleep = shlex.quote(shutil.which("sleep", path=SYSTEM_PATH) or "/bin/sleep")
    commands["sleep"] = _SLEEP.format(real=real_sleep, ours=_python("waiting"))
    real_df = shlex.quote(shutil.which("df", path=SYSTEM_PATH) or "/bin/df")
    commands["df"] = _DF.format(real=real_df, blocks=spec.disk_gb * 10**9 // 1024)
    commands["sudo"] = _SUDO
    commands["hostname"] = f"echo {shlex.quote(spec.hostname)}"
    return commands


def _python(source: str, *arguments: str) -> str:
    interpreter = [sys.executable, "-I", "-S", "-c", _RUN.format(source), str(_PARENT)]
    return f'exec {shlex.join([*interpreter, *arguments])} "$@"'
