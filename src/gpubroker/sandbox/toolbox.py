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
_RUN = (
    "import sys; sys.path.append(sys.argv.pop(1)); "
    "from tools.{} import main; sys.exit(main(sys.argv[1:]))"
)
"""Without site packages and without our own package they start in a few milliseconds."""

FACTS = "accelerators.json"
FACTS_VARIABLE = "GPUBROKER_ACCELERATORS"


def install_tools(spec: MachineSpec, tools: Path, etc: Path) -> None:
    """Writes the machine's facts to `etc` and one command per tool to `tools`."""
    facts = {
        "machine": f"{spec.provider}/{spec.id}",
        "name": spec.gpu_tool_name,
        "count": spec.gpu_count,
        "memory_mib": spec.gpu_memory_mib,
        "driver_version": spec.driver_version,
        "cuda_version": spec.cuda_version,
    }
    (etc / FACTS).write_text(json.dumps(facts))
    for name, source in _TOOLS[spec.gpu_vendor].items() if spec.gpu_count else ():
        command = shlex.join([sys.executable, "-I", "-S", "-c", _RUN.format(source), str(_PARENT)])
        script = (
            f'#!/bin/sh\n{FACTS_VARIABLE}={shlex.quote(str(etc / FACTS))} exec {command} "$@"\n'
        )
        file = tools / name
        file.write_text(script)
        file.chmod(0o755)
