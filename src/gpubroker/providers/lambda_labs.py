"""Lambda: virtual machines with NVIDIA GPUs in its own data centers, billed by the minute.

Only a terminate ends the billing: a machine that powered itself off goes on costing, so the
timer on it only warns. A create names exactly one registered SSH key: the broker's, registered as
`gb-<owner>`; your own come by the start text. Ports are opened by a firewall ruleset of this
account, `gb-<owner>-…`, one for each set of ports and region, which stays for the next machine;
us-south-1 has no firewall rules, so that ports are refused there. The cloud tells neither a
machine's start nor what it charged, and of the account only whether the key is good: another key
counts as another account.
"""

# ruff: noqa: ARG002 - the interface hands every cloud what any of them needs

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

from msgspec import Struct, convert, field
from msgspec.structs import asdict

from gpubroker.model.capabilities import Capabilities, Limit
from gpubroker.model.errors import (
    AuthFailed,
    Invalid,
    NoCapacity,
    NotFound,
    OutcomeUnknown,
    OutOfFunds,
    QuotaExceeded,
    RateLimited,
    Refused,
    Unavailable,
    WrongState,
)
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.instance import Endpoint, Instance
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.offer import Offer, OfferPage
from gpubroker.model.query import Query
from gpubroker.model.terms import Carrier, Expiry, Kind, Market, Resource, State
from gpubroker.providers.accounts import Account
from gpubroker.providers.base import MUTATIONS
from gpubroker.providers.boot import seconds_left, secrets_of, vm_boot
from gpubroker.providers.bounds import Bounds
from gpubroker.providers.carriers import tags_of, whose
from gpubroker.providers.fields import Count, Text, Told, Word
from gpubroker.providers.fingerprint import fingerprint
from gpubroker.providers.holdings import KeepsThings, Shelf
from gpubroker.providers.http import Transport
from gpubroker.providers.lambda_labs_market import NAME, InstanceType, Region, parse_offers
from gpubroker.providers.offering import page_of
from gpubroker.providers.paging import Whole
from gpubroker.providers.pushdown import read_options
from gpubroker.providers.refusals import Rule, name_taken
from gpubroker.providers.registered_keys import broker_key, key_name, registered
from gpubroker.providers.states import StateTable, state_by

# What it is

USER = "ubuntu"
LONGEST_USER_DATA = 1_000_000
"""Bytes: "cannot exceed 1MB in size" (Lambda Cloud API 1.8.3, launch)."""

_CALLS = "whoami offers find get list ensure create terminate resources discard"
CAPABILITIES = Capabilities(
    kinds=frozenset({Kind.VM}),
    markets=frozenset({Market.ON_DEMAND}),
    carriers=(Carrier.TAG, Carrier.NAME),
    image="docker_on_vm",
    startup="cloud_init",
    startup_max_bytes=LONGEST_USER_DATA,
    ssh="sshd",
    # "Exactly one SSH key must be specified" (API 1.8.3, launch); the others are in the user data.
    ssh_keys="registry",
    env="bootstrap",
    ports="firewall",
    stop="none",
    # Billing "ends the moment you terminate the instance" (Lambda docs, billing).
    expiry=Expiry.CONTROLLER_ONLY,
    registry_auth=True,
    needs=(Resource.SSH_KEY, Resource.FIREWALL),
    # The vendor promises none of these three.
    create_deadline_s=120,
    list_lag_s=120,
    absence_grace_s=120,
    gone="404",
    billing="manual",
    limits=(
        # "One request per second"; "one request per 12 seconds" to launch (API 1.8.3).
        Limit("all", frozenset(_CALLS.split()), interval_s=1.0),
        Limit("launch", frozenset({"create"}), interval_s=12.0),
    ),
)

