"""neuron-ls: the Neuron devices of one machine, as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .facts import load, refuse, say

_CORES = {"Trainium2": 8, "Inferentia1": 4}
_CORES_OTHERWISE = 2
_JSON = {"-j", "--json-output"}


def main(argv: Sequence[str]) -> int:
    """Answers one call; the exit code."""
    if unknown := [word for word in argv if word not in _JSON]:
        return refuse(f"neuron-ls: error: unrecognized arguments: {' '.join(unknown)}")
    facts = load()
    cores = next((n for name, n in _CORES.items() if name in facts.name), _CORES_OTHERWISE)
    devices: list[dict[str, Any]] = [
        {
            "neuron_device": index,
            "bdf": facts.bus_id(index)[6:].lower(),
            "connected_to": None,
            "nc_count": cores,
            "memory_size": facts.memory_mib << 20,
            "neuron_processes": [],
        }
        for index in range(facts.count)
    ]
    if argv:
        return say(json.dumps(devices))
    lines = [f"instance-type: {facts.name}", "DEVICE  CORES  MEMORY   PCI BDF"]
    lines += [
        f"{d['neuron_device']:<8}{cores:<7}{f'{facts.memory_mib // 1024} GB':<9}{d['bdf']}"
        for d in devices
    ]
    return say(*lines)
