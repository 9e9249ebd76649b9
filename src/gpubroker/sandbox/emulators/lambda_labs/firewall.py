"""Lambda's firewall: the account's rules, and rulesets of a region. Kept, not enforced."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator
from gpubroker.sandbox.emulators.lambda_labs.words import (
    UNKNOWN,
    Named,
    check_query,
    check_region,
    invalid,
    machines_with,
    moment,
    new_id,
    no_body,
    owned_thing,
    read_body,
    refusal,
    region_json,
    success,
)
from gpubroker.sandbox.rented import Thing

KIND, OWN_RULES = "firewall_ruleset", "firewall_rules"
_GLOBAL = {"id": "global", "name": "Global Firewall Rules"}
_ANYWHERE = "0.0.0.0/0"
_AT_FIRST: list[dict[str, Any]] = [
    {
        "protocol": "tcp",
        "port_range": [22, 22],
        "source_network": _ANYWHERE,
        "description": "Allow SSH from anywhere",
    },
    {"protocol": "icmp", "source_network": _ANYWHERE, "description": "Allow ping from anywhere"},
]

Port = Annotated[int, Meta(ge=1, le=65535)]


class Rule(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What may come in."""

    protocol: Literal["tcp", "udp", "icmp", "all"]
    source_network: str
    description: Annotated[str, Meta(max_length=128)]
    port_range: Annotated[list[Port], Meta(min_length=2, max_length=2)] | UnsetType = UNSET


class Rules(Struct, forbid_unknown_fields=True):
    """Body of PUT firewall-rules."""

    data: list[Rule]


class NewRuleset(Struct, forbid_unknown_fields=True):
    """Body of POST firewall-rulesets."""

    name: Named
    region: str
    rules: list[Rule]


class ChangedRuleset(Struct, forbid_unknown_fields=True):
    """Body of PATCH firewall-rulesets/{id}."""

    name: Named | UnsetType = UNSET
    rules: list[Rule] | UnsetType = UNSET


class ChangedGlobal(Struct, forbid_unknown_fields=True):
    """Body of PATCH firewall-rulesets/global."""

    rules: list[Rule] | UnsetType = UNSET


def _checked(rules: list[Rule]) -> list[dict[str, Any]]:
    for rule in rules:
        try:
            ipaddress.IPv4Network(rule.source_network, strict=False)
        except ValueError:
            raise invalid(f"source_network: {rule.source_network!r} is no IPv4 network") from None
        if (rule.protocol == "icmp") != (rule.port_range is UNSET):
            raise invalid("port_range: not allowed for icmp, required for the others")
        if rule.port_range is not UNSET and rule.port_range[0] > rule.port_range[1]:
            raise invalid("port_range: from the lower to the higher port")
    rows: list[dict[str, Any]] = msgspec.to_builtins(rules)
    return rows


def _rules(cloud: Cloud, account: str) -> list[dict[str, Any]]:
    kept = cloud.live_things(account, OWN_RULES)
    rules: list[dict[str, Any]] = kept[0].wire["rules"] if kept else _AT_FIRST
    return rules


def _set_rules(cloud: Cloud, account: str, rules: list[dict[str, Any]]) -> None:
    """Rules as at first are nothing that is left behind."""
    for thing in cloud.live_things(account, OWN_RULES):
        cloud.end_thing(thing)
    if rules != _AT_FIRST:
        cloud.add_thing(account, OWN_RULES, name=_GLOBAL["name"], rules=rules)


async def list_rules(api: Emulator, call: Call) -> Response:
    """GET firewall-rules."""
    check_query(call)
    return success(_rules(api.cloud, call.owner.name))


async def set_rules(api: Emulator, call: Call) -> Response:
    """PUT firewall-rules: these and no others."""
    rules = _checked(read_body(call, Rules).data)
    _set_rules(api.cloud, call.owner.name, rules)
    return success(rules)


async def show_global(api: Emulator, call: Call) -> Response:
    """GET firewall-rulesets/global."""
    check_query(call)
    return success(_GLOBAL | {"rules": _rules(api.cloud, call.owner.name)})


async def change_global(api: Emulator, call: Call) -> Response:
    """PATCH firewall-rulesets/global."""
    body = read_body(call, ChangedGlobal)
    if body.rules is not UNSET:
        _set_rules(api.cloud, call.owner.name, _checked(body.rules))
    return success(_GLOBAL | {"rules": _rules(api.cloud, call.owner.name)})


def ruleset_json(cloud: Cloud, thing: Thing) -> dict[str, Any]:
    """As everywhere."""
    return {
        "id": thing.id,
        "name": thing.name,
        "region": region_json(thing.wire["region"]),
        "rules": thing.wire["rules"],
        "created": moment(thing.created_at),
        "instance_ids": [m.id for m in machines_with(cloud, "firewall_rulesets", thing.id)],
    }


def _found(cloud: Cloud, call: Call) -> Thing:
    thing = owned_thing(cloud, call, KIND, call.ids[0])
    if thing is None:
        what = "Firewall ruleset does not exist or you do not have permission to access it."
        raise refusal(404, UNKNOWN, what, "Check your firewall ruleset ID and try again.")
    return thing


async def list_rulesets(api: Emulator, call: Call) -> Response:
    """GET firewall-rulesets."""
    check_query(call)
    things = api.cloud.live_things(call.owner.name, KIND)
    return success([ruleset_json(api.cloud, thing) for thing in things])


async def create_ruleset(api: Emulator, call: Call) -> Response:
    """POST firewall-rulesets."""
    body = read_body(call, NewRuleset)
    thing = api.cloud.add_thing(
        call.owner.name,
        KIND,
        named=new_id,
        name=body.name,
        region=check_region(body.region),
        rules=_checked(body.rules),
    )
    return success(ruleset_json(api.cloud, thing))


async def show_ruleset(api: Emulator, call: Call) -> Response:
    """GET firewall-rulesets/{id}."""
    check_query(call)
    return success(ruleset_json(api.cloud, _found(api.cloud, call)))


async def change_ruleset(api: Emulator, call: Call) -> Response:
    """PATCH firewall-rulesets/{id}."""
    body = read_body(call, ChangedRuleset)
    thing = _found(api.cloud, call)
    if body.name is not UNSET:
        thing.name = body.name
    if body.rules is not UNSET:
        thing.wire["rules"] = _checked(body.rules)
    api.cloud.save(thing)
    return success(ruleset_json(api.cloud, thing))


async def delete_ruleset(api: Emulator, call: Call) -> Response:
    """DELETE firewall-rulesets/{id}."""
    no_body(call)
    thing = _found(api.cloud, call)
    if machines_with(api.cloud, "firewall_rulesets", thing.id):
        raise refusal(400, "firewall-rulesets/firewall-ruleset-in-use")
    api.cloud.end_thing(thing)
    return success({})
