"""What a provider declares: complete, and at one with what it has."""

from __future__ import annotations

import re

from gpubroker.model.capabilities import Capabilities
from gpubroker.model.terms import Kind, Market, Resource
from gpubroker.providers.base import (
    MUTATIONS,
    READS,
    Biddable,
    HasBalance,
    KeyAttachable,
    Provider,
    Stoppable,
)
from gpubroker.testing.conformance.bench import Bench
from gpubroker.testing.conformance.check import Chapter, none_of

_chapter = Chapter()
CHECKS = _chapter.checks
promise = _chapter.promise

_WIRE_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")
_SECRET_FIELD = re.compile(
    r"secret|passw|credential|private|api_?key|user_?data|on_?start|cloud_?init|"
    r"(^|_)(env|token|script|login|auth)s?$",
    re.IGNORECASE,
)
_PAGE_TOKENS = frozenset({"next_token", "after_token", "page_token", "next_page_token"})
"""Of lists: they open nothing."""
LIMITED_WHERE_THERE = frozenset({"stop", "start", "bid", "attach_key", "resources", "discard"})
ALWAYS_LIMITED = frozenset({"offers", "create", "find", "get", "list", "terminate"})


@promise()
async def names_are_told(bench: Bench) -> None:
    """Wire name, display name, website and credentials are there and of their form."""
    told = bench.provider_class
    none_of(
        fault
        for holds, fault in (
            (_WIRE_NAME.fullmatch(told.name), f"name {told.name!r} is no lower_case word"),
            (told.display_name.strip(), "no display_name"),
            (told.website.startswith("https://"), f"website {told.website!r}"),
            (told.credentials, "no credentials"),
            (len(set(told.credentials)) == len(told.credentials), "a credential twice"),
            (all(map(_VARIABLE.fullmatch, told.credentials)), "a credential is no variable"),
            (bench.provider.account, "no account"),
        )
        if not holds
    )


@promise()
async def capabilities_agree_with_each_other(bench: Bench) -> None:
    """No declared figure is out of range, and none contradicts another."""
    can = bench.provider_class.capabilities
    none_of(fault for holds, fault in _agreements(can) if not holds)


def _agreements(can: Capabilities) -> tuple[tuple[bool, str], ...]:
    seconds = (can.create_deadline_s, can.list_lag_s, can.absence_grace_s, can.billing_lag_s)
    final = can.billing in {"exact", "daily"}
    return (
        (bool(can.kinds), "kinds is empty"),
        (bool(can.markets), "markets is empty"),
        (bool(can.carriers), "carriers is empty: no attempt could be found again"),
        (len(set(can.carriers)) == len(can.carriers), "a carrier twice"),
        (len(set(can.needs)) == len(can.needs), "a need twice"),
        (all(figure >= 0 for figure in seconds), "a time below zero"),
        ((can.startup == "none") == (can.startup_max_bytes == 0), "startup and startup_max_bytes"),
        (can.ssh == "none" or can.ssh_keys_max >= 1, "SSH without a key"),
        (
            can.ssh_keys != "registry" or Resource.SSH_KEY in can.needs,
            "registered keys that are not among the needs",
        ),
        (can.image != "docker_on_vm" or Kind.VM in can.kinds, "docker_on_vm without a VM"),
        (
            final or can.billing == "balance" or can.billing_lag_s == 0,
            f"billing_lag_s of a record that is {can.billing}",
        ),
    )


@promise()
async def methods_agree_with_capabilities(bench: Bench) -> None:
    """Stop, keys, balance and bids can be asked for exactly where they are declared."""
    provider, can = bench.provider_class, bench.provider_class.capabilities
    attached = can.ssh_keys == "attached"
    faults = []
    if _has(provider, Stoppable) != (can.stop != "none"):
        faults.append(f"stop is {can.stop!r}: stop() and start() {_there(provider, Stoppable)}")
    if _has(provider, KeyAttachable) < attached:
        faults.append("keys are attached: attach_key() is missing")
    if _has(provider, HasBalance) < (can.billing == "balance"):
        faults.append("billing is by the balance: balance() is missing")
    if _has(provider, Biddable) > (Market.SPOT in can.markets):
        faults.append("nothing is sold as spot: bid() is there")
    faults += [f"{name}() is missing" for name in sorted(_needed(can)) if not _own(provider, name)]
    none_of(faults)


_NOT_FOR_ALL = frozenset({"ensure", "billing"})
"""What `RestCloud` has for clouds without needs, and without a record of charges."""


def _has(provider: type[Provider], protocol: type) -> bool:
    names = [name for name in vars(protocol) if name in MUTATIONS | READS]
    return all(callable(getattr(provider, name, None)) for name in names)


def _there(provider: type[Provider], protocol: type) -> str:
    return "are there" if _has(provider, protocol) else "are missing"


def _needed(can: Capabilities) -> frozenset[str]:
    always = {"whoami", "offers", "create", "find", "get", "list", "terminate", "billing"}
    return frozenset(always | ({"ensure"} if can.needs else set()))


def _own(provider: type[Provider], name: str) -> bool:
    """Whether it is there, and where `RestCloud` has a refusal for it, more than that."""
    from gpubroker.providers.rest import RestCloud

    by_hand = name == "billing" and provider.capabilities.billing == "manual"
    method = getattr(provider, name, None)
    refusal = name in _NOT_FOR_ALL and not by_hand and method is getattr(RestCloud, name)
    return method is not None and not refusal


@promise()
async def limits_cover_every_call(bench: Bench) -> None:
    """Each call that the cloud counts has a limit, and each limit is of calls that there are."""
    provider, can = bench.provider_class, bench.provider_class.capabilities
    covered = frozenset(name for limit in can.limits for name in limit.operations)
    there = {name for name in READS | MUTATIONS if callable(getattr(provider, name, None))}
    wanted = ALWAYS_LIMITED | (there & LIMITED_WHERE_THERE)
    if can.needs:
        wanted |= {"ensure"}
    if can.billing != "manual":
        wanted |= {"billing"}
    buckets = [limit.bucket for limit in can.limits]
    faults = [f"no limit for {name}" for name in sorted(wanted - covered)]
    faults += [f"a limit for {name}, which there is not" for name in sorted(covered - there)]
    faults += [
        f"limit {limit.bucket}: {limit.burst} at once, one every {limit.interval_s} s"
        for limit in can.limits
        if limit.interval_s <= 0 or limit.burst < 1
    ]
    faults += [f"two limits are called {name}" for name in set(buckets) if buckets.count(name) > 1]
    none_of(faults)


@promise()
async def no_secret_field_may_be_shown(bench: Bench) -> None:
    """The allow-list of fields holds no name that sounds like a secret."""
    shown: frozenset[str] = getattr(bench.provider_class, "shown", frozenset())
    none_of(
        f"{name} may be written down"
        for name in sorted(shown - _PAGE_TOKENS)
        if _SECRET_FIELD.search(name)
    )
