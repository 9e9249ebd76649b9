"""Verda's access tokens: an hour of access for a client id and its secret.

The secret tells the account; of tokens only fingerprints are kept.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Literal

from msgspec import Struct
from starlette.responses import Response

from gpubroker.sandbox.books import BAD_KEY
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.verda.words import (
    UNAUTHORIZED,
    invalid,
    read_body,
    refusal,
)

ACCESS_S = 3600
REFRESH_S = 24 * 3600
SCOPE = "cloud-api-v1"
_KIND = "token"


class TokenWanted(Struct, forbid_unknown_fields=True):
    """Body of POST oauth2/token, as JSON or as a form."""

    grant_type: Literal["client_credentials", "refresh_token"]
    client_id: str = ""
    client_secret: str = ""
    refresh_token: str = ""


class Token(Struct, kw_only=True):
    """What a token is good for."""

    id: str
    use: Literal["access", "refresh"]
    account: str
    other: str
    """Whose it is under the fault `other_account`."""
    expires_at: float


def holder(cloud: Cloud, text: str, use: str) -> Token | None:
    """The token, None for one that is unknown, expired, or of another use."""
    token = cloud.storage.get(_KIND, cloud.provider, _fingerprint(text), Token)
    if token is None or token.use != use or token.expires_at <= cloud.clock.now():
        return None
    return token


async def issue(api: Emulator, call: Call) -> Response:
    """POST oauth2/token."""
    wanted = read_body(call, TokenWanted)
    cloud = api.cloud
    if wanted.grant_type == "refresh_token":
        if not wanted.refresh_token:
            raise invalid("refresh_token should not be empty")
        old = holder(cloud, wanted.refresh_token, "refresh")
        if old is None:
            raise refusal(401, UNAUTHORIZED, "Invalid refresh token")
        return _answer(cloud, call.now, old.account, old.other)
    if not (wanted.client_id and wanted.client_secret):
        raise invalid("client_id and client_secret should not be empty")
    account = None if wanted.client_id == BAD_KEY else cloud.account(wanted.client_secret)
    if account is None:
        raise refusal(401, UNAUTHORIZED, "Invalid client id or client secret")
    other = cloud.account(wanted.client_secret, other=True)
    return _answer(cloud, call.now, account.name, other.name if other else account.name)


def _answer(cloud: Cloud, now: float, account: str, other: str) -> Response:
    for old in cloud.storage.all(_KIND, cloud.provider, Token):
        if old.expires_at <= now:
            cloud.storage.drop(_KIND, cloud.provider, old.id)

    def made(use: Literal["access", "refresh"], lasts_s: float) -> str:
        text = secrets.token_urlsafe(32)
        token = Token(
            id=_fingerprint(text), use=use, account=account, other=other, expires_at=now + lasts_s
        )
        cloud.storage.put(_KIND, cloud.provider, token.id, token)
        return text

    return answer(
        {
            "access_token": made("access", ACCESS_S),
            "refresh_token": made("refresh", REFRESH_S),
            "token_type": "Bearer",
            "expires_in": ACCESS_S,
            "scope": SCOPE,
        }
    )


def _fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