_UPSTREAM = ("provider/*", "global/internal-error")
"""Of the vendor's suppliers and of itself, with any status: a change may have been made."""
RULES = (
    # A 429 is not always JSON.
    Rule(RateLimited, statuses=(429,)),
    Rule(AuthFailed, codes=("global/invalid-api-key", "global/account-inactive")),
    # The account has no valid billing address: only what costs money is refused.
    Rule(OutOfFunds, codes=("global/invalid-address",)),
    # In the wild as `global/insufficient-capacity`, too.
    Rule(NoCapacity, codes=("*insufficient-capacity",), operations=("create",),
         scope="type_region"),
    Rule(OutcomeUnknown, codes=_UPSTREAM, operations=tuple(sorted(MUTATIONS))),
    Rule(Unavailable, codes=_UPSTREAM),
    Rule(QuotaExceeded, codes=("global/quota-exceeded",)),
    # Another region's offer may fit: it is no fault of the request everywhere.
    Rule(Refused, codes=("*/file-system-in-wrong-region",)),
    # Of a create: its type, region, key, image or ruleset.
    Rule(NotFound, codes=("global/object-does-not-exist",), statuses=(400, 404),
         operations=("create", "get", "terminate")),
    # Read just before and not there: another process of this owner made it meanwhile.
    Rule(Unavailable, codes=("global/duplicate",), operations=("ensure",)),
    # How a terminate is refused before `actions.terminate` is available is not documented.
    Rule(WrongState, ("vm-is-terminating",), operations=("terminate",), code="vm-is-terminating"),
    Rule(WrongState, statuses=(400, 409), operations=("terminate",)),
    Rule(WrongState, codes=("*firewall-ruleset-in-use",), operations=("discard",)),
    Rule(NotFound, codes=("global/object-does-not-exist",), operations=("discard",)),
    Rule(Invalid, codes=("global/invalid-parameters",)),
)  # fmt: skip

_SHOWN = """
data error code message suggestion instance_type name description gpu_description gpus vcpus
price_cents_per_hour specs memory_gib storage_gib architecture regions_with_capacity_available
region id ip hostname status ssh_key_names file_system_names file_system_mounts mount_point
file_system_id actions terminate restart available reason_code reason_description tags
firewall_rulesets is_reserved instance_ids terminated_instances region_name instance_type_name
image family rules protocol port_range source_network created
"""
SHOWN = frozenset(_SHOWN.split())
"""Fields whose values may be written down. Not among them: user_data, jupyter_*, tags' values."""

_STATES: StateTable = (
    (State.PENDING, {"status": {"booting"}}),
    # The agent on the machine is not heard: it may come again.
    (State.RUNNING, {"status": {"active", "unhealthy"}}),
    (State.TERMINATING, {"status": {"terminating"}}),
    (State.TERMINATED, {"status": {"terminated"}}),
    (State.PREEMPTED, {"status": {"preempted"}}),
)
_ENDED = frozenset({State.TERMINATED, State.PREEMPTED})

_IMAGE_ID = re.compile(r"[0-9a-f]{32}")
_MOUNT = re.compile(r"(/home|/lambda/nfs|/data)[/a-zA-Z0-9-]*")
LONGEST_MOUNT = 256
MOST_PORTS = 12
"""As many as a tag's 128 characters name; the firewall takes 20 rules (Lambda docs, firewalls)."""
PORTS_TAG = "gpubroker-ports"
SSH_PORT = (22, "tcp")
OPEN_TO_ALL = "0.0.0.0/0"
WITHOUT_FIREWALL = frozenset({"us-south-1"})
NO_RULESET = "global"
"""The vendor's own name of the rules that hold for all machines of the account."""


# What a create sends

_bounds = Bounds(NAME)


