"""Acme Cloud: an invented cloud that rents containers by the hour.

It keeps names unique as long as a machine lives, and ends a machine itself at its `delete_at`.
"""

# ruff: noqa: ARG002 - the interface hands every cloud what any of them needs

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from msgspec import Struct

from gpubroker.catalog.gpus import resolve
from gpubroker.model.capabilities import Capabilities, Limit
from gpubroker.model.errors import (
    AuthFailed,
    NoCapacity,
    NotFound,
    OutcomeUnknown,
    QuotaExceeded,
    RateLimited,
)
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.instance import Endpoint, Instance
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.offer import Offer, OfferPage, Price
from gpubroker.model.query import Query
from gpubroker.model.terms import Availability, Carrier, Expiry, Kind, Market, State
from gpubroker.providers.boot import container_boot, secrets_of
from gpubroker.providers.bounds import Bounds
from gpubroker.providers.carriers import whose
from gpubroker.providers.fields import Count, Text, Word, cents, moment
from gpubroker.providers.offering import Gathered, live, placed
from gpubroker.providers.paging import Whole
from gpubroker.providers.pushdown import read_options
from gpubroker.providers.quarantine import Rejected, RowReader, mostly_sound
from gpubroker.providers.refusals import Rule
from gpubroker.providers.rest import RestCloud
from gpubroker.providers.states import StateTable, state_by

# What it is

NAME = "acme"
LONGEST_SCRIPT, LONGEST_VARIABLE, ALL_VARIABLES, MOST_PORTS = 65_536, 4096, 32_768, 16
CAPABILITIES = Capabilities(
    kinds=frozenset({Kind.CONTAINER}),
    markets=frozenset({Market.ON_DEMAND}),
    carriers=(Carrier.UNIQUE_NAME,),
    image="container",
    startup="script",
    startup_max_bytes=LONGEST_SCRIPT,
    ssh="sshd",
    ssh_keys="inline",
    env="native",
    ports="at_create",
    stop="none",
    expiry=Expiry.PROVIDER,
    create_deadline_s=60,
    list_lag_s=30,
    absence_grace_s=30,
    gone="404",
    billing="manual",
    limits=(
        # "60 calls a minute, launches one in 5 s" (Acme API reference, limits)
        Limit("calls", frozenset({"whoami", "offers", "find", "get", "list", "terminate"}), 1.0, 5),
        Limit("launch", frozenset({"create"}), 5.0),
    ),
)
RULES = (
    Rule(RateLimited, statuses=(429,)),
    Rule(AuthFailed, ("bad_key",), (401, 403, 404)),
    Rule(NoCapacity, ("sold_out",), (409,), ("create",), code="sold_out"),
    Rule(QuotaExceeded, ("quota_reached",), (409,), ("create",), code="quota_reached"),
    Rule(NotFound, ("no_such_machine",), (404,), ("get", "terminate"), code="no_such_machine"),
)
_SHOWN = "error message types machines id name type state price_cents gpu gpus place ip ssh_port"
_STATES: StateTable = (
    (State.PENDING, {"state": {"starting"}}),
    (State.RUNNING, {"state": {"up"}}),
    (State.FAILED, {"state": {"broken"}}),
    (State.TERMINATED, {"state": {"deleted"}}),
)


# How offers are read


class Type(Struct):
    """Something that can be rented."""

    id: Word
    gpu: Word
    gpus: Count
    gpu_mib: Count
    price_cents: Count
    place: Word
    vcpus: Count
    ram_gb: Count
    free: Count


_TYPES = RowReader(Type, under="types", provider=NAME)


def parse_offers(
    body: bytes, *, account: str, fetched_at: datetime
) -> tuple[tuple[Offer, ...], tuple[Rejected, ...]]:
    """The offers of an answer, and the rows that are none. BadResponse where it is no answer."""
    types, rejected = _TYPES.read(body)
    shared, found = live(NAME, account, Kind.CONTAINER, fetched_at), Gathered(rejected)
    for row in types:
        offer = Offer(
            **shared,
            **placed(row.place),
            key=row.id,
            gpu=resolve(row.gpu, memory_mib=row.gpu_mib),
            gpu_count=row.gpus,
            market=Market.ON_DEMAND,
            vcpus=row.vcpus,
            ram_gb=row.ram_gb,
            price=Price(compute=cents(row.price_cents)),
            availability=Availability.YES if row.free else Availability.NO,
            stock=row.free,
        )
        found.add(row, offer)
    return found.told()


# What a create sends

_bounds = Bounds(NAME)


