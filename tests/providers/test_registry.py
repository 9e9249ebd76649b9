"""Which providers there are, whose keys are found where, and how one is put together."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from gpubroker.catalog.clouds import CLOUDS, UnknownCloud
from gpubroker.model.errors import Unavailable, Unsupported
from gpubroker.model.identity import Ref
from gpubroker.providers import registry
from gpubroker.providers.accounts import Account, account_of, sandbox_accounts
from gpubroker.providers.layers import Faults
from gpubroker.providers.limits import MemoryLimitBook


def test_every_cloud_is_ready_or_planned() -> None:
    assert set(registry.names()) == {entry.name for entry in CLOUDS}
    assert registry.status("vast_ai") == "ready"
    assert {registry.status(name) for name in registry.names()} == {"ready", "planned"}


def test_public_prices_are_known_without_importing_a_provider() -> None:
    told = {n for n in registry.ready() if registry.provider_class(n).capabilities.public_prices}
    assert set(registry.PUBLIC_PRICES) == told


@pytest.mark.parametrize("name", ["vast", "vastai", "vast_ai", "Vast.ai"])
def test_a_provider_is_found_by_its_short_forms(name: str) -> None:
    assert registry.provider_class(name).name == "vast_ai"


def test_a_planned_and_an_unknown_name_are_told_apart() -> None:
    planned = next(name for name in registry.names() if registry.status(name) == "planned")
    with pytest.raises(Unsupported, match="planned"):
        registry.provider_class(planned)
    with pytest.raises(UnknownCloud):
        registry.provider_class("nimbus9000")


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "BUILT_IN", {"vast_ai": "gpubroker_no_such_module:X"})
    with pytest.raises(Unsupported, match=r"install gpubroker\[vast_ai\]"):
        registry.provider_class("vast_ai")


def test_looking_at_the_registry_loads_no_http_client() -> None:
    code = (
        "import sys, gpubroker.providers.registry as r; r.names(); r.ready();"
        "print([m for m in ('httpx2', 'importlib.metadata', 'asyncssh') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("variable", ["VAST_AI_API_KEY", "VAST_API_KEY"])
def test_a_key_is_found_under_either_name(variable: str) -> None:
    account = account_of("vast_ai", {variable: " sesame \n"})
    assert account is not None
    assert (account.key, account.found) == ("sesame", variable)
    assert "sesame" not in repr(account)


def test_the_first_spelling_wins_and_an_empty_one_is_none() -> None:
    both = account_of("vast_ai", {"VAST_API_KEY": "second", "VAST_AI_API_KEY": "first"})
    assert both is not None
    assert both.key == "first"
    assert account_of("vast_ai", {"VAST_AI_API_KEY": "  "}) is None


def test_half_of_a_pair_of_credentials_is_none() -> None:
    assert account_of("verda", {"VERDA_CLIENT_ID": "x"}) is None
    both = account_of("verda", {"VERDA_CLIENT_ID": "x", "VERDA_CLIENT_SECRET": "y"})
    assert both is not None
    assert both.secrets == {"VERDA_CLIENT_ID": "x", "VERDA_CLIENT_SECRET": "y"}


def test_a_sandbox_gives_its_own_credentials_and_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VAST_AI_API_KEY", "real-one")
    index = {
        "vast_ai": {
            "base_url": "http://127.0.0.1:9900/vast_ai",
            "env": {"VAST_URL": "http://127.0.0.1:9900/vast_ai", "VAST_API_KEY": "sandbox-key"},
            "protocol": "rest",
        },
        "runpod": {"base_url": "http://127.0.0.1:9900/runpod", "env": {}},
    }
    accounts = sandbox_accounts(index)
    account, base_url = accounts["vast_ai"]
    assert (account.key, account.found) == ("sandbox-key", "sandbox")
    assert base_url == "http://127.0.0.1:9900/vast_ai"
    assert set(accounts) == {"vast_ai"}


async def test_a_connected_provider_speaks_through_its_layers(
    raw_server: Any, answered: Any, clock: Any
) -> None:
    account = Account("vast_ai", "work", {"VAST_AI_API_KEY": "sandbox-key"})
    async with raw_server() as server:
        server.replies = [answered("503 Later", b""), answered("200 OK", b'{"id": 42}')]
        connected = registry.connect(
            account,
            clock=clock,
            book=MemoryLimitBook(),
            base_url=f"http://127.0.0.1:{server.port}",
            loopback_only=True,
        )
        assert await connected.provider.whoami() == "42"
        await connected.provider.aclose()  # type: ignore[attr-defined]  # of every wrapped provider
        assert len(server.received) == 2
        assert b"authorization: Bearer sandbox-key" in server.received[0]
        assert connected.meter.outcomes["whoami", "ok"] == 1
        assert connected.circuit.state.position == "closed"
        assert connected.provider.account == "work"


async def test_faults_sit_next_to_the_provider(clock: Any) -> None:
    faults = Faults()
    faults.plan("terminate", Unavailable("planned"))
    account = Account("vast_ai", "default", {"VAST_AI_API_KEY": "k-e-y"})
    connected = registry.connect(
        account, clock=clock, book=MemoryLimitBook(), hooks=registry.Hooks(faults=faults)
    )
    with pytest.raises(Unavailable, match="planned"):
        await connected.provider.terminate(Ref("vast_ai", "default", "", "1"))
    assert connected.meter.outcomes["terminate", "unavailable"] == 1