def launch(
    spec: LaunchSpec,
    offer: Offer,
    attempt: Attempt,
    have: Mapping[Resource, Ref],
    left_s: float | None = None,
) -> dict[str, Any]:
    """The body of a create. Invalid names the field that is out of bounds.

    `left_s`: seconds until the expiry, of which people on the machine are warned.
    """
    _bounds.disk_of_type(spec, offer)
    # Only a terminate ends the billing: the timer warns, and powers nothing off.
    boot = vm_boot(spec, limit=LONGEST_USER_DATA, seconds_left=left_s, user=USER, end="")
    rule = f"at most {LONGEST_USER_DATA} bytes, compressed, with the variables and the command"
    _bounds.require(not boot.after, "startup_script", rule)
    tags = tags_of(attempt)
    if spec.ports:
        tags[PORTS_TAG] = ",".join(f"{port}/{protocol}" for port, protocol in opened(spec))
    body: dict[str, Any] = {
        "region_name": offer.region,
        "instance_type_name": offer.key.removesuffix(f":{offer.region}"),
        "ssh_key_names": [have[Resource.SSH_KEY].id.rpartition("/")[0]],
        "name": attempt.name,
        "tags": [{"key": key, "value": value} for key, value in tags.items()],
        "user_data": boot.text,
    }
    if spec.vm_image:
        by = "id" if _IMAGE_ID.fullmatch(spec.vm_image) else "family"
        body["image"] = {by: spec.vm_image}
    if spec.volumes:
        body["file_system_mounts"] = [_mounted(volume, path) for volume, path in spec.volumes]
    if spec.ports:
        body["firewall_rulesets"] = [{"id": have[Resource.FIREWALL].id}]
    return body


def _mounted(volume: Ref, path: str) -> dict[str, str]:
    fits = bool(_MOUNT.fullmatch(path)) and len(path) <= LONGEST_MOUNT
    _bounds.require(fits, "volumes", "a path below /home, /lambda/nfs or /data")
    return {"file_system_id": _bounds.plain_id(volume.id, "volumes"), "mount_point": path}


def opened(spec: LaunchSpec) -> list[tuple[int, str]]:
    """The ports that are asked for, each once and in order."""
    _bounds.ports(spec.ports, most=MOST_PORTS)
    return sorted(set(spec.ports))


def ruleset(spec: LaunchSpec, offer: Offer, attempt: Attempt) -> dict[str, Any]:
    """The firewall's ruleset for these ports: its name tells them by a hash.

    Whether a machine's own ruleset is added to the account's rules or put in their place is not
    documented: SSH is in it, so that both are right.
    """
    ports = [SSH_PORT, *(port for port in opened(spec) if port != SSH_PORT)]
    digest = hashlib.sha256(repr(ports).encode()).hexdigest()[:12]
    return {
        "name": f"{key_name(attempt)}-{digest}",
        "region": offer.region,
        "rules": [
            {
                "protocol": protocol,
                "port_range": [port, port],
                "source_network": OPEN_TO_ALL,
                "description": "gpubroker",
            }
            for port, protocol in ports
        ],
    }


# How machines, keys and rulesets are read


class Tag(Struct):
    """One of a machine's."""

    key: Word
    value: Word = ""


class Action(Struct, frozen=True):
    """Whether something can be done with a machine now."""

    available: bool = True
    reason_code: Word | None = None


class Actions(Struct, frozen=True):
    """Of them, what is of interest here."""

    terminate: Action = Action()


class Machine(Struct):
    """One instance. Its JupyterLab token and address are never read."""

    id: Told
    status: Word
    name: Word | None = None
    ip: Word | None = None
    region: Region | None = None
    instance_type: InstanceType | None = None
    tags: tuple[Tag, ...] = ()
    actions: Actions = Actions()


class SshKey(Struct):
    """One of the account's. A generated private half is never asked for, nor read."""

    number: Word = field(name="id")
    name: Word
    public_key: Text

    @property
    def id(self) -> str:
        """`name/number`: a launch names it, a delete numbers it."""
        return f"{self.name}/{self.number}"


class FirewallRule(Struct, frozen=True):
    """One opening."""

    protocol: Word
    source_network: Word
    port_range: tuple[Count, ...] = ()


class Ruleset(Struct):
    """A named set of openings in one region."""

    id: Word
    name: Word
    region: Region
    rules: tuple[FirewallRule, ...] = ()


state_of = partial(state_by, _STATES)


