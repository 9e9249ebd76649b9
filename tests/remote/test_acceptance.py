"""The machine is compared with what was rented, in the words that real drivers print."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gpubroker.model.gpu import Gpu
from gpubroker.model.money import Nanos
from gpubroker.model.offer import Offer, Price
from gpubroker.model.terms import Availability, Kind, Market, Source
from gpubroker.remote.acceptance import GpuSeen, acceptance, parse_in_container, parse_nvidia_smi


def offer(name: str | None, memory_gb: float, *, count: int = 1, fraction: float = 1.0) -> Offer:
    return Offer(
        provider="p",
        account="a",
        key="k",
        gpu=Gpu(name, name or "?", memory_gb, fraction=fraction),
        gpu_count=count,
        kind=Kind.VM,
        market=Market.ON_DEMAND,
        region="r",
        price=Price(compute=Nanos(1)),
        availability=Availability.YES,
        source=Source.LIVE,
        fetched_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_rows_are_read_between_the_noise_of_login_scripts() -> None:
    text = (
        "Welcome, root, to this, very, fine machine\n"
        "NVIDIA GeForce RTX 4090, 24564, 570.133.20\n"
        "NVIDIA GB10, [N/A], 580.95.05\n"
        "one, two, three\n"
    )
    assert parse_nvidia_smi(text) == (
        GpuSeen("NVIDIA GeForce RTX 4090", 24564, "570.133.20"),
        GpuSeen("NVIDIA GB10", None, "580.95.05"),
    )
    assert parse_nvidia_smi("") == ()


@pytest.mark.parametrize(
    ("name", "memory_gb", "tool_name", "memory_mib"),
    [
        ("RTX 4090", 24, "NVIDIA GeForce RTX 4090", 24564),
        ("RTX 2080 Ti", 11, "NVIDIA GeForce RTX 2080 Ti", 11264),
        ("H100", 80, "NVIDIA H100 80GB HBM3", 81559),
        ("A100", 40, "NVIDIA A100-SXM4-40GB", 40960),
        ("A6000", 48, "NVIDIA RTX A6000", 49140),
        ("RTX 6000 Ada", 48, "NVIDIA RTX 6000 Ada Generation", 49140),
        ("RTX PRO 6000", 96, "NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887),
        ("V100", 16, "Tesla V100-SXM2-16GB", 16384),
        ("T4", 16, "Tesla T4", 15360),
        ("A10G", 24, "NVIDIA A10G", 23028),
        ("H200", 141, "NVIDIA H200", 143771),
        ("B200", 180, "NVIDIA B200", 183359),
        (None, 24, "NVIDIA Something New", 24564),
    ],
)
def test_real_machines_pass(
    name: str | None, memory_gb: float, tool_name: str, memory_mib: int
) -> None:
    assert acceptance(offer(name, memory_gb), (GpuSeen(tool_name, memory_mib, "1"),)) == ()


@pytest.mark.parametrize(
    ("name", "memory_gb", "tool_name", "memory_mib", "says"),
    [
        ("RTX 4090", 24, "NVIDIA GeForce RTX 3090", 24576, "RTX 3090"),
        ("RTX 4090", 24, "NVIDIA GeForce RTX 4090 D", 24564, "4090 D"),
        ("RTX 4070", 12, "NVIDIA GeForce RTX 4070 Ti", 12282, "4070 Ti"),
        ("L40S", 48, "NVIDIA L40", 46068, "L40"),
        ("RTX 6000 Ada", 48, "Quadro RTX 6000", 49152, "Quadro RTX 6000"),
        ("A100", 80, "NVIDIA A100-SXM4-40GB", 40960, "40.0"),
        ("H100", 80, "NVIDIA H100 NVL", 95830, "93.6"),
    ],
)
def test_another_model_or_memory_is_told(
    name: str, memory_gb: float, tool_name: str, memory_mib: int, says: str
) -> None:
    (problem,) = acceptance(offer(name, memory_gb), (GpuSeen(tool_name, memory_mib, "1"),))
    assert says in problem


def test_a_missing_gpu_is_told() -> None:
    seen = (GpuSeen("NVIDIA H100 80GB HBM3", 81559, "1"),)
    assert acceptance(offer("H100", 80, count=2), seen) == ("rented 2 GPUs, the machine reports 1",)
    assert acceptance(offer("H100", 80), ()) != ()


def test_a_slice_and_shared_memory_are_not_measured() -> None:
    assert acceptance(offer("A100", 10, fraction=0.14), (GpuSeen("NVIDIA A100", 81920, "1"),)) == ()
    assert acceptance(offer("GB10", 128), (GpuSeen("NVIDIA GB10", None, "1"),)) == ()


@pytest.mark.parametrize(
    ("text", "inside"),
    [("gpubroker container 1", True), ("x\ngpubroker container 0\n", False), ("", None)],
)
def test_a_look_tells_whether_it_landed_in_a_vms_container(text: str, inside: bool | None) -> None:
    assert parse_in_container(text) is inside
