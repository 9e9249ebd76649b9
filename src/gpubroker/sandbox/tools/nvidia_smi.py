"""nvidia-smi: the table, -L and --query-gpu, for the accelerators of one machine."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence

from .facts import Facts, load, refuse, say

_CAPABILITIES = (
    (r"B300|GB300", "10.3"),
    (r"B200|GB200|B100", "10.0"),
    (r"RTX PRO|RTX 50\d\d|Blackwell", "12.0"),
    (r"H100|H200|GH200|H800|H20\b", "9.0"),
    (r"L4\b|L40|RTX 40\d\d|Ada", "8.9"),
    (r"A100|A800|A30\b", "8.0"),
    (r"RTX 30\d\d|A40\b|A10|A16|A2\b|RTX A\d", "8.6"),
    (r"T4|RTX 20\d\d|TITAN RTX|Quadro RTX|GTX 16\d\d", "7.5"),
    (r"V100|TITAN V", "7.0"),
    (r"P100", "6.0"),
    (r"P4\b|P40|GTX 10\d\d|P5000|P6000|P4000", "6.1"),
)


def _capability(name: str) -> str:
    return next((level for words, level in _CAPABILITIES if re.search(words, name)), "[N/A]")


_RESERVED_MIB = 4
_Field = Callable[[Facts, int], tuple[str, str]]
_FIELDS: dict[str, _Field] = {
    "timestamp": lambda _f, _i: (time.strftime("%Y/%m/%d %H:%M:%S.000"), ""),
    "index": lambda _f, i: (str(i), ""),
    "count": lambda f, _i: (str(f.count), ""),
    "name": lambda f, _i: (f.name, ""),
    "uuid": lambda f, i: (f"GPU-{f.uuid(i)}", ""),
    "serial": lambda _f, _i: ("[N/A]", ""),
    "driver_version": lambda f, _i: (f.driver_version, ""),
    "pci.bus_id": lambda f, i: (f.bus_id(i), ""),
    "compute_cap": lambda f, _i: (_capability(f.name), ""),
    "pstate": lambda f, _i: ("P0" if f.utilisation else "P8", ""),
    "compute_mode": lambda _f, _i: ("Default", ""),
    "mig.mode.current": lambda _f, _i: ("[N/A]", ""),
    "ecc.mode.current": lambda _f, _i: ("[N/A]", ""),
    "persistence_mode": lambda _f, _i: ("Enabled", ""),
    "memory.total": lambda f, _i: (str(f.memory_mib), "MiB"),
    "memory.used": lambda f, _i: (str(_used(f)), "MiB"),
    "memory.free": lambda f, _i: (str(f.memory_mib - _used(f)), "MiB"),
    "memory.reserved": lambda _f, _i: (str(_RESERVED_MIB), "MiB"),
    "utilization.gpu": lambda f, _i: (str(f.utilisation), "%"),
    "utilization.memory": lambda f, _i: (str(f.utilisation // 2), "%"),
    "temperature.gpu": lambda f, _i: (str(30 + f.utilisation // 2), ""),
    "fan.speed": lambda _f, _i: ("[N/A]", "%"),
    "power.draw": lambda f, _i: (f"{30 + 3 * f.utilisation:.2f}", "W"),
    "power.limit": lambda _f, _i: ("350.00", "W"),
}
_ALIASES = {"gpu_name": "name", "gpu_uuid": "uuid", "gpu_bus_id": "pci.bus_id"}
_APP_FIELDS = ("pid", "process_name", "name", "gpu_uuid", "gpu_name", "used_memory", "gpu_bus_id")
_LONG = {"-i": "--id", "-L": "--list-gpus", "-h": "--help"}
_HELP = "NVIDIA System Management Interface of a sandbox machine: -L, --query-gpu=, --format=csv"


def _used(facts: Facts) -> int:
    return _RESERVED_MIB + facts.memory_mib * facts.utilisation // 200


def _query(facts: Facts, fields: str, style: set[str], chosen: Sequence[int]) -> int:
    names = [name.strip() for name in fields.split(",")]
    known = [_ALIASES.get(name, name) for name in names]
    for name, field in zip(names, known, strict=True):
        if field not in _FIELDS:
            return refuse(f'Field "{name}" is not a valid field to query.')
    if "csv" not in style:
        return refuse("The output format must be csv: --format=csv")
    lines = []
    if "noheader" not in style:
        units = [_FIELDS[field](facts, 0)[1] for field in known]
        heads = zip(names, units, strict=True)
        lines.append(", ".join(f"{name} [{unit}]" if unit else name for name, unit in heads))
    for index in chosen:
        cells = []
        for field in known:
            value, unit = _FIELDS[field](facts, index)
            bare = "nounits" in style or not unit or value.startswith("[")
            cells.append(value if bare else f"{value} {unit}")
        lines.append(", ".join(cells))
    return say(*lines)


def _query_apps(fields: str, style: set[str]) -> int:
    """No process of a sandbox machine computes on an accelerator."""
    names = [name.strip() for name in fields.split(",")]
    for name in names:
        if name not in _APP_FIELDS:
            return refuse(f'Field "{name}" is not a valid field to query.')
    heads = [f"{name} [MiB]" if name == "used_memory" else name for name in names]
    return 0 if "noheader" in style else say(", ".join(heads))


def _table(facts: Facts, chosen: Sequence[int]) -> int:
    rule = "+-----------------------------------------+------------------------+----------------+"
    versions = f"Driver Version: {facts.driver_version:<15} CUDA Version: {facts.cuda_version}"
    lines = [
        time.strftime("%a %b %e %H:%M:%S %Y"),
        "+" + "-" * (len(rule) - 2) + "+",
        f"| {f'NVIDIA-SMI {facts.driver_version:<14} {versions}':<{len(rule) - 4}} |",
        rule,
        f"| {'GPU  Name':<40}| {'Bus-Id':<23}| {'GPU-Util':<15}|",
        f"| {'Fan  Temp  Perf  Pwr:Usage/Cap':<40}| {'Memory-Usage':>22} | {'Compute M.':<15}|",
        rule.replace("-", "="),
    ]
    for index in chosen:
        memory = f"{_used(facts)}MiB / {facts.memory_mib}MiB"
        power = f"{30 + 3 * facts.utilisation}W / 350W"
        state = "P0" if facts.utilisation else "P8"
        load_text = f"{facts.utilisation}%"
        heat = f"N/A  {30 + facts.utilisation // 2}C   {state}   {power}"
        lines += [
            f"| {f'{index:>3}  {facts.name}':<40}| {facts.bus_id(index):<23}| {load_text:<15}|",
            f"| {heat:<40}| {memory:>22} | {'Default':<15}|",
            rule,
        ]
    return say(*lines, "", "No running processes found")


def _parsed(argv: Sequence[str]) -> dict[str, str]:
    """Options by name; "" where one has no value."""
    options: dict[str, str] = {}
    words = list(argv)
    while words:
        name, sign, value = words.pop(0).partition("=")
        takes_value = name in {"-i", "--id", "--format"} or name.startswith("--query-")
        options[_LONG.get(name, name)] = (
            value if sign or not (takes_value and words) else words.pop(0)
        )
    return options


def main(argv: Sequence[str]) -> int:
    """Answers one call; the exit code."""
    facts = load()
    options = _parsed(argv)
    style = {part.strip() for part in options.pop("--format", "").split(",")}
    wanted = options.pop("--id", None)
    chosen = [
        i
        for i in range(facts.count)
        if wanted is None or wanted in {str(i), f"GPU-{facts.uuid(i)}", facts.bus_id(i)}
    ]
    return _answer(facts, chosen, options, style) if chosen else refuse("No devices were found", 6)


def _answer(facts: Facts, chosen: list[int], options: dict[str, str], style: set[str]) -> int:
    match list(options.items()):
        case []:
            return _table(facts, chosen)
        case [("--query-gpu", fields)]:
            return _query(facts, fields, style, chosen)
        case [("--query-compute-apps", fields)]:
            return _query_apps(fields, style)
        case [("--list-gpus", _)]:
            return say(*(f"GPU {i}: {facts.name} (UUID: GPU-{facts.uuid(i)})" for i in chosen))
        case [("--help", _)]:
            return say(_HELP)
    return refuse(f"Invalid combination of input arguments: {' '.join(options)}. {_HELP}")