def instance_of(row: Machine, account: str) -> Instance:
    """A machine as the vendor tells it: without the time of its start."""
    state = state_of(row)
    tags = {tag.key: tag.value for tag in row.tags}
    owner, attempt = whose(row.name, tags)
    kind, there = row.instance_type, row.ip if state not in _ENDED else None
    ports = tags.get(PORTS_TAG, "") if attempt and there else ""
    blocked = row.actions.terminate.reason_code if not row.actions.terminate.available else None
    told = {
        "id": row.id,
        "status": row.status,
        "region": row.region.name if row.region else None,
        "instance_type": kind.name if kind else None,
        "terminate": blocked,
    }
    return Instance(
        ref=Ref(NAME, account, "", row.id),
        owner=owner,
        attempt=attempt,
        name=row.name,
        state=state,
        raw_state=row.status,
        healthy=row.status != "unhealthy" and state is not State.UNKNOWN,
        # One page says that it is billed from the boot on, another from the health checks on.
        bills_compute=state not in _ENDED,
        bills_disk=False,
        price=kind.price if kind else None,
        gpu=kind.gpu_description or kind.description if kind else None,
        gpu_count=kind.specs.gpus if kind else None,
        disk_gb=kind.specs.storage_gib if kind else None,
        ssh=Endpoint(host=there, port=SSH_PORT[0], user=USER) if there else None,
        ports={port: f"{there}:{port.partition('/')[0]}" for port in ports.split(",") if port},
        raw={name: value for name, value in told.items() if value is not None},
    )


# Calls

_INSTANCES, _OPERATIONS = "/api/v1/instances", "/api/v1/instance-operations"
_KEYS, _RULESETS = "/api/v1/ssh-keys", "/api/v1/firewall-rulesets"


