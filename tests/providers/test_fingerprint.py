"""The uid of clouds that name no account."""

from __future__ import annotations

from gpubroker.providers.accounts import Account
from gpubroker.providers.fingerprint import fingerprint, is_fingerprint
from gpubroker.providers.redaction import Redactor

KEY = "k3y-0f-the-tests-n0t-real"


def of(key: str, provider: str = "lambda_labs", **more: str) -> str:
    return fingerprint(Account(provider, "default", {"KEY": key, **more}))


def test_it_stays_the_same_whatever_the_alias_and_where_the_key_was_found() -> None:
    one = Account("lambda_labs", "work", {"KEY": KEY}, "a file")
    assert fingerprint(one) == of(KEY)


def test_another_key_cloud_or_second_secret_is_another() -> None:
    told = {of(KEY), of(KEY + "x"), of(KEY, "verda"), of(KEY, SECRET="s"), of(KEY, SECRET="t")}
    assert len(told) == 5


def test_it_holds_nothing_of_the_key_and_is_shown_whole() -> None:
    uid = of(KEY)
    assert is_fingerprint(uid)
    assert not is_fingerprint("4711")
    assert KEY not in uid
    assert Redactor((), (KEY,)).text(f"account {uid}") == f"account {uid}"


def test_without_a_key_there_is_none() -> None:
    assert fingerprint(Account("lambda_labs")) == ""