def order(spec: LaunchSpec, offer: Offer, attempt: Attempt) -> dict[str, Any]:
    """The body of a create. Invalid names the field that Acme would not take."""
    require = _bounds.require
    # Every type has a disk of its own.
    _bounds.takes_no(spec, "vm_image", "volumes", "registry_auth", "disk_gb")
    _bounds.variables(spec.env, longest=LONGEST_VARIABLE, together=ALL_VARIABLES)
    _bounds.ports(spec.ports, most=MOST_PORTS)
    boot = container_boot(spec, limit=LONGEST_SCRIPT, seconds_left=None, end="")
    require(not boot.after, "startup_script", f"at most {LONGEST_SCRIPT} bytes with the command")
    return {
        "name": attempt.name,
        "type": offer.key,
        "image": spec.image or "ubuntu:24.04",
        "keys": list(spec.ssh_keys),
        "env": dict(spec.env),
        "ports": [f"{port}/{protocol}" for port, protocol in spec.ports],
        "script": boot.text,
        "delete_at": spec.expires_at.timestamp() if spec.expires_at else None,
    }


# How machines are read


class Box(Struct):
    """One machine. Its variables and script are never read."""

    id: Word
    name: Word
    state: Word
    gpu: Word | None = None
    gpus: Count | None = None
    price_cents: Count | None = None
    image: Text | None = None
    ip: Word | None = None
    ssh_port: Count | None = None
    ports: Mapping[Word, Count] = {}
    created: float | None = None
    delete_at: float | None = None


class Made(Struct):
    """The answer to a create."""

    id: Word


def instance_of(row: Box, account: str) -> Instance:
    """A machine as Acme tells it."""
    state, (owner, attempt) = state_by(_STATES, row), whose(row.name)
    return Instance(
        ref=Ref(NAME, account, "", row.id),
        owner=owner,
        attempt=attempt,
        name=row.name,
        state=state,
        raw_state=row.state,
        healthy=state in {State.PENDING, State.RUNNING, State.TERMINATED},
        bills_compute=state is not State.TERMINATED,
        bills_disk=False,
        price=cents(row.price_cents) if row.price_cents is not None else None,
        gpu=row.gpu,
        gpu_count=row.gpus,
        image=row.image,
        ssh=Endpoint(row.ip, row.ssh_port, "root") if row.ip and row.ssh_port else None,
        ports={inside: f"{row.ip}:{outside}" for inside, outside in row.ports.items() if row.ip},
        created_at=moment(row.created),
        expires_at=moment(row.delete_at),
    )


# Calls


class AcmeCloud(RestCloud):
    """One account at Acme Cloud."""

    name = NAME
    display_name = "Acme Cloud"
    website = "https://acme.invalid/"
    console = "https://acme.invalid/machines/{id}"
    charges_page = "https://acme.invalid/invoices"
    credentials = ("ACME_API_KEY",)
    capabilities = CAPABILITIES
    base_url = "https://api.acme.invalid"
    rules = RULES
    shown = frozenset(_SHOWN.split())

    async def uid(self, operation: str) -> str:
        """The account's name."""
        return await self.ask_for(str, operation, "GET", "/v1/account", under="account")

    async def machines(self, operation: str) -> Whole[Instance]:
        """Everything on one page."""
        boxes = tuple[Box, ...]
        told = await self.ask_for(boxes, operation, "GET", "/v1/machines", under="machines")
        once = {box.id: instance_of(box, self.account) for box in told}
        return Whole(tuple(once.values()), complete=True)

    async def offers(self, query: Query) -> AsyncIterator[OfferPage]:
        """All types; Acme filters nothing."""
        read_options(query, NAME, {}, {})
        answer = await self.ask("offers", "GET", "/v1/types")
        rows, rejected = parse_offers(answer.body, account=self.account, fetched_at=answer.asked_at)
        yield OfferPage(None, mostly_sound(len(rows), len(rejected)), rows, rejected)

    async def create(
        self, spec: LaunchSpec, offer: Offer, attempt: Attempt, have: Mapping[Any, Ref]
    ) -> Ref:
        """One request."""
        body, hide = order(spec, offer, attempt), secrets_of(spec)
        made = await self.ask_for(Made, "create", "POST", "/v1/machines", body, hide=hide)
        if not made.id:
            raise self.http.error(OutcomeUnknown, "create", "no id in the answer")
        return self.ref(made.id)

    async def get(self, ref: Ref) -> Instance:
        """One machine."""
        box = await self.ask_for(Box, "get", "GET", f"/v1/machines/{_id(ref)}")
        return self.same(ref, instance_of(box, self.account))

    async def terminate(self, ref: Ref) -> None:
        """Gone already is fine."""
        with suppress(NotFound):
            await self.ask("terminate", "DELETE", f"/v1/machines/{_id(ref)}")


def _id(ref: Ref) -> str:
    plain = ref.id.replace("-", "").isalnum() and ref.id.isascii()
    _bounds.require(plain, "ref", "an id of letters, digits and hyphens")
    return ref.id