class LambdaLabs(KeepsThings):
    """One account at Lambda: each call one question."""

    name = NAME
    display_name = "Lambda"
    website = "https://lambda.ai/"
    console = "https://cloud.lambda.ai/instances"
    charges_page = "https://cloud.lambda.ai/usage"
    credentials = (
        "LAMBDA_API_KEY", "LAMBDA_CLOUD_API_TOKEN", "LAMBDA_CLOUD_TOKEN", "LAMBDA_API_TOKEN",
    )  # fmt: skip
    capabilities = CAPABILITIES
    base_url = "https://cloud.lambda.ai"
    rules = RULES
    shown = SHOWN
    shelves = (
        Shelf(Resource.SSH_KEY, _KEYS, "data", rows=tuple[SshKey, ...]),
        Shelf(Resource.FIREWALL, _RULESETS, "data", rows=tuple[Ruleset, ...]),
    )

    def __init__(self, account: Account, transport: Transport) -> None:
        super().__init__(account, transport)
        self._fingerprint = fingerprint(account)

    async def uid(self, operation: str) -> str:
        """The key's fingerprint, once the vendor has taken the key: it names no account."""
        if operation == "whoami":
            await self._keys(operation)
        return self._fingerprint

    async def machines(self, operation: str) -> Whole[Instance]:
        """All of them: the list has neither pages nor filters."""
        rows = await self.ask_for(tuple[Machine, ...], operation, "GET", _INSTANCES, under="data")
        once = {row.id: instance_of(row, self.account) for row in rows}
        return Whole(tuple(once.values()), complete=True)

    async def offers(self, query: Query) -> AsyncIterator[OfferPage]:
        """All types at once; the call takes no filters."""
        read_options(query, NAME, {}, {})
        if query.market not in {None, Market.ON_DEMAND}:
            return
        answer = await self.ask("offers", "GET", "/api/v1/instance-types")
        rows, rejected = parse_offers(answer.body, account=self.account, fetched_at=answer.asked_at)
        yield page_of(rows, rejected)

    async def ensure(
        self,
        what: Resource,
        spec: LaunchSpec,
        offer: Offer,
        attempt: Attempt,
        have: Mapping[Resource, Ref],
    ) -> Ref:
        """The owner's SSH key, and the ruleset of the ports that are asked for."""
        if what is Resource.SSH_KEY:
            return await self._ssh_key(spec, attempt)
        if what is Resource.FIREWALL:
            return await self._firewall(spec, offer, attempt)
        raise self.unsupported("ensure", what.value)

    async def release(self, what: Resource, ref: Ref) -> None:
        """Key and rulesets are the owner's: they stay for his next machine."""

    async def create(
        self, spec: LaunchSpec, offer: Offer, attempt: Attempt, have: Mapping[Resource, Ref]
    ) -> Ref:
        """One request for one machine."""
        if not offer.region:
            raise self.http.error(NoCapacity, "create", f"{offer.key} is sold out everywhere")
        self.takes_no_options("create", spec)
        left_s = seconds_left(spec, self.http.clock.now())
        body = launch(spec, offer, attempt, have, left_s)
        hide = (*secrets_of(spec), body["user_data"])
        path, under = f"{_OPERATIONS}/launch", "data.instance_ids"
        made = await self.ask_for(
            tuple[Told, ...], "create", "POST", path, body, under=under, hide=hide
        )
        if len(made) != 1:
            raise self.http.error(OutcomeUnknown, "create", f"{len(made)} machines")
        return self.ref(made[0])

    async def get(self, ref: Ref) -> Instance:
        """NotFound by the vendor's code; for a while it shows the ended ones, too."""
        path = f"{_INSTANCES}/{_bounds.plain_id(ref.id, 'ref')}"
        row = await self.ask_for(Machine, "get", "GET", path, under="data")
        return self.same(ref, instance_of(row, self.account))

    async def terminate(self, ref: Ref) -> None:
        """One machine a request: one unknown id would refuse them all. Gone already is fine."""
        body = {"instance_ids": [_bounds.plain_id(ref.id, "ref")]}
        try:
            path, under = f"{_OPERATIONS}/terminate", "data.terminated_instances"
            ended = await self.ask_for(
                tuple[Machine, ...], "terminate", "POST", path, body, under=under
            )
        except NotFound:
            return
        except WrongState as refusal:
            if refusal.code == "vm-is-terminating":
                return
            raise
        if ref.id not in {row.id for row in ended}:
            raise self.http.error(WrongState, "terminate", f"{ref.id} was left out")

    async def discard(self, what: Resource, ref: Ref) -> None:
        """A key, or a ruleset of no machine, but the account's own."""
        if ref.id == NO_RULESET:
            raise self.unsupported("discard", what.value)
        await super().discard(what, ref)

    async def _keys(self, operation: str) -> tuple[SshKey, ...]:
        return await self.ask_for(tuple[SshKey, ...], operation, "GET", _KEYS, under="data")

    async def _ssh_key(self, spec: LaunchSpec, attempt: Attempt) -> Ref:
        wanted = broker_key(spec, attempt, NAME)
        key = registered(await self._keys("ensure"), wanted, NAME)
        if key is None:
            body = asdict(wanted)
            key = await self.ask_for(SshKey, "ensure", "POST", _KEYS, body, under="data")
        return self.ref(key.id)

    async def _firewall(self, spec: LaunchSpec, offer: Offer, attempt: Attempt) -> Ref:
        """Without ports nothing is asked: the account's own rules hold."""
        if not spec.ports:
            return self.ref(NO_RULESET)
        if offer.region in WITHOUT_FIREWALL:
            raise self.unsupported("ensure", f"ports in {offer.region}: it has no firewall rules")
        wanted, of_all = ruleset(spec, offer, attempt), tuple[Ruleset, ...]
        for one in await self.ask_for(of_all, "ensure", "GET", _RULESETS, under="data"):
            if (one.name, one.region.name) == (wanted["name"], wanted["region"]):
                if set(one.rules) != set(convert(wanted["rules"], tuple[FirewallRule, ...])):
                    raise name_taken(NAME, "ensure", f"the ruleset {one.name} was changed")
                return self.ref(one.id)
        under = "data.id"
        return self.ref(await self.ask_for(Told, "ensure", "POST", _RULESETS, wanted, under=under))
