"""Who is behind a key, where the cloud has no call that says it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpubroker.providers.accounts import Account

PREFIX = "key-"
_DIGITS = 24


def fingerprint(account: Account) -> str:
    """`key-` and 24 hex digits of a hash over the account's secrets; "" where it has none.

    The uid of clouds without an account endpoint: another key is another uid, though it may
    be of the same account. Nothing of a secret can be read out of it.
    """
    if not account.key:
        return ""
    told = [account.provider, *(part for pair in sorted(account.secrets.items()) for part in pair)]
    return PREFIX + hashlib.sha256("\0".join(told).encode()).hexdigest()[:_DIGITS]


def is_fingerprint(uid: str) -> bool:
    """Whether a recorded uid says only which key it was."""
    return uid.startswith(PREFIX) and len(uid) == len(PREFIX) + _DIGITS
