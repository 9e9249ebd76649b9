"""What vendors call GPUs, and what people mean by a name."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubroker.catalog.gpus import UnknownGpuName, model, models, resolve, wanted
from gpubroker.catalog.scores import FIXED_POINTS, derived_score
from gpubroker.model.query import GpuWanted

FIXED = [
    # name, memory, compute capability, architecture, category, score: the REST contract's list
    ("RTX 4090", 24, 8.9, "Ada Lovelace", "consumer", 100),
    ("RTX 4080", 16, 8.9, "Ada Lovelace", "consumer", 85),
    ("RTX 4070", 12, 8.9, "Ada Lovelace", "consumer", 70),
    ("RTX 3090", 24, 8.6, "Ampere", "consumer", 90),
    ("RTX 3080", 10, 8.6, "Ampere", "consumer", 80),
    ("RTX 3070", 8, 8.6, "Ampere", "consumer", 65),
    ("RTX 2080 Ti", 11, 7.5, "Turing", "consumer", 60),
    ("GTX 1080 Ti", 11, 6.1, "Pascal", "consumer", 45),
    ("A100", 80, 8.0, "Ampere", "datacenter", 120),
    ("H100", 80, 9.0, "Hopper", "datacenter", 150),
    ("V100", 32, 7.0, "Volta", "datacenter", 95),
    ("A40", 48, 8.6, "Ampere", "professional", 85),
    ("A6000", 48, 8.6, "Ampere", "professional", 90),
    ("RX 7900 XTX", 24, 0, "RDNA3", "consumer", 85),
    ("RX 6900 XT", 16, 0, "RDNA2", "consumer", 75),
]

VAST_NAMES = [
    # Vast.ai's own choice list (underscores as in its CLI), canonical name, form, memory
    ("A10", "A10", "PCIe", 24),
    ("A10g", "A10G", "PCIe", 24),
    ("A40", "A40", "PCIe", 48),
    ("A100X", "A100X", "PCIe", 80),
    ("A800_PCIE", "A800", "PCIe", 80),
    ("H100_PCIE", "H100", "PCIe", 80),
    ("H100_SXM", "H100", "SXM", 80),
    ("H100_NVL", "H100", "NVL", 94),
    ("H200", "H200", "SXM", 141),
    ("H200_NVL", "H200", "NVL", 141),
    ("B200", "B200", "SXM", 180),
    ("L4", "L4", "PCIe", 24),
    ("L40", "L40", "PCIe", 48),
    ("L40S", "L40S", "PCIe", 48),
    ("Tesla_T4", "T4", "PCIe", 16),
    ("Tesla_P4", "P4", "PCIe", 8),
    ("Tesla_P40", "P40", "PCIe", 24),
    ("Tesla_P100", "P100", "", 16),
    ("Titan_V", "TITAN V", "PCIe", 12),
    ("Titan_RTX", "TITAN RTX", "PCIe", 24),
    ("Titan_Xp", "TITAN Xp", "PCIe", 12),
    ("Q_RTX_4000", "Quadro RTX 4000", "PCIe", 8),
    ("Q_RTX_5000", "Quadro RTX 5000", "PCIe", 16),
    ("Q_RTX_6000", "Quadro RTX 6000", "PCIe", 24),
    ("Q_RTX_8000", "Quadro RTX 8000", "PCIe", 48),
    ("Quadro_P2000", "Quadro P2000", "PCIe", 5),
    ("Quadro_P4000", "Quadro P4000", "PCIe", 8),
    ("RTX_A4000", "RTX A4000", "PCIe", 16),
    ("RTX_A4500", "RTX A4500", "PCIe", 20),
    ("RTX_A5000", "RTX A5000", "PCIe", 24),
    ("RTX_A6000", "A6000", "PCIe", 48),
    ("RTX_2000Ada", "RTX 2000 Ada", "PCIe", 16),
    ("RTX_4000Ada", "RTX 4000 Ada", "PCIe", 20),
    ("RTX_4500Ada", "RTX 4500 Ada", "PCIe", 24),
    ("RTX_5000Ada", "RTX 5000 Ada", "PCIe", 32),
    ("RTX_5880Ada", "RTX 5880 Ada", "PCIe", 48),
    ("RTX_6000Ada", "RTX 6000 Ada", "PCIe", 48),
    ("RTX_PRO_4000", "RTX PRO 4000", "PCIe", 24),
    ("RTX_PRO_4500", "RTX PRO 4500", "PCIe", 32),
    ("RTX_PRO_5000", "RTX PRO 5000", "PCIe", 48),
    ("RTX_PRO_6000_S", "RTX PRO 6000", "Server", 96),
    ("RTX_PRO_6000_WS", "RTX PRO 6000", "Workstation", 96),
    ("RTX_5060", "RTX 5060", "PCIe", 8),
    ("RTX_5070", "RTX 5070", "PCIe", 12),
    ("RTX_5070_Ti", "RTX 5070 Ti", "PCIe", 16),
    ("RTX_5080", "RTX 5080", "PCIe", 16),
    ("RTX_5090", "RTX 5090", "PCIe", 32),
    ("RTX_4060", "RTX 4060", "PCIe", 8),
    ("RTX_4070", "RTX 4070", "PCIe", 12),
    ("RTX_4070S", "RTX 4070 SUPER", "PCIe", 12),
    ("RTX_4070_Ti", "RTX 4070 Ti", "PCIe", 12),
    ("RTX_4070S_Ti", "RTX 4070 Ti SUPER", "PCIe", 16),
    ("RTX_4080", "RTX 4080", "PCIe", 16),
    ("RTX_4080S", "RTX 4080 SUPER", "PCIe", 16),
    ("RTX_4090", "RTX 4090", "PCIe", 24),
    ("RTX_4090D", "RTX 4090 D", "PCIe", 24),
    ("RTX_3050", "RTX 3050", "PCIe", 8),
    ("RTX_3060", "RTX 3060", "PCIe", 12),
    ("RTX_3060_Ti", "RTX 3060 Ti", "PCIe", 8),
    ("RTX_3060_laptop", "RTX 3060 Laptop", "onboard", 6),
    ("RTX_3070", "RTX 3070", "PCIe", 8),
    ("RTX_3070_laptop", "RTX 3070 Laptop", "onboard", 8),
    ("RTX_3070_Ti", "RTX 3070 Ti", "PCIe", 8),
    ("RTX_3080_Ti", "RTX 3080 Ti", "PCIe", 12),
    ("RTX_3090", "RTX 3090", "PCIe", 24),
    ("RTX_3090_Ti", "RTX 3090 Ti", "PCIe", 24),
    ("RTX_2060S", "RTX 2060 SUPER", "PCIe", 8),
    ("RTX_2070", "RTX 2070", "PCIe", 8),
    ("RTX_2070S", "RTX 2070 SUPER", "PCIe", 8),
    ("RTX_2080", "RTX 2080", "PCIe", 8),
    ("RTX_2080S", "RTX 2080 SUPER", "PCIe", 8),
    ("RTX_2080_Ti", "RTX 2080 Ti", "PCIe", 11),
    ("GTX_1050", "GTX 1050", "PCIe", 2),
    ("GTX_1050_Ti", "GTX 1050 Ti", "PCIe", 4),
    ("GTX_1060", "GTX 1060", "PCIe", 6),
    ("GTX_1070", "GTX 1070", "PCIe", 8),
    ("GTX_1070_Ti", "GTX 1070 Ti", "PCIe", 8),
    ("GTX_1080", "GTX 1080", "PCIe", 8),
    ("GTX_1080_Ti", "GTX 1080 Ti", "PCIe", 11),
    ("GTX_1650", "GTX 1650", "PCIe", 4),
    ("GTX_1650_S", "GTX 1650 SUPER", "PCIe", 4),
    ("GTX_1660", "GTX 1660", "PCIe", 6),
    ("GTX_1660_S", "GTX 1660 SUPER", "PCIe", 6),
    ("GTX_1660_Ti", "GTX 1660 Ti", "PCIe", 6),
    ("CMP_50HX", "CMP 50HX", "PCIe", 10),
]


@pytest.mark.parametrize(("name", "memory", "capability", "arch", "category", "score"), FIXED)
def test_the_contracts_fixed_points_are_exact(
    name: str, memory: float, capability: float, arch: str, category: str, score: int
) -> None:
    known = model(name)
    assert known is not None
    assert (known.memory_gb, known.compute_capability) == (memory, capability)
    assert (known.architecture, known.category) == (arch, category)
    assert known.performance_score == score == FIXED_POINTS[name]


def _speed(name: str) -> tuple[float, float]:
    known = model(name)
    assert known is not None
    # Chips without a matrix unit: the vector FP32 rates of the three fixed points that have none.
    vector = {"GTX 1080 Ti": 11.34, "RX 6900 XT": 23.04}
    return known.fp16_tflops or vector[name], known.memory_bandwidth_gbs or 0


def test_other_scores_follow_the_stated_rule() -> None:
    fixed = {name: _speed(name) for name in FIXED_POINTS}
    checked = 0
    for known in models():
        assert 0 <= known.performance_score <= 150
        if known.name not in FIXED_POINTS and known.fp16_tflops is not None:
            assert known.performance_score == derived_score(_speed(known.name), fixed), known.name
            checked += 1
    assert checked > 80


@given(*[st.floats(1, 5000)] * 2, *[st.floats(1, 3)] * 2)
def test_a_faster_chip_never_scores_less(
    rate: float, bandwidth: float, more_rate: float, more_bandwidth: float
) -> None:
    fixed = {name: _speed(name) for name in FIXED_POINTS}
    slow = derived_score((rate, bandwidth), fixed)
    fast = derived_score((rate * more_rate, bandwidth * more_bandwidth), fixed)
    assert 0 <= slow <= fast <= 150


@pytest.mark.parametrize(("raw", "name", "form", "memory"), VAST_NAMES)
def test_every_vast_name_is_known_in_both_spellings(
    raw: str, name: str, form: str, memory: float
) -> None:
    for spelling in (raw, raw.replace("_", " ")):
        gpu = resolve(spelling)
        assert (gpu.name, gpu.form, gpu.memory_gb, gpu.raw) == (name, form, memory, spelling)


@pytest.mark.parametrize(
    ("raw", "mib", "name", "form", "memory"),
    [
        ("A100 SXM4", 40960, "A100", "SXM", 40),
        ("A100 SXM4", 81920, "A100", "SXM", 80),
        ("A100 PCIE", 40536, "A100", "PCIe", 40),
        ("Tesla V100", 16384, "V100", "", 16),
        ("Tesla V100", 32768, "V100", "", 32),
        ("H100 NVL", 95830, "H100", "NVL", 94),
        ("H100", 95830, "H100", "NVL", 94),
        ("H100", 81559, "H100", "", 80),
        ("RTX 4090", 24564, "RTX 4090", "PCIe", 24),
        ("RTX 4090", 49140, "RTX 4090", "PCIe", 48),
        ("RTX 3080", 12288, "RTX 3080", "PCIe", 12),
        ("RTX A2000", 6138, "RTX A2000", "PCIe", 6),
        ("RTX A2000", 12282, "RTX A2000", "PCIe", 12),
        ("RTX 4060 Ti", 16380, "RTX 4060 Ti", "PCIe", 16),
        ("RTX 5060 Ti", 8151, "RTX 5060 Ti", "PCIe", 8),
        ("RTX 2060", 12288, "RTX 2060", "PCIe", 12),
        ("L40S", 46068, "L40S", "PCIe", 48),
        ("B200", 183359, "B200", "SXM", 180),
        ("B300", 275040, "B300", "SXM", 288),
        ("RTX 3090", 20480, "RTX 3090", "PCIe", 20),
    ],
)
def test_memory_decides_between_sizes_and_stays_as_told_elsewhere(
    raw: str, mib: float, name: str, form: str, memory: float
) -> None:
    gpu = resolve(raw, memory_mib=mib)
    assert (gpu.name, gpu.form, gpu.memory_gb) == (name, form, memory)


@pytest.mark.parametrize(
    ("raw", "name", "form", "memory"),
    [
        ("NVIDIA H100 80GB HBM3", "H100", "SXM", 80),
        ("NVIDIA A100-SXM4-80GB", "A100", "SXM", 80),
        ("NVIDIA A100 80GB PCIe", "A100", "PCIe", 80),
        ("Tesla V100-SXM2-32GB", "V100", "SXM", 32),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada", "PCIe", 48),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX PRO 6000", "Server", 96),
        ("geforcertx4090-pcie-24gb", "RTX 4090", "PCIe", 24),
        ("RTX6000", "Quadro RTX 6000", "PCIe", 24),
        ("AMD Instinct MI300X OAM", "MI300X", "OAM", 192),
        ("NVIDIA GeForce RTX 3080TI", "RTX 3080 Ti", "PCIe", 12),
        ("AMD 7900XTX", "RX 7900 XTX", "PCIe", 24),
        ("NVIDIA GH200 480GB", "GH200", "onboard", 96),
    ],
)
def test_device_names_of_other_vendors(raw: str, name: str, form: str, memory: float) -> None:
    gpu = resolve(raw)
    assert (gpu.name, gpu.form, gpu.memory_gb) == (name, form, memory)


def test_a_mig_slice_is_a_fraction_of_its_card() -> None:
    gpu = resolve("NVIDIA A100-SXM4-80GB MIG 1g.10gb")
    assert (gpu.name, gpu.memory_gb, gpu.fraction) == ("A100", 10, 0.125)


def test_an_unknown_name_is_kept_with_its_memory() -> None:
    gpu = resolve("Frobnicator 9000", memory_mib=12288)
    assert (gpu.name, gpu.raw, gpu.memory_gb) == (None, "Frobnicator 9000", 12)


@given(st.text(max_size=60), st.none() | st.floats())
def test_resolving_never_raises(raw: str, memory: float | None) -> None:
    gpu = resolve(raw, memory_mib=memory)
    assert gpu.raw == raw
    assert gpu.memory_gb >= 0
    assert not math.isnan(gpu.memory_gb)


def test_every_canonical_name_means_itself() -> None:
    for known in models():
        assert resolve(known.name).name == known.name
        assert wanted(known.name) == GpuWanted(known.name)
        assert known.memory_gb in known.memory_sizes
        assert known.source


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("H100", GpuWanted("H100")),
        ("H100:8", GpuWanted("H100", count=8)),
        ("8xH100", GpuWanted("H100", count=8)),
        ("8 x h100", GpuWanted("H100", count=8)),
        ("H100x8", GpuWanted("H100", count=8)),
        ("2x4090", GpuWanted("RTX 4090", count=2)),
        ("A100 80GB", GpuWanted("A100", memory_gb=80)),
        ("A100-80GB", GpuWanted("A100", memory_gb=80)),
        ("a100 40gb sxm4", GpuWanted("A100", "SXM", 40)),
        ("rtx4090", GpuWanted("RTX 4090")),
        ("4090", GpuWanted("RTX 4090")),
        ("RTX_4090", GpuWanted("RTX 4090")),
        ("rtx-4090", GpuWanted("RTX 4090")),
        ("h100 sxm", GpuWanted("H100", "SXM")),
        ("nvidia h100 pcie", GpuWanted("H100", "PCIe")),
        ("H200", GpuWanted("H200")),
        ("RTX 6000 Ada", GpuWanted("RTX 6000 Ada")),
        ("RTX A6000", GpuWanted("A6000")),
        ("A6000", GpuWanted("A6000")),
        ("7900 XTX", GpuWanted("RX 7900 XTX")),
        ("4070 ti super", GpuWanted("RTX 4070 Ti SUPER")),
        ("RTX PRO 6000", GpuWanted("RTX PRO 6000")),
        ("RTX PRO 6000 Server", GpuWanted("RTX PRO 6000", "Server")),
        ("V100 16GB", GpuWanted("V100", memory_gb=16)),
    ],
)
def test_what_people_type(text: str, expected: GpuWanted) -> None:
    assert wanted(text) == expected


def test_an_unknown_wish_names_what_is_near() -> None:
    with pytest.raises(UnknownGpuName) as caught:
        wanted("RTX 4900")
    assert "RTX 4090" in caught.value.nearest
    assert "Did you mean" in str(caught.value)


def test_a_raw_name_at_hand_can_be_asked_for() -> None:
    raw = ("Frobnicator 9000",)
    assert wanted("frobnicator-9000:2", known_raw=raw) == GpuWanted("Frobnicator 9000", count=2)
    with pytest.raises(UnknownGpuName):
        wanted("frobnicator 8000", known_raw=raw)


@pytest.mark.parametrize("text", ["H100:0", "0xH100", "H100:99999"])
def test_a_count_no_machine_has_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="GPUs"):
        wanted(text)


FAMILIES = """
GTX 1050, GTX 1060, GTX 1080 Ti, GTX 1660 SUPER, RTX 2060, RTX 2080 Ti, RTX 3050, RTX 3090 Ti,
RTX 4060 Ti, RTX 4090 D, RTX 5050, RTX 5090, TITAN V, CMP 50HX, Quadro M4000, Quadro P6000,
Quadro RTX 8000, RTX A2000, A6000, RTX 2000 Ada, RTX 6000 Ada, RTX PRO 4000, RTX PRO 6000, K80,
M60, P4, P40, P100, V100, T4, T4G, A2, A10, A10G, A16, A30, A40, A100, A800, L4, L40, L40S, H100,
H200, GH200, B200, B300, GB200, GB300, VR200, RX 6900 XT, RX 7900 XTX, Radeon Pro V520,
Radeon Pro V620, Radeon Pro V710, MI25, MI100, MI210, MI250, MI250X, MI300A, MI300X, MI325X, MI350X,
MI355X, Gaudi, Gaudi 2, Gaudi 3, Max 1550, TPU v2, TPU v3, TPU v4, TPU v5e, TPU v5p, TPU v6e,
TPU v7, Inferentia, Inferentia2, Trainium, Trainium2, Trainium3, Cloud AI 100, n300, p150
"""


@pytest.mark.parametrize("name", [name.strip() for name in FAMILIES.split(",")])
def test_every_family_that_clouds_rent_is_known(name: str) -> None:
    known = model(name)
    assert known is not None
    assert known.architecture
    assert known.source


def test_every_variant_tells_its_figures_and_whose_they_are() -> None:
    variants = [(known, variant) for known in models() for variant in known.variants]
    assert len(models()) >= 148
    assert len(variants) >= 176
    for known, variant in variants:
        assert variant.memory_gb > 0
        assert variant.form
        assert variant.source
        if variant.memory_bandwidth_gbs is None or variant.fp16_tflops is None:
            by_vector_units = variant.fp32_tflops is not None
            assert by_vector_units or "not" in variant.source or "no maker" in variant.source
        if variant.fp8_tflops and variant.fp16_tflops:
            assert variant.fp8_tflops >= variant.fp16_tflops * 0.99, known.name
        unknown_yet = known.vendor != "nvidia" or known.name == "VR200"
        assert (known.compute_capability == 0) == unknown_yet


def test_the_figures_of_a_model_are_those_of_its_usual_variant() -> None:
    h100 = model("H100")
    assert h100 is not None
    usual, pcie, nvl = h100.variants
    assert (usual.board, pcie.form, nvl.memory_gb) == ("SXM5", "PCIe", 94)
    assert (h100.fp16_tflops, pcie.fp16_tflops, nvl.fp16_tflops) == (989, 756, 835)
    assert (h100.memory_bandwidth_gbs, h100.tdp_w, pcie.tdp_w) == (3350, 700, 350)


def test_chips_without_bf16_say_so() -> None:
    for name, bf16 in (("V100", None), ("T4", None), ("MI100", 92.3), ("A100", 311.9)):
        known = model(name)
        assert known is not None
        assert known.bf16_tflops == bf16


@pytest.mark.parametrize(
    ("raw", "told_gb", "memory"),
    [
        ("B300", 262, 288),  # Verda: GiB of an older driver
        ("B300 SXM6 268GB", None, 288),
        ("GB300", 279, 288),
        ("B200-192G-SXM6", None, 180),
        ("NVIDIA H200 NVL", 143, 141),
        ("Trainium2", 512, 96),  # AWS's API
        ("A10G", 22.35, 24),
    ],
)
def test_sizes_in_other_units_are_the_size_as_sold(
    raw: str, told_gb: float | None, memory: float
) -> None:
    assert resolve(raw, memory_gb=told_gb).memory_gb == memory
