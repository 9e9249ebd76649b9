"""amd-smi: `list`, `static` and `metric` of one machine's AMD accelerators."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from .facts import Facts, load, refuse, say

_Command = Callable[[Facts, int], dict[str, Any]]


def _size(mib: int) -> dict[str, Any]:
    return {"value": mib, "unit": "MB"}


_COMMANDS: dict[str, _Command] = {
    "list": lambda f, i: {"gpu": i, "bdf": f.bus_id(i)[4:].lower(), "uuid": f.uuid(i)},
    "static": lambda f, i: {
        "gpu": i,
        "asic": {"market_name": f.name, "vendor_name": "Advanced Micro Devices Inc. [AMD/ATI]"},
        "driver": {"name": "amdgpu", "version": f.driver_version},
        "vram": {"size": _size(f.memory_mib)},
    },
    "metric": lambda f, i: {
        "gpu": i,
        "usage": {"gfx_activity": {"value": f.utilisation, "unit": "%"}},
        "mem_usage": {
            "total_vram": _size(f.memory_mib),
            "used_vram": _size(f.memory_mib * f.utilisation // 200),
        },
    },
}


def _lines(value: dict[str, Any], depth: int) -> list[str]:
    lines = []
    for key, inner in value.items():
        head = f"{'    ' * depth}{key.upper()}:"
        if isinstance(inner, dict) and "unit" not in inner:
            lines += [head, *_lines(inner, depth + 1)]
        else:
            text = f"{inner['value']} {inner['unit']}" if isinstance(inner, dict) else inner
            lines.append(f"{head} {text}")
    return lines


def main(argv: Sequence[str]) -> int:
    """Answers one call; the exit code."""
    facts = load()
    command = next((word for word in argv if not word.startswith("-")), "")
    if command == "version":
        return say(f"AMDSMI Tool: sandbox | amdgpu version: {facts.driver_version}")
    if command not in _COMMANDS:
        return refuse(f"amd-smi: choose one of: {', '.join([*_COMMANDS, 'version'])}")
    boards = [_COMMANDS[command](facts, index) for index in range(facts.count)]
    if "--json" in argv:
        return say(json.dumps(boards))
    lines: list[str] = []
    for board in boards:
        lines += [f"GPU: {board.pop('gpu')}", *_lines(board, 1), ""]
    return say(*lines)
