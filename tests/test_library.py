"""What `import gpubroker` promises to programs."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import gpubroker
from gpubroker import BlockingBroker, Broker

HEAVY = (
    "asyncio", "asyncssh", "click", "cryptography", "httpx2", "msgspec", "rich", "sqlite3",
    "stamina", "starlette", "uvicorn",
)  # fmt: skip
OF_THE_LOOP = {"aclose", "ssh_folder"}
"""Broker's alone: `close` of the blocking one does both, and a folder needs no thread."""


def _public(cls: type) -> dict[str, Any]:
    return {name: value for name, value in vars(cls).items() if not name.startswith("_")}


def _parameters(method: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(method).parameters.values())


def test_all_is_sorted_and_every_name_can_be_imported() -> None:
    assert gpubroker.__all__ == sorted(gpubroker.__all__)
    assert len(set(gpubroker.__all__)) == len(gpubroker.__all__)
    for name in gpubroker.__all__:
        assert getattr(gpubroker, name) is not None


def test_dir_shows_what_can_be_imported() -> None:
    assert dir(gpubroker) == gpubroker.__all__


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Brooker"):
        _ = gpubroker.Brooker


def test_importing_gpubroker_imports_nothing_heavy() -> None:
    code = "import sys, gpubroker; print(*sorted(sys.modules))"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    imported = ran.stdout.split()
    assert "gpubroker" in imported
    assert not {name.partition(".")[0] for name in imported} & set(HEAVY)


def test_the_blocking_broker_has_the_methods_of_the_broker() -> None:
    assert set(_public(Broker)) - OF_THE_LOOP == set(_public(BlockingBroker)) - OF_THE_LOOP


@pytest.mark.parametrize("name", sorted(set(_public(Broker)) - OF_THE_LOOP - {"realm"}))
def test_a_blocking_method_has_the_signature_of_its_twin(name: str) -> None:
    twin, blocking = getattr(Broker, name), getattr(BlockingBroker, name)
    assert _parameters(blocking) == _parameters(twin)
    assert inspect.signature(blocking).return_annotation == (
        inspect.signature(twin).return_annotation
    )
    assert not inspect.iscoroutinefunction(blocking)


def test_both_are_made_with_the_same_words() -> None:
    assert _parameters(BlockingBroker.__init__) == _parameters(Broker.__init__)


@pytest.mark.parametrize("cls", [Broker, BlockingBroker])
def test_every_public_method_is_documented(cls: type) -> None:
    for name, value in _public(cls).items():
        assert inspect.getdoc(value), f"{cls.__name__}.{name}"


def test_a_blocking_docstring_leads_to_its_twin_or_says_the_same() -> None:
    for name in set(_public(Broker)) - OF_THE_LOOP - {"close"}:
        twin, told = (inspect.getdoc(getattr(cls, name)) for cls in (Broker, BlockingBroker))
        assert told in {twin, f"As Broker.{name}."}, name
