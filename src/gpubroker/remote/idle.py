"""Whether a machine works: GPU use, processes on it, and people at its terminals.

One script asks whatever tools the machine has; `judged` is pure. The answer is busy, idle or
"cannot tell": a machine without a tool that we know, or whose tool tells nothing, is not idle.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

Word = Literal["busy", "idle", "cannot tell"]
BUSY: Word = "busy"
IDLE: Word = "idle"
CANNOT_TELL: Word = "cannot tell"

USED_PERCENT = 3.0
"""Monitoring itself shows as a per cent or two."""
CPU_CORES = 0.5
"""So many cores in use are work: data is prepared, something is compiled."""
AT_TERMINAL_S = 900.0
"""A terminal that nothing was typed in for longer is left open, not used."""
MARK = "@gpubroker "

SCRIPT = r"""
r=${GPUBROKER_ROOT-}; t=
ask() { n=$1; shift; ! command -v "$1" >/dev/null 2>&1 || { echo "@gpubroker $n"
if command -v timeout >/dev/null; then timeout 8 "$@"; else "$@"; fi 2>/dev/null; }; }
ask nvidia nvidia-smi --query-gpu=utilization.gpu --format=csv,noheader,nounits
ask nvidia-processes nvidia-smi --query-compute-apps=pid --format=csv,noheader
ask amd amd-smi metric --usage --json
ask rocm rocm-smi --showuse --json
ask tpu tpu-info
ask neuron neuron-ls --json-output
if command -v neuron-monitor >/dev/null 2>&1 && command -v timeout >/dev/null; then
echo "@gpubroker neuron-use"; timeout 4 neuron-monitor 2>/dev/null | head -n 1
fi
for f in "$r"/dev/accel* "$r"/dev/vfio/[0-9]*; do [ ! -e "$f" ] || t=1; done
[ -z "$t" ] || { echo "@gpubroker accelerators"
for f in /proc/[0-9]*/fd/*; do readlink "$f"; done 2>/dev/null |
grep -E '^/dev/(accel|vfio/[0-9])'; }
used() { cat "$r"/proc/[0-9]*/stat 2>/dev/null |
awk -v h="$(getconf CLK_TCK 2>/dev/null || echo 100)" \
'{ sub(/^.*\) /, ""); s += $12 + $13 } END { if (NR) print s / h }'; }
a=$(used); sleep 2; b=$(used)
[ -z "$a" ] || echo "@gpubroker cpu
$a $b 2"
echo "@gpubroker terminals"
n=$(date +%s)
for f in "$r"/dev/pts/[0-9]*; do
[ ! -c "$f" ] || { s=$(stat -c %X "$f" 2>/dev/null) && echo $((n - s)); }
done
echo "@gpubroker end"
"""
"""For the standard input of `sh`."""


def judged(output: str) -> Word:
    """By everything that SCRIPT printed: busy where anything is, idle only where the GPUs are."""
    told = _sections(output)
    if "end" not in told:
        return CANNOT_TELL
    words = {read(told) for read in _GPUS}
    if BUSY in words or _at_terminal(told) or _computing(told):
        return BUSY
    # None is a tool that the machine does not have.
    words.discard(None)
    return IDLE if words == {IDLE} else CANNOT_TELL


def _sections(output: str) -> dict[str, str]:
    parts = re.split(rf"^{re.escape(MARK)}(\S+)$", output, flags=re.MULTILINE)
    return {name: text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def _nvidia(told: Mapping[str, str]) -> Word | None:
    if "nvidia" not in told:
        return None
    rows = [row.strip() for row in told["nvidia"].splitlines() if row.strip()]
    used = [float(row) for row in rows if re.fullmatch(r"\d+(\.\d+)?", row)]
    if any(percent > USED_PERCENT for percent in used):
        return BUSY
    if rows and len(used) == len(rows):
        return IDLE
    # Slices of a GPU (MIG) do not tell their use; without a process there is none.
    unknown = [row for row in rows if row in {"[N/A]", "[Not Supported]", "N/A"}]
    processes = told.get("nvidia-processes")
    if rows and len(unknown) + len(used) == len(rows) and processes == "":
        return IDLE
    return CANNOT_TELL


def _amd(told: Mapping[str, str]) -> Word | None:
    if "amd" not in told:
        return None
    rows = _json(told["amd"])
    if isinstance(rows, dict):
        rows = rows.get("gpu_data")
    return _by_use(_values(rows, "gfx_activity"))


def _rocm(told: Mapping[str, str]) -> Word | None:
    if "rocm" not in told or _amd(told) in {BUSY, IDLE}:
        return None
    return _by_use(_values(_json(told["rocm"]), "GPU use (%)"))


def _tpu(told: Mapping[str, str]) -> Word | None:
    if "tpu" not in told and "accelerators" not in told:
        return None
    duty = re.findall(r"(\d+(?:\.\d+)?)\s*%", told.get("tpu", ""))
    if duty:
        return BUSY if any(float(percent) > USED_PERCENT for percent in duty) else IDLE
    if "accelerators" not in told:
        return CANNOT_TELL
    # A program holds a TPU for as long as it may use it, and nobody else can then.
    return BUSY if told["accelerators"] else IDLE


def _neuron(told: Mapping[str, str]) -> Word | None:
    if "neuron" not in told:
        return None
    devices = _json(told["neuron"])
    if not isinstance(devices, list) or not devices:
        return CANNOT_TELL
    if not any(isinstance(one, dict) and one.get("neuron_processes") for one in devices):
        return IDLE
    used = _values(_json(told.get("neuron-use", "")), "neuroncore_utilization")
    return _by_use(used) if used else BUSY


def _at_terminal(told: Mapping[str, str]) -> bool:
    idle_s = [float(row) for row in told.get("terminals", "").split() if _is_number(row)]
    return any(seconds < AT_TERMINAL_S for seconds in idle_s)


def _computing(told: Mapping[str, str]) -> bool:
    words = told.get("cpu", "").split()
    if len(words) != 3 or not all(map(_is_number, words)):  # noqa: PLR2004 - before, after, between
        return False
    before, after, seconds = map(float, words)
    return (after - before) / seconds > CPU_CORES


_GPUS: tuple[Callable[[Mapping[str, str]], Word | None], ...] = (
    _nvidia,
    _amd,
    _rocm,
    _tpu,
    _neuron,
)


def _by_use(percents: list[float | None]) -> Word:
    if any(percent is not None and percent > USED_PERCENT for percent in percents):
        return BUSY
    return IDLE if percents and None not in percents else CANNOT_TELL


def _values(document: Any, name: str) -> list[float | None]:
    """Every number of that name, however deep; None for one that is told as no number."""
    found: list[float | None] = []
    if isinstance(document, dict):
        for key, value in document.items():
            if key == name:
                plain = value.get("value") if isinstance(value, dict) else value
                text = str(plain)
                found.append(float(text) if _is_number(text) else None)
            else:
                found += _values(value, name)
    elif isinstance(document, list):
        for value in document:
            found += _values(value, name)
    return found


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?(e[-+]?\d+)?", text) is not None


def _json(text: str) -> Any:
    """None where it is none; a warning may stand before it."""
    start = min((at for at in (text.find("{"), text.find("[")) if at >= 0), default=-1)
    try:
        return None if start < 0 else msgspec.json.decode(text[start:])
    except msgspec.DecodeError:
        return None
