"""[notify] of config.toml: what is refused, where secrets come from, and the broker's own verbs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import (  # type: ignore[import-untyped]  # it ships no types
    Draft202012Validator,
)
from tests.fleet.receivers import http

from gpubroker import BlockingBroker, Broker
from gpubroker.config import ConfigError, load, schema
from gpubroker.credentials.vault import Vault
from gpubroker.fleet.channels import Webhook
from gpubroker.model.errors import Invalid, Unavailable
from gpubroker.model.home import Home
from gpubroker.model.money import nanos
from gpubroker.model.notices import KINDS
from gpubroker.routes import UnknownChannel, routes

GOOD = """
[notify]
ttl_warnings = ["1h", "10m"]

[notify.channels.desk]
command = ["notify-send", "gpubroker"]
least = "critical"

[notify.channels.ops]
webhook = "https://hooks.example/gpubroker"
secret_env = "OPS_SECRET"
kinds = ["preempted", "budget_stop"]

[notify.channels.mail]
email = "me@example.com"
server = "smtp.example.com:587"
user = "me"
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def write(home: Home, text: str) -> None:
    home.config.write_text(text)


def made(home: Home, environ: dict[str, str] | None = None) -> dict[str, Any]:
    environ = environ or {}
    found = routes(load(home.config), environ, Vault(home, environ), loopback_only=False)
    return {route.name: route for route in found}


def test_every_setting_is_taken_up(home: Home) -> None:
    write(home, GOOD)
    notify = load(home.config).notify
    assert notify.warn_before_s() == (3600.0, 600.0)
    found = made(home, {"OPS_SECRET": "sesame"})
    assert [route.to for route in found.values()] == [
        "notify-send", "hooks.example", "me@example.com"
    ]  # fmt: skip
    assert found["ops"].kinds == ("budget_stop", "preempted")
    assert {KINDS[kind].severity for kind in found["desk"].kinds} == {"critical"}
    assert isinstance(found["ops"].carrier, Webhook)
    assert "sesame" not in repr(found)


def test_the_schema_takes_it_too() -> None:
    import tomllib

    validator = Draft202012Validator(schema())
    assert validator.is_valid(tomllib.loads(GOOD))
    assert not validator.is_valid(tomllib.loads("[notify.channels.a]\ncommmand = ['x']\n"))


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("[notify]\nttl = []\n", 2, "ttl_warnings"),
        ('[notify]\nttl_warnings = ["soon"]\n', 2, "is no duration"),
        ("[notify]\nchannels = 3\n", 2, "expected a table"),
        ("[notify.channels.a]\n", 1, "exactly one of command, webhook, email"),
        ('[notify.channels.a]\ncommand = ["x"]\nemail = "a@b"\n', 1, "exactly one"),
        ('[notify.channels.a]\ncommand = ["x"]\nserver = "x:1"\n', 3, "means nothing"),
        ("[notify.channels.a]\ncommand = []\n", 2, "expected a program"),
        ('[notify.channels."My Desk"]\ncommand = ["x"]\n', 1, "small letters"),
        ('[notify.channels.a]\nweb_hook = "x"\n', 2, "did you mean webhook"),
        (
            '[notify.channels.a]\ncommand = ["x"]\nkinds = ["preempt"]\n',
            3,
            "mean preempted",
        ),
        ('[notify.channels.a]\ncommand = ["x"]\nleast = "bad"\n', 3, "invalid enum value"),
        ('[notify.channels.a]\nwebhook = "http://hooks.example/"\n', 2, "expected https"),
        ('[notify.channels.a]\nwebhook = "https://me:pw@hooks.example/"\n', 2, "password"),
        ('[notify.channels.a]\nwebhook = "https://x/"\nsecret_env = "s3cr3t"\n', 3, "in capitals"),
        ('[notify.channels.a]\nemail = "me"\nserver = "x:25"\n', 2, "expected an address"),
        ('[notify.channels.a]\nemail = "a@b"\n', 1, "mail server"),
        (
            '[notify.channels.a]\nemail = "a@b"\nserver = "mail.example:25"\nstarttls = false\n',
            4,
            "only a server on this computer",
        ),
    ],
)
def test_what_makes_no_sense_names_its_line(home: Home, text: str, line: int, why: str) -> None:
    write(home, text)
    with pytest.raises(ConfigError) as caught:
        load(home.config)
    assert f"line {line}: " in str(caught.value)
    assert why in str(caught.value)


@pytest.mark.parametrize("name", ["secret", "password", "token", "api_key"])
def test_a_secret_in_the_file_is_refused_and_not_repeated(home: Home, name: str) -> None:
    write(home, f'[notify.channels.ops]\nwebhook = "https://x/"\n{name} = "sesame"\n')
    with pytest.raises(ConfigError, match="gpubroker notify secret ops") as caught:
        load(home.config)
    assert "sesame" not in str(caught.value)


def test_a_missing_secret_says_where_it_was_looked_for(home: Home) -> None:
    write(home, GOOD)
    found = made(home)
    assert found["ops"].carrier is None
    assert found["ops"].problem == "its secret is missing: OPS_SECRET is not set"
    assert "gpubroker notify secret mail stores it" in found["mail"].problem


def test_a_stored_secret_is_sealed_and_used(home: Home) -> None:
    write(home, '[notify.channels.ops]\nwebhook = "https://hooks.example/"\n')
    with BlockingBroker(home=home, environ={}) as broker:
        where = broker.set_channel_secret("ops", "sesame\n")
        [told] = broker.channels()
    assert (where, told.problem, told.to) == (str(home.credentials), "", "hooks.example")
    assert "sesame" not in home.credentials.read_text()
    assert made(home)["ops"].carrier._secret == "sesame"


def test_a_secret_has_a_channel_that_uses_it(home: Home) -> None:
    write(home, '[notify.channels.desk]\ncommand = ["x"]\n')
    with BlockingBroker(home=home, environ={}) as broker:
        with pytest.raises(UnknownChannel, match="desk"):
            broker.set_channel_secret("ops", "sesame")
        with pytest.raises(Invalid, match="has no secret"):
            broker.set_channel_secret("desk", "sesame")


def test_a_channel_is_tried_out(home: Home) -> None:
    with http(204, 503) as (url, heard):
        write(home, f'[notify.channels.ops]\nwebhook = "{url}"\nsecret_env = "S"\n')
        with BlockingBroker(home=home, environ={"S": "x"}) as broker:
            with pytest.raises(UnknownChannel):
                broker.test_channel("mail")
            broker.test_channel("ops")
            with pytest.raises(Unavailable, match="answered with 503"):
                broker.test_channel("ops")
    assert json.loads(heard.requests[0][2])["kind"] == "test"


def test_budgets_are_set_shown_and_removed(home: Home) -> None:
    with BlockingBroker(home=home, environ={}) as broker:
        assert broker.budgets() == ()
        set_ = broker.set_budget("thesis", nanos(50), period="month", project="p")
        [shown] = broker.budgets()
        assert shown.budget == set_.budget
        assert (shown.budget.scope, shown.budget.value, shown.left) == ("project", "p", nanos(50))
        with pytest.raises(Invalid, match="not of both"):
            broker.set_budget("b", nanos(50), project="p", tag="a=b")
        broker.remove_budget("thesis")
        assert broker.budgets() == ()
        assert broker.warnings() == ()


def test_what_budgets_show_needs_no_event_loop(home: Home) -> None:
    broker = Broker(home=home, environ={})
    broker.set_budget("thesis", nanos(1))
    assert [one.budget.name for one in broker.budgets()] == ["thesis"]
    broker.close()
