"""Whose a Paperspace key is, and whether its team pays."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.paperspace.words import (
    Nothing,
    account_id,
    moment,
    read_query,
    refusal,
)
from gpubroker.sandbox.rented import Account

MAX_MACHINES = 20


def in_good_standing(api: Emulator, account: Account) -> bool:
    """It has money left."""
    return api.cloud.credit(account.name) > 0


def check_standing(api: Emulator, account: Account) -> None:
    """Raises the refusal."""
    if not in_good_standing(api, account):
        raise refusal(403, "Your account is not in good standing. Please add a payment method.")


def _session_json(account: Account) -> dict[str, Any]:
    made, team, name = (
        moment(account.created_at),
        account_id(account, "t"),
        f"team-{account.number}",
    )
    membership = {
        "dtCreated": made,
        "id": team,
        "isUserTeam": True,
        "name": name,
        "namespace": name,
        "publicProfileImageUrl": None,
    }
    return {
        "team": {
            "analyticsId": account.number,
            "id": team,
            "isPrivate": True,
            "maxMachines": MAX_MACHINES,
            "namespace": name,
        },
        "user": {
            "analyticsId": account.number,
            "dtConfirmed": made,
            "dtCreated": made,
            "email": f"owner-{account.number}@example.com",
            "firstName": None,
            "id": account_id(account, "u"),
            "isPasswordAuthEnabled": True,
            "isPhoneVerified": False,
            "isQrCodeBasedMfaConfirmed": False,
            "isQrCodeBasedMfaEnabled": False,
            "lastName": None,
            "metadata": {"coreSurvey": None, "gradientSurvey": None, "tags": None},
            "preferences": None,
            "teamMemberships": [{"isAdmin": True, "isOwner": True, "team": membership}],
        },
    }


async def session(api: Emulator, call: Call) -> Response:
    """GET auth/session: without a good key the answer is null, and no refusal."""
    read_query(call, Nothing)
    key = api.key_of(call.request)
    other = api.cloud.faults.take(call.operation, "other_account")
    account = None if key is None else api.account_of(key, other=other is not None)
    return answer(None if account is None else _session_json(account))


async def standing(api: Emulator, call: Call) -> Response:
    """GET billing/account-standing."""
    read_query(call, Nothing)
    good = in_good_standing(api, call.owner)
    return answer(
        {
            "hasPaymentMethod": True,
            "isAdminLocked": False,
            "isInGoodStanding": good,
            "messages": [] if good else ["Your account has an unpaid balance."],
        }
    )


async def health(_: Emulator, call: Call) -> Response:
    """GET health: for everybody."""
    read_query(call, Nothing)
    return answer("HEALTHY")
