"""GPUBROKER_HOME/gpus.toml: the user's own models."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpubroker.catalog import gpus
from gpubroker.catalog.gpus import load_user_models, model, models, reload_user_models, resolve
from gpubroker.catalog.user_models import GpuModelsError

MODIFIED = """
[[gpu]]
name = "RTX 4090 48GB"
memory_gb = 48
forms = ["PCIe"]
aliases = ["Frob-9000"]
vendor = "nvidia"
category = "consumer"
architecture = "Ada Lovelace"
compute_capability = 8.9
fp16_tflops = 165.2
memory_bandwidth_gbs = 1008
"""


@pytest.fixture(autouse=True)
def shipped_again(tmp_path: Path) -> Iterator[None]:
    """No test leaves its models behind."""
    yield
    load_user_models(tmp_path / "there-is-no-such-file.toml")
    assert model("RTX 4090 48GB") is None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the user's models are."""
    return tmp_path / gpus.USER_MODELS


def write(path: Path, text: str) -> None:
    """A new version, told apart even where the clock stands still."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text)
    later = max(path.stat().st_mtime_ns, before + 1_000_000)
    os.utime(path, ns=(later, later))


def test_a_new_model_is_resolved_listed_and_scored(path: Path) -> None:
    before = len(models())
    assert resolve("Frob-9000").name is None
    write(path, MODIFIED)
    load_user_models(path)
    gpu = resolve("Frob-9000")
    assert (gpu.name, gpu.memory_gb, gpu.form, gpu.vendor) == (
        "RTX 4090 48GB",
        48,
        "PCIe",
        "nvidia",
    )
    told = model("RTX 4090 48GB")
    assert told is not None
    assert told.source == str(path)
    assert told.performance_score == 100  # by the rule, as it equals the RTX 4090
    assert len(models()) == before + 1
    assert gpus.wanted("frob-9000:2").name == "RTX 4090 48GB"


def test_a_known_model_keeps_what_is_not_told(path: Path) -> None:
    write(path, '[[gpu]]\nname = "l40s"\ntdp_w = 300\naliases = ["our nodes"]\n')
    load_user_models(path)
    told = model("L40S")
    assert told is not None
    assert (told.tdp_w, told.fp16_tflops, told.memory_gb) == (300, 362, 48)
    assert (told.performance_score, told.year, told.source) == (111, 2022, str(path))
    assert resolve("our-nodes").name == "L40S"
    assert resolve("L40S", memory_mib=45776).memory_gb == 48


def test_several_sizes_and_forms_are_told_as_lists(path: Path) -> None:
    write(path, '[[gpu]]\nname = "X1"\nmemory_gb = [64, 128]\nforms = ["OAM", "PCIe"]\n')
    load_user_models(path)
    told = model("X1")
    assert told is not None
    assert (told.memory_gb, told.memory_sizes, told.forms) == (64, (64, 128), ("OAM", "PCIe"))
    assert resolve("X1", memory_gb=127).memory_gb == 128
    assert resolve("x1 pcie").form == "PCIe"


@pytest.mark.parametrize(
    ("text", "line", "field", "why"),
    [
        ('[[gpu]]\nname = "X1"\nmemory_gb = "80"\n', 3, "memory_gb", "expected"),
        ('[[gpu]]\nname = "X1"\nmemory_gb = 80\n\n[[gpu]]\nname = 5\n', 6, "name", "expected"),
        ('[[gpu]]\nname = "X1"\nmemory_gb = 80\ntdp = 3\n', 4, "tdp", "no such field"),
        ("[[gpu]]\nmemory_gb = 80\n", 1, "name", "needed"),
        ('[[gpu]]\nname = "X1"\n', 1, "memory_gb", "needed"),
        ('[[gpu]]\nname = "X1"\nmemory_gb = -1\n', 3, "memory_gb", "out of range"),
        ('[[gpu]]\nname = "X1"\nmemory_gb = [8, 0]\n', 3, "memory_gb", "out of range"),
        ('[[gpu]]\nname = "X1"\nmemory_gb = 8\nperformance_score = 151\n', 4, "performance_score",
         "out of range"),
        ('[[gpu]]\nname = "X1"\nmemory_gb = 8\ncategory = "gaming"\n', 4, "category", "gaming"),
        ('[[gpu]]\nname = "X1"\nmemory_gb = 8\naliases = "x"\n', 4, "aliases", "expected"),
        ('[[gpu]]\nname = "X1"\nmemory_gb = 8\nforms = ["PCIe", 3]\n', 4, "forms", "expected"),
        ('[[gpu]]\nname = "--"\nmemory_gb = 8\n', 2, "name", "letter"),
        ('[gpu]\nname = "X1"\n', 1, "gpu", "[[gpu]]"),
        ("x = 3\n", 1, "x", "[[gpu]]"),
        ('[[gpu]]\nname = "X1\n', 2, "", "Illegal"),
    ],
)  # fmt: skip
def test_a_bad_file_names_its_line_and_field_and_changes_nothing(
    path: Path, text: str, line: int, field: str, why: str
) -> None:
    write(path, MODIFIED)
    load_user_models(path)
    write(path, text)
    with pytest.raises(GpuModelsError) as caught:
        reload_user_models()
    error = caught.value
    assert (error.path, error.line, error.field) == (path, line, field)
    assert f"{path}, line {line}" in str(error)
    assert why in str(error)
    assert model("RTX 4090 48GB") is not None
    assert reload_user_models() is False, "a bad version is told once"


def test_what_cannot_be_read_is_told(path: Path) -> None:
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(GpuModelsError, match="cannot be read"):
        load_user_models(path)


def test_a_reload_follows_the_file_and_is_nothing_where_it_is_the_same(path: Path) -> None:
    load_user_models(path)
    assert reload_user_models() is False
    write(path, MODIFIED)
    assert reload_user_models() is True
    assert resolve("Frob-9000").name == "RTX 4090 48GB"
    same = models()
    assert reload_user_models() is False
    assert models() is same
    write(path, MODIFIED.replace("Frob-9000", "Frob-XL"))
    assert reload_user_models() is True
    assert resolve("Frob-9000").name is None
    assert resolve("Frob-XL").name == "RTX 4090 48GB"
    path.unlink()
    assert reload_user_models() is True
    assert model("RTX 4090 48GB") is None
    assert resolve("Frob-XL").name is None


def test_nobody_sees_half_of_a_change(path: Path) -> None:
    """A resolved name always has its model, while the file changes under the readers."""
    write(path, MODIFIED)
    torn: set[str | None] = set()
    done = threading.Event()

    def reader() -> None:
        while not done.is_set():
            lexicon = gpus._known  # one look, as every call takes
            name = lexicon.resolve_name("Frob-9000").name
            if (name is None) == ("RTX 4090 48GB" in lexicon.by_name):
                torn.add(name)

    readers = [threading.Thread(target=reader) for _ in range(2)]
    for thread in readers:
        thread.start()
    for _ in range(20):
        load_user_models(path)
        load_user_models(path.with_name("none.toml"))
    done.set()
    for thread in readers:
        thread.join()
    assert not torn


def test_the_users_spelling_wins_over_a_short_form(path: Path) -> None:
    assert resolve("4090").name == "RTX 4090"
    write(path, MODIFIED.replace("Frob-9000", "4090"))
    load_user_models(path)
    assert resolve("4090").name == "RTX 4090 48GB"
    assert resolve("RTX 4090").name == "RTX 4090"


def test_without_a_file_nothing_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> None:
        raise AssertionError("the table was read")

    monkeypatch.setattr(gpus, "shipped_entries", never)
    load_user_models(path)
