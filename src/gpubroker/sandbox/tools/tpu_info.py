"""tpu-info: the chips of one machine."""

from __future__ import annotations

from collections.abc import Sequence

from .facts import load, refuse, say

_GIB = 1024


def main(argv: Sequence[str]) -> int:
    """Answers one call; the exit code."""
    if argv:
        return refuse(f"tpu-info: error: unrecognized arguments: {' '.join(argv)}")
    facts = load()
    total = facts.memory_mib / _GIB
    used = total * facts.utilisation / 200
    lines = ["TPU Chips", f"{'Chip':<14}{'Type':<16}{'Devices':<9}PID"]
    lines += [f"/dev/vfio/{i:<4}{facts.name:<16}{1:<9}None" for i in range(facts.count)]
    lines += ["", "TPU Runtime Utilization", f"{'Device':<8}{'HBM usage':<26}Duty cycle"]
    lines += [
        f"{i:<8}{f'{used:.2f} GiB / {total:.2f} GiB':<26}{facts.utilisation:.2f}%"
        for i in range(facts.count)
    ]
    return say(*lines)
