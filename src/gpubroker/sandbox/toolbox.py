"""The vendors' command-line tools of a machine, reporting exactly its accelerators."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

from gpubroker.sandbox.host import MachineSpec

_PARENT = Path(__file__).parent
_TOOLS = {
    "nvidia": {"nvidia-smi": "nvidia_smi"},
    "amd": {"rocm-smi": "rocm_smi", "amd-smi": "amd_smi"},
    "google": {"tpu-info": "tpu_info"},
    "aws": {"neuron-ls": "neuron_ls"},
    "intel": {},
}
_POWER = ("shutdown", "poweroff", "halt", "reboot", "systemctl")
_ABSENT = ("crontab", "at", "batch", "systemd-run", "telinit")
"""Would leave something behind on this computer, outside the machine."""
_RUN = (
    "import sys; sys.path.append(sys.argv.pop(1)); "
    "from tools.{} import main; sys.exit(main(sys.argv[1:]))"
)
"""Without site packages and without our own package they start in a few milliseconds."""
_SUDO = """\
while [ $# -gt 0 ]; do
  case "$1" in
    -u|-g|-h|-p|-C) shift 2;;
    -*|*=*) shift;;
    *) break;;
  esac
done
[ $# -gt 0 ] && exec "$@"
"""
"""A machine's root is this user: nothing may gain more on this computer."""

FACTS = "accelerators.json"
FACTS_VARIABLE = "GPUBROKER_ACCELERATORS"


def install_tools(spec: MachineSpec, tools: Path, etc: Path) -> None:
    """Writes the machine's facts to `etc` and one command per tool to `tools`.

    Beside the vendor's own these are docker (refused where the machine has none) and stand-ins
    for the commands that would reach past the machine: power, sudo, schedulers.
    """
    facts = {
        "machine": f"{spec.provider}/{spec.id}",
        "name": spec.gpu_tool_name,
        "count": spec.gpu_count,
        "memory_mib": spec.gpu_memory_mib,
        "driver_version": spec.driver_version,
        "cuda_version": spec.cuda_version,
    }
    (etc / FACTS).write_text(json.dumps(facts))
    absent = ("docker", *_ABSENT) if not spec.docker else _ABSENT
    vendors = _TOOLS[spec.gpu_vendor].items() if spec.gpu_count else ()
    commands = {name: _python(source) for name, source in vendors}
    commands |= {name: _python("power", name) for name in _POWER}
    commands |= {name: f"echo '{name}: command not found' >&2; exit 127" for name in absent}
    commands["sudo"] = _SUDO
    commands["hostname"] = f"echo {shlex.quote(spec.hostname)}"
    if spec.docker:
        commands["docker"] = _python("docker")
    given = f"export {FACTS_VARIABLE}={shlex.quote(str(etc / FACTS))}"
    for name, body in commands.items():
        file = tools / name
        file.write_text(f"#!/bin/sh\n{given}\n{body}\n")
        file.chmod(0o755)


def _python(source: str, *arguments: str) -> str:
    interpreter = [sys.executable, "-I", "-S", "-c", _RUN.format(source), str(_PARENT)]
    return f'exec {shlex.join([*interpreter, *arguments])} "$@"'
