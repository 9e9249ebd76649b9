"""rocm-smi: product names, memory and load of one machine's AMD accelerators."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from .facts import Facts, load, refuse, say

_Section = Callable[[Facts, int], dict[str, str]]


def _memory(facts: Facts, _index: int) -> dict[str, str]:
    total = facts.memory_mib << 20
    return {
        "VRAM Total Memory (B)": str(total),
        "VRAM Total Used Memory (B)": str(total * facts.utilisation // 200),
    }


_SECTIONS: dict[str, _Section] = {
    "--showproductname": lambda f, _i: {
        "Card Series": f.name,
        "Card Vendor": "Advanced Micro Devices, Inc. [AMD/ATI]",
    },
    "--showmeminfo": _memory,
    "--showuse": lambda f, _i: {"GPU use (%)": str(f.utilisation)},
    "--showuniqueid": lambda f, i: {"Unique ID": f"0x{f.uuid(i).replace('-', '')[:16]}"},
    "--showbus": lambda f, i: {"PCI Bus": f.bus_id(i)[4:]},
    "--showtemp": lambda f, _i: {
        "Temperature (Sensor junction) (C)": f"{30 + f.utilisation // 2}.0"
    },
    "--showid": lambda f, i: {"GUID": str(int(f.uuid(i)[:4], 16))},
}
_SHORT = {"-i": "--showid", "-u": "--showuse", "-t": "--showtemp", "-b": "--showbus"}
_OF_SYSTEM = {"--showdriverversion"}


def main(argv: Sequence[str]) -> int:
    """Answers one call; the exit code."""
    facts = load()
    words = [_SHORT.get(word, word) for word in argv]
    as_json = "--json" in words
    asked = [word for word in words if word.startswith("--") and word != "--json"]
    if unknown := [word for word in asked if word not in _SECTIONS and word not in _OF_SYSTEM]:
        return refuse(f"rocm-smi: error: unrecognized arguments: {' '.join(unknown)}")
    sections = [word for word in asked if word in _SECTIONS]
    if not asked:
        sections = ["--showproductname", "--showmeminfo", "--showuse"]
    cards = {
        f"card{index}": {
            key: value for word in sections for key, value in _SECTIONS[word](facts, index).items()
        }
        for index in range(facts.count)
        if sections
    }
    system = {"Driver version": facts.driver_version} if _OF_SYSTEM & set(asked) else {}
    if as_json:
        return say(json.dumps(cards | ({"system": system} if system else {})))
    ruler = "=" * 30
    lines = [f"{ruler} ROCm System Management Interface {ruler}"]
    lines += [f"{key}: {value}" for key, value in system.items()]
    for card, values in cards.items():
        lines += [f"GPU[{card[4:]}]\t\t: {key}: {value}" for key, value in values.items()]
    return say(*lines, f"{ruler} End of ROCm SMI Log {ruler}")
