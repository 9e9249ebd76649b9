"""Idle is what a tool of the machine says, never what no tool says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gpubroker.remote.idle import SCRIPT, judged

END = "@gpubroker terminals\n@gpubroker end\n"
NVIDIA = "@gpubroker nvidia\n{}\n@gpubroker nvidia-processes\n{}\n"
AMD = """@gpubroker amd
[
    {
        "gpu": 0,
        "usage": {
            "gfx_activity": {"value": %s, "unit": "%%"},
            "umc_activity": {"value": 0, "unit": "%%"},
            "mm_activity": "N/A"
        }
    },
    {"gpu": 1, "usage": {"gfx_activity": {"value": 0, "unit": "%%"}}}
]
"""
AMD_NEW = '@gpubroker amd\n{"gpu_data": [{"gpu": 0, "usage": {"gfx_activity": %s}}]}\n'
ROCM = """@gpubroker rocm
WARNING: AMD GPU device(s) is/are in a low-power state.
{"card0": {"GPU use (%%)": "%s"}, "card1": {"GPU use (%%)": "0"}}
"""
TPU = """@gpubroker tpu
TPU Chips
┏━━━━━━━━━━━━┳━━━━━━━━━━━━━┳━━━━━━━━━┳━━━━━━┓
┃ Chip       ┃ Type        ┃ Devices ┃ PID  ┃
┡━━━━━━━━━━━━╇━━━━━━━━━━━━━╇━━━━━━━━━╇━━━━━━┩
│ /dev/vfio/0│ TPU v6e chip│ 1       │ 1234 │
└────────────┴─────────────┴─────────┴──────┘
TPU Runtime Utilization
┃ Device ┃ HBM usage            ┃ Duty cycle ┃
│ 0      │ 18.45 GiB / 31.25 GiB│     %s │
"""
NEURON = """@gpubroker neuron
[{"neuron_device": 0, "bdf": "00:1e.0", "nc_count": 2, "memory_size": 34359738368,
  "neuron_processes": %s}]
"""
NEURON_USE = (
    '@gpubroker neuron-use\n{"neuron_runtime_data": [{"pid": 77, "report": {"neuroncore_counters": '
    '{"neuroncores_in_use": {"0": {"neuroncore_utilization": %s}}}}}]}\n'
)
RUNS = '[{"pid": 77, "command": "python train.py"}]'

ANSWERS = {
    "all GPUs at rest": (NVIDIA.format("0\n0\n1", ""), "idle"),
    "one of several works": (NVIDIA.format("0\n97", "4711"), "busy"),
    "a notebook holds memory and does nothing": (NVIDIA.format("0", "4711"), "idle"),
    "slices without a process": (NVIDIA.format("[N/A]", ""), "idle"),
    "slices with a process": (NVIDIA.format("[N/A]", "4711"), "cannot tell"),
    "the driver is broken": (
        NVIDIA.format("NVIDIA-SMI has failed because it couldn't communicate", ""),
        "cannot tell",
    ),
    "nvidia-smi says nothing": (NVIDIA.format("", ""), "cannot tell"),
    "amd at rest": (AMD % 0, "idle"),
    "amd at work": (AMD % 88, "busy"),
    "newer amd-smi at rest": (AMD_NEW % '{"value": 0, "unit": "%"}', "idle"),
    "newer amd-smi tells none": (AMD_NEW % '"N/A"', "cannot tell"),
    "rocm at rest": (ROCM % 0, "idle"),
    "rocm at work": (ROCM % 55, "busy"),
    "amd-smi tells none and rocm-smi does": (AMD_NEW % '"N/A"' + ROCM % 55, "busy"),
    "tpu at rest": (TPU % "0.00%", "idle"),
    "tpu at work": (TPU % "71.30%", "busy"),
    "tpu without figures, held": (
        TPU % "N/A" + "@gpubroker accelerators\n/dev/vfio/0\n",
        "busy",
    ),
    "tpu without a tool, held": ("@gpubroker accelerators\n/dev/accel0\n", "busy"),
    "tpu without a tool, free": ("@gpubroker accelerators\n", "idle"),
    "tpu-info says nothing": ("@gpubroker tpu\nLibtpu metrics unavailable\n", "cannot tell"),
    "neuron without a process": (NEURON % "[]", "idle"),
    "neuron with a process": (NEURON % RUNS, "busy"),
    "neuron with a process at rest": (NEURON % RUNS + NEURON_USE % "0.0", "idle"),
    "neuron with a process at work": (NEURON % RUNS + NEURON_USE % "64.2", "busy"),
    "neuron-ls fails": ("@gpubroker neuron\n", "cannot tell"),
    "no tool at all": ("", "cannot tell"),
    "the CPU prepares data": (NVIDIA.format("0", "") + "@gpubroker cpu\n10.5 14.5 2\n", "busy"),
    "the CPU rests": (NVIDIA.format("0", "") + "@gpubroker cpu\n10.5 10.6 2\n", "idle"),
    "processes ended in between": (NVIDIA.format("0", "") + "@gpubroker cpu\n99 10 2\n", "idle"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_what_the_tools_say_is_what_is_said(case: str) -> None:
    output, word = ANSWERS[case]
    assert judged(f"Welcome to Ubuntu\n{output}{END}") == word


@pytest.mark.parametrize(("typed_ago", "word"), [(30, "busy"), (3000, "idle")])
def test_a_person_at_a_terminal_works_and_one_who_left_it_open_does_not(
    typed_ago: int, word: str
) -> None:
    output = NVIDIA.format("0", "") + f"@gpubroker terminals\n{typed_ago}\n@gpubroker end\n"
    assert judged(output) == word


def test_a_look_that_was_cut_off_tells_nothing() -> None:
    assert judged(NVIDIA.format("0", "")) == "cannot tell"


def test_the_script_runs_in_a_plain_shell_and_comes_to_its_end(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, says in (("nvidia-smi", "echo 0"), ("neuron-ls", "exit 1")):
        (tools / name).write_text(f"#!/bin/sh\n{says}\n")
        (tools / name).chmod(0o755)
    env = {"PATH": f"{tools}:/usr/bin:/bin", "GPUBROKER_ROOT": str(tmp_path)}
    ran = subprocess.run(
        ["sh"], input=SCRIPT, env=env, text=True, capture_output=True, timeout=60, check=True
    )
    assert "@gpubroker nvidia\n0\n" in ran.stdout
    assert ran.stdout.rstrip().endswith("@gpubroker end")
    assert ran.stderr == ""
    assert judged(ran.stdout) in {"cannot tell", "busy"}  # neuron-ls is there and fails
