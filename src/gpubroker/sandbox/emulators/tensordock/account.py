"""Who asks at TensorDock, and the money, which only the older API tells."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from gpubroker.sandbox.emulators.base import Call, Emulator, Refusal, answer
from gpubroker.sandbox.emulators.tensordock.catalog import dollars
from gpubroker.sandbox.emulators.tensordock.words import check_query, no_body, stable_id
from gpubroker.sandbox.money import total
from gpubroker.sandbox.rented import Account

_PAIR = {"api_key", "api_token"}


async def test(_: Emulator, call: Call) -> Response:
    """POST auth/test."""
    no_body(call)
    organisation = stable_id("organisation", call.owner.name)
    return answer({"success": True, "organizationId": organisation})


def v0_refused(message: str, status: int = 401) -> Response:
    """The older API's form."""
    return answer({"success": False, "error": message}, status)


def _owner(api: Emulator, call: Call) -> Account:
    """Of the pair of credentials in the form: the token says whose it is."""
    check_query(call)
    form: dict[str, Any] = call.body if isinstance(call.body, dict) else {}
    if unknown := sorted(form.keys() - _PAIR):
        raise Refusal(v0_refused(f"unknown field {unknown[0]}", 400))
    other = api.cloud.faults.take(call.operation, "other_account") is not None
    account = None
    if all(form.get(name) not in (None, "", "invalid-key") for name in _PAIR):
        account = api.account_of(str(form["api_token"]), other=other)
    if account is None:
        raise Refusal(v0_refused("Invalid API credentials"))
    return account


async def test_pair(api: Emulator, call: Call) -> Response:
    """POST auth/test of v0."""
    _owner(api, call)
    return answer({"success": True})


async def balance(api: Emulator, call: Call) -> Response:
    """POST billing/balance of v0: what is left, and what an hour costs now."""
    owner = _owner(api, call)
    hourly = total(machine.ledger.rate for machine in api.cloud.owned(owner.name))
    return answer(
        {
            "success": True,
            "balance": dollars(api.cloud.credit(owner.name)),
            "hourly_cost": dollars(hourly),
        }
    )
