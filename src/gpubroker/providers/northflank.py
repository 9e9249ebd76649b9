"""Northflank: containers with GPUs in Google's regions, as deployment services of one instance.

A service lives in a project, and a project in one region: gpubroker makes `gb-<owner>-<region>`
where it needs one, and touches no other. No create is refused for capacity: the service waits
without a container, at no cost. The cloud itself pauses and deletes a service at its expiry, 5
minutes to 7 days after the create, and that cannot be moved later. There is no SSH: the vendor's
own command line opens a shell (`northflank exec`). Published ports are HTTPS addresses. An account
may send 1,000 requests an hour, so that machines are looked at sparingly. A token that is narrowed
to some projects hides machines: with one, no machine's end is ever proven. The vendor says that a
plan's CPU and RAM are charged on top of its GPUs, and lists no such plan: prices here are those of
the GPUs, and more only where the plan's own price is told.
"""

# ruff: noqa: ARG002 - the interface hands every cloud what any of them needs

from __future__ import annotations

import re
import shlex
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar

from msgspec import Struct, field

from gpubroker.model.bill import Bill, BillLine
from gpubroker.model.capabilities import Capabilities, Limit
from gpubroker.model.errors import (
    BadResponse,
    BrokerError,
    NotFound,
    OutcomeUnknown,
    OutOfFunds,
    QuotaExceeded,
    RateLimited,
    Unavailable,
    WrongState,
)
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.instance import Instance
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import Nanos
from gpubroker.model.offer import Offer, OfferPage
from gpubroker.model.query import Query
from gpubroker.model.terms import Carrier, Expiry, Kind, Market, Resource, State
from gpubroker.providers.accounts import Account
from gpubroker.providers.bills import bill_of
from gpubroker.providers.boot import as_arguments, container_boot, seconds_left, secrets_of
from gpubroker.providers.bounds import Bounds
from gpubroker.providers.carriers import whose
from gpubroker.providers.exchange import Answer
from gpubroker.providers.fields import Count, Moment, SignedUsd, Text, Word, utc
from gpubroker.providers.holdings import KeepsThings, Shelf, Thing
from gpubroker.providers.http import Transport
from gpubroker.providers.northflank_market import (
    LONGEST_S,
    MB_OF_GB,
    NAME,
    in_dollars,
    parse_offers,
)
from gpubroker.providers.offering import page_of
from gpubroker.providers.paging import MOST_PAGES, PageShape, Whole
from gpubroker.providers.pushdown import read_options
from gpubroker.providers.refusals import Rule, answer_text, name_taken
from gpubroker.providers.registered_keys import key_name
from gpubroker.providers.states import StateTable, state_by

# What it is

DEFAULT_IMAGE = "docker.io/pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime"
LONGEST_TEXT, ALL_VARIABLES, MOST_PORTS = 64_000, 128_000, 20
"""The vendor tells no sizes: these are ours."""
SHORTEST_S = 300
"""Of `expiryTime`; its longest is LONGEST_S."""
MOST_LOOKS, LOOK_AGAIN_S = 4, 600.0
"""Of a list: two requests each, and 1,000 an hour are all there are."""
USUAL_PAGE = 50
"""Rows of a page, where no other number is asked for (Northflank docs, use the API)."""
HOUR = timedelta(hours=1)
Listed = TypeVar("Listed")

_CALLS = """
whoami find get list create terminate stop start ensure release billing balance resources discard
"""
CAPABILITIES = Capabilities(
    kinds=frozenset({Kind.CONTAINER}),
    markets=frozenset({Market.ON_DEMAND}),
    carriers=(Carrier.UNIQUE_NAME,),
    image="container",
    startup="args",
    startup_max_bytes=LONGEST_TEXT,
    ssh="exec",
    ssh_keys="account_set",
    env="native",
    # "Only HTTP and HTTP/2 ports can be publicly exposed" (Northflank docs, configure ports).
    ports="http_only",
    stop="loses_gpu",
    stop_wipes=True,
    expiry=Expiry.PROVIDER,
    needs=(Resource.NAMESPACE,),
    # The vendor promises none of these three.
    create_deadline_s=120,
    list_lag_s=120,
    absence_grace_s=120,
    gone="404",
    queues=True,
    billing="exact",
    # Usage is "updated hourly".
    billing_lag_s=2 * 3600,
    # "Path of the external image excluding the hostname" (Northflank API, get service).
    untold=frozenset({"image"}),
    public_prices=True,
    limits=(
        # "1000 requests per hour" (Northflank docs, use the API).
        # With their key, searches count among them.
        Limit("hour", frozenset(_CALLS.split()) | {"offers"}, interval_s=3.9, burst=60),
        Limit("market", frozenset({"offers"}), interval_s=5.0, burst=8, per="ip"),
    ),
)

NAME_TAKEN = "name_taken"
_NO_SERVICE, _NO_PROJECT = "service not found", "project not found"
_OF_ONE = ("find", "get", "terminate", "stop", "start")
RULES = (
    Rule(RateLimited, statuses=(429,)),
    # "GPU deployments are disabled due to insufficient credits" (Northflank docs, billing).
    Rule(
        OutOfFunds,
        ("insufficient credit", "purchase credit"),
        (400, 402, 403),
        ("create", "start"),
        "insufficient_credits",
    ),
    Rule(QuotaExceeded, ("quota", "limit"), (400, 403), ("create", "ensure"), "quota"),
    # "There is already a service with the same derived identifier".
    Rule(WrongState, ("already a service",), (409,), ("create",), NAME_TAKEN),
    # Another process of this owner made the project meanwhile.
    Rule(Unavailable, statuses=(409,), operations=("ensure",)),
    Rule(NotFound, (_NO_SERVICE,), (404,), _OF_ONE, "no_such_service"),
    # Of a machine it is no word: see `Northflank._refusal_of`.
    Rule(NotFound, (_NO_PROJECT,), (404,), ("create", "discard"), "no_such_project"),
)

_SHOWN = """
data error status message regions provider region gpuDevices memoryInfo sizeInMiB countOptions
pricing onDemand plans cpuResource ramResource amountPerHour projects services containers
pagination hasNextPage cursor count id name projectId serviceType billing deploymentPlan
deployment instances external imagePath gpu configuration gpuType gpuCount servicePaused ports
internalPort public protocol dns createdAt expiryTime expiredAt scheduledDeletion reason entityId
entityType createOptions storage ephemeralStorage storageSize paas paasUsage teams resourceTypes
resources price total cpu memory available
"""
SHOWN = frozenset(_SHOWN.split())
"""Fields whose values may be written down. Not: runtimeEnvironment, docker with its command."""

_STATES: StateTable = (
    (State.TERMINATING, {"expired": {True}}),
    (State.STOPPING, {"paused": {True}, "occupied": {True}}),
    (State.STOPPED, {"paused": {True}}),
    (State.FAILED, {"word": {"FAILED"}}),
    (State.RUNNING, {"word": {"COMPLETED"}, "runs": {True}}),
    (State.PENDING, {"word": {"PENDING", "IN_PROGRESS", "COMPLETED", "-"}}),
)
_RUNNING = "TASK_RUNNING"
_OVER = frozenset({"TASK_KILLED", "TASK_FINISHED"})
_FAILED = frozenset({"TASK_FAILED"})
"""Of a service that is not paused it is started again, at a cost."""


# What a create sends

_bounds = Bounds(NAME)


def service(
    spec: LaunchSpec, offer: Offer, attempt: Attempt, left_s: float | None
) -> dict[str, Any]:
    """The body of a create. Invalid names the field that is out of bounds."""
    require = _bounds.require
    _bounds.takes_no(spec, "vm_image", "volumes", "registry_auth", "bid", "options")
    _bounds.variables(spec.env, longest=ALL_VARIABLES, together=ALL_VARIABLES)
    _bounds.ports(spec.ports, most=MOST_PORTS, protocols=("tcp",))
    require(left_s is None or left_s <= LONGEST_S, "expires_at", "7 days at most, or none")
    boot = container_boot(
        spec, limit=LONGEST_TEXT, seconds_left=None, end="", then="exec tail -f /dev/null"
    )
    require(not boot.after, "startup_script", f"at most {LONGEST_TEXT} bytes with the variables")
    shell, flag, *words = as_arguments(boot.text, 2 * LONGEST_TEXT)
    device = {"gpuType": offer.gpu.raw, "gpuCount": offer.gpu_count}
    deployment: dict[str, Any] = {
        "instances": 1,
        "external": {"imagePath": spec.image or DEFAULT_IMAGE},
        "docker": {
            "configType": "customEntrypointCustomCommand",
            "customEntrypoint": f"{shell} {flag}",
            "customCommand": shlex.join(words),
        },
        "gpu": {"enabled": True, "configuration": device},
    }
    if spec.disk_gb is not None:
        require(spec.disk_gb >= 1, "disk_gb", "at least 1 GB")
        deployment["storage"] = {"ephemeralStorage": {"storageSize": spec.disk_gb * MB_OF_GB}}
    body: dict[str, Any] = {
        "name": attempt.name,
        "billing": {"deploymentPlan": offer.key.partition(":")[0]},
        "deployment": deployment,
    }
    if spec.ports:
        body["ports"] = [
            {"name": f"p{port}", "internalPort": port, "public": True, "protocol": "HTTP"}
            for port in dict.fromkeys(port for port, _ in spec.ports)
        ]
    if spec.env:
        body["runtimeEnvironment"] = dict(spec.env)
    if left_s is not None:
        body["createOptions"] = {"expiryTime": max(SHORTEST_S, int(left_s))}
    return body


# How machines are read


class Deploying(Struct):
    """How far the deployment is, and since when."""

    status: Word
    since: Word | None = field(name="lastTransitionTime", default=None)


class Status(Struct):
    """Nothing is told of one that was just made."""

    deployment: Deploying | None = None


class Device(Struct, rename="camel"):
    """Which GPUs a service has."""

    gpu_type: Word
    gpu_count: Count = 1


class Gpus(Struct):
    """On, and which."""

    configuration: Device | None = None


class External(Struct):
    """The image, without its host."""

    image_path: Text | None = field(name="imagePath", default=None)


class Deployment(Struct, frozen=True):
    """What it runs. Its command and variables are never read."""

    region: Word | None = None
    external: External | None = None
    gpu: Gpus | None = None


class Port(Struct):
    """A port, and its address where it is published."""

    number: Count = field(name="internalPort")
    public: bool = False
    dns: Word | None = None


class Container(Struct):
    """What really runs."""

    status: Word


class Service(Struct, rename="camel"):
    """One service; a list tells less of it."""

    id: Word
    name: Word
    project_id: Word | None = None
    service_type: Word = "deployment"
    service_paused: bool = False
    status: Status | None = None
    deployment: Deployment = Deployment()
    ports: tuple[Port, ...] = ()
    created_at: Moment | None = None
    expiry_time: Moment | None = None
    expired_at: Moment | None = None

    @property
    def stamp(self) -> tuple[str, str] | None:
        """Another one once its deployment changed. None where that is not told."""
        told = self.status.deployment if self.status else None
        return (told.status, told.since) if told and told.since else None


class Seen(Struct, frozen=True):
    """What its state is made of."""

    word: str
    paused: bool
    expired: bool
    runs: bool
    """A container runs, of which a list says nothing: there it is the deployment's word."""
    occupied: bool
    """A container is there: running, coming or going."""


def seen(row: Service, containers: tuple[Container, ...] | None) -> Seen:
    """`containers`: None where they were not asked for."""
    deploying = row.status.deployment if row.status else None
    word = deploying.status if deploying else "-"
    told = {container.status for container in containers or ()}
    over = _OVER | _FAILED if row.service_paused else _OVER
    runs = word == "COMPLETED" and not row.service_paused if containers is None else False
    return Seen(
        word=word,
        paused=row.service_paused,
        expired=row.expired_at is not None,
        runs=runs or _RUNNING in told,
        occupied=runs or bool(told - over),
    )


state_of = partial(state_by, _STATES)


def instance_of(
    row: Service, account: str, project: str, containers: tuple[Container, ...] | None = None
) -> Instance:
    """A machine as the vendor tells it."""
    now = seen(row, containers)
    state, (owner, attempt) = state_of(now), whose(row.name)
    waits = state is State.PENDING and containers is not None and not now.occupied
    device = row.deployment.gpu.configuration if row.deployment.gpu else None
    return Instance(
        ref=Ref(NAME, account, "", f"{project}/{row.id}"),
        owner=owner,
        attempt=attempt,
        name=row.name,
        state=state,
        raw_state="paused" if now.paused else now.word,
        reason="waits for a GPU" if waits else "",
        healthy=state not in {State.FAILED, State.UNKNOWN},
        bills_compute=now.occupied,
        bills_disk=False,
        gpu=device.gpu_type if device else None,
        gpu_count=device.gpu_count if device else None,
        image=row.deployment.external.image_path if row.deployment.external else None,
        region=row.deployment.region,
        ports={
            f"{port.number}/tcp": f"https://{port.dns}"
            for port in row.ports
            if port.public and port.dns
        },
        created_at=utc(row.created_at),
        expires_at=utc(row.expiry_time),
        raw={"id": row.id, "status": now.word},
    )


# How charges are read


class Cents(Struct):
    """US cents."""

    total: SignedUsd
    gpu: SignedUsd = 0.0
    cpu: SignedUsd = 0.0
    memory: SignedUsd = 0.0
    storage: SignedUsd = 0.0


class Charged(Struct):
    """What one service cost in one hour."""

    id: Word
    price: Cents
    start: datetime = datetime.min.replace(tzinfo=UTC)

    @property
    def amount(self) -> float:
        """In USD."""
        return self.price.total / 100

    def lines(self) -> tuple[BillLine, ...]:
        """By kind, what cost nothing left out."""
        kinds = {kind: getattr(self.price, kind) for kind in ("gpu", "cpu", "memory", "storage")}
        return tuple(
            BillLine(kind, in_dollars(cents), self.start, self.start + HOUR)
            for kind, cents in kinds.items()
            if cents
        )


class ResourceType(Struct):
    """Services, volumes and the like."""

    resources: tuple[Charged, ...]


class ProjectUsage(Struct, rename="camel"):
    """One project's."""

    id: Word
    resource_types: tuple[ResourceType, ...]


class TeamUsage(Struct):
    """One team's."""

    projects: tuple[ProjectUsage, ...]


class PaasUsage(Struct):
    """All that is not in somebody's own cloud."""

    teams: tuple[TeamUsage, ...]


class HourUsage(Struct):
    """Of one hour. Older servers call it `paasUsage`."""

    paas: PaasUsage | None = None
    former: PaasUsage | None = field(name="paasUsage", default=None)

    @property
    def told(self) -> PaasUsage | None:
        """By either name."""
        return self.paas or self.former


def charges_of(usage: PaasUsage, project: str) -> dict[str, Charged]:
    """Of one project's services in one hour, by their ids. ValueError where one is told twice."""
    found: dict[str, Charged] = {}
    rows = (
        row
        for team in usage.teams
        for one in team.projects
        if one.id == project
        for kind in one.resource_types
        for row in kind.resources
    )
    for row in rows:
        if row.id in found:
            raise ValueError(f"{row.id} is told twice")
        found[row.id] = row
    return found


# Calls


class Pagination(Struct, frozen=True, rename="camel"):
    """Whether there is more."""

    has_next_page: bool = False
    cursor: Word | None = None


class Paged(Struct, kw_only=True):
    """What all pages of lists have."""

    pagination: Pagination = Pagination()

    @property
    def next_token(self) -> str | None:
        """Of the next page."""
        return self.pagination.cursor if self.pagination.has_next_page else None

    @property
    def total(self) -> int | None:
        """It is not told: `count` is that of the page."""
        return None


class Projects(Struct):
    """Their ids are made of their names."""

    projects: tuple[Thing, ...]


class ProjectsPage(Paged):
    """Some of them."""

    data: Projects

    @property
    def rows(self) -> tuple[Thing, ...]:
        """Of this page."""
        return self.data.projects


class Services(Struct):
    """Without much that a service's own record tells."""

    services: tuple[Service, ...]


class ServicesPage(Paged):
    """Some of them."""

    data: Services

    @property
    def rows(self) -> tuple[Service, ...]:
        """Of this page."""
        return self.data.services


class Looked(Struct, frozen=True):
    """What a look told of a machine, and when."""

    stamp: object
    at_s: float
    told: Instance

    def holds(self, row: Service) -> bool:
        """Whether it may stand for the machine as it is listed now.

        That a machine costs nothing is never taken from memory: nothing in a list would tell
        that it is on again.
        """
        return self.told.bills_compute and self.stamp is not None and self.stamp == row.stamp


class Restrictions(Struct, frozen=True):
    """To these projects, or to all but these."""

    enabled: bool = False


class Token(Struct, rename="camel"):
    """Whose it is, and how much of the account it sees."""

    entity_id: Word
    scope: Word = ""
    project_restrictions: Restrictions = Restrictions()

    @property
    def narrowed(self) -> bool:
        """It does not see every project, and is told of the others as if there were none."""
        return self.project_restrictions.enabled or self.scope == "own-project"


class Project(Struct):
    """One of them."""

    id: Word
    region: Word | None = None


class Available(Struct):
    """US cents."""

    available: SignedUsd


class Told(Struct):
    """A service's own record."""

    data: Service


_PROJECTS, _ID = "/v1/projects", re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_MISSING = 404


class Northflank(KeepsThings):
    """One team at Northflank: each call one question."""

    name = NAME
    display_name = "Northflank"
    website = "https://northflank.com/"
    console = "https://app.northflank.com/"
    credentials = ("NORTHFLANK_API_TOKEN", "NF_API_TOKEN")
    capabilities = CAPABILITIES
    base_url = "https://api.northflank.com"
    rules = RULES
    shown = SHOWN
    keyless = frozenset({"offers"})
    shelves = (Shelf(Resource.NAMESPACE, _PROJECTS),)

    def __init__(self, account: Account, transport: Transport) -> None:
        super().__init__(account, transport)
        self._looked: dict[str, Looked] = {}
        self._narrowed: bool | None = None
        self._now = transport.clock.boot_s

    async def uid(self, operation: str) -> str:
        """The team's or organisation's id."""
        token = await self.ask_for(Token, operation, "GET", "/v1/auth", under="data")
        self._narrowed = token.narrowed
        return token.entity_id

    async def machines(self, operation: str) -> Whole[Instance]:
        """The services of every project; a list tells little of each, so that ours are looked at.

        A few each time: first those that cost nothing when this process looked, then those that
        changed since, and the longest unseen.
        """
        projects = await self._projects(operation)
        found: dict[str, Instance] = {}
        off: list[tuple[float, str]] = []
        due: list[tuple[float, str]] = []
        complete = projects.complete
        for project in projects.rows:
            path = f"{_PROJECTS}/{_id(str(project.id))}/services"
            whole = await self._pages(operation, path, ServicesPage)
            complete = complete and whole.complete
            for row in whole.rows:
                if row.service_type == "build":
                    continue
                listed = instance_of(row, self.account, str(project.id))
                known = self._looked.get(listed.ref.id)
                if known and known.holds(row):
                    found[listed.ref.id], at_s = known.told, known.at_s
                    if self._now() - at_s >= LOOK_AGAIN_S:
                        due.append((at_s, listed.ref.id))
                    continue
                found[listed.ref.id] = listed
                if known and not known.told.bills_compute:
                    off.append((known.at_s, listed.ref.id))
                elif listed.attempt:
                    due.append((float("-inf"), listed.ref.id))
        first = sorted(off)[: max(MOST_LOOKS - 1, MOST_LOOKS - len(due))]
        for _, id_ in [*first, *sorted(due)][:MOST_LOOKS]:
            try:
                found[id_] = await self._machine(operation, self.ref(id_))
            except NotFound:
                del found[id_]
        return Whole(tuple(found.values()), complete)

    async def find(self, attempt: Attempt, offer: Offer) -> tuple[Instance, ...]:
        """By its name, which is its id in the project of its region."""
        with suppress(NotFound):
            return (await self._machine("find", self._ref(attempt, offer)),)
        return ()

    async def offers(self, query: Query) -> AsyncIterator[OfferPage]:
        """Every region's GPUs; neither call takes filters, and neither tells stock."""
        read_options(query, NAME, {}, {})
        if query.market not in {None, Market.ON_DEMAND}:
            return
        answer = await self.ask("offers", "GET", "/v1/regions")
        plans = await self.ask("offers", "GET", "/v1/plans")
        rows, rejected = parse_offers(
            answer.body, plans.body, account=self.account, fetched_at=answer.asked_at
        )
        yield page_of(rows, rejected)

    async def ensure(
        self,
        what: Resource,
        spec: LaunchSpec,
        offer: Offer,
        attempt: Attempt,
        have: Mapping[Resource, Ref],
    ) -> Ref:
        """The owner's project in the offer's region."""
        if what is not Resource.NAMESPACE:
            raise self.unsupported("ensure", what.value)
        name = _project(attempt, offer)
        known = {str(one.id) for one in (await self._pages("ensure", _PROJECTS, ProjectsPage)).rows}
        method, path, body = "POST", _PROJECTS, {"name": name, "region": offer.region}
        if name in known:
            method, path, body = "GET", f"{path}/{name}", {}
        made = await self.ask_for(Project, "ensure", method, path, body or None, under="data")
        if made.region not in {None, offer.region}:
            raise name_taken(NAME, "ensure", f"the project {name} is in {made.region}")
        return self.ref(made.id)

    async def release(self, what: Resource, ref: Ref) -> None:
        """The project is the owner's: it stays for his next machine, at no cost."""

    async def create(
        self, spec: LaunchSpec, offer: Offer, attempt: Attempt, have: Mapping[Resource, Ref]
    ) -> Ref:
        """One request. Where its name is taken the machine is there: it is this very attempt's."""
        body = service(spec, offer, attempt, seconds_left(spec, self.http.clock.now()))
        project = _id(have[Resource.NAMESPACE].id)
        path, hide = f"{_PROJECTS}/{project}/services/deployment", self._hidden(spec, body)
        try:
            made = await self.ask_for(
                Service, "create", "POST", path, body, under="data", hide=hide
            )
        except WrongState as refusal:
            if refusal.code != NAME_TAKEN:
                raise
            return self.ref(f"{project}/{attempt.name}")
        if made.project_id not in {None, project} or not _ID.fullmatch(made.id):
            raise self.http.error(OutcomeUnknown, "create", "another service than was asked for")
        return self.ref(f"{project}/{made.id}")

    def ends_by_itself(self, spec: LaunchSpec, offer: Offer) -> datetime | None:
        """At its expiry; a service's record need not tell it, and no call moves it."""
        return spec.expires_at

    async def get(self, ref: Ref) -> Instance:
        """NotFound by the vendor's words. Only its containers tell whether it runs."""
        return self.same(ref, await self._machine("get", ref))

    async def terminate(self, ref: Ref) -> None:
        """With what was made for it alone. Gone already is fine."""
        with suppress(NotFound):
            params = {"delete_child_objects": "true"}
            answer = await self.send("terminate", "DELETE", _path(ref), params=params)
            if self.refused(answer):
                raise await self._refusal_of("terminate", ref, answer)

    async def stop(self, ref: Ref) -> None:
        """Ends its container and the container's disk."""
        self._looked.pop(ref.id, None)
        await self.ask("stop", "POST", _path(ref, "/pause"))

    async def start(self, ref: Ref) -> None:
        """Waits for a GPU anew. WrongState where it is not paused."""
        self._looked.pop(ref.id, None)
        await self.ask("start", "POST", _path(ref, "/resume"), {"instances": 1})

    async def billing(self, ref: Ref, since: datetime, until: datetime | None) -> Bill:
        """The vendor's charges, hour by hour: one question each."""
        now, (project, _, service_id) = self.http.clock.now(), ref.id.partition("/")
        hour = since.replace(minute=0, second=0, microsecond=0)
        ours: list[Charged] = []
        while hour < (until or now) and hour < since + timedelta(seconds=LONGEST_S) + HOUR:
            charged = await self._charged(project, service_id, hour)
            ours += [Charged(service_id, charged.price, hour)] if charged else []
            hour += HOUR
        return bill_of(
            ours,
            until=until,
            now=now,
            lag_s=self.capabilities.billing_lag_s,
            complete=hour >= (until or now),
            evidence=f"service {service_id}: {len(ours)} hourly records",
        )

    async def _charged(self, project: str, service_id: str, hour: datetime) -> Charged | None:
        """In one hour: None where the service cost nothing. Pages only where they are full."""
        path, seen = f"/v1/billing/usage/{int(hour.timestamp())}", set[str]()
        asked = {"projectId": project, "resourceType": "service", "removeLegacyFields": "true"}
        for page in range(1, MOST_PAGES + 1):
            more = {"resourcesPage": str(page)} if page > 1 else {}
            told = await self.ask_for(
                HourUsage, "billing", "GET", path, params=asked | more, under="data"
            )
            if told.told is None:
                raise self.http.error(BadResponse, "billing", "an hour without its usage")
            try:
                charges = charges_of(told.told, project)
            except ValueError as fault:
                raise self.http.error(BadResponse, "billing", str(fault)) from None
            if service_id in charges or len(charges) < USUAL_PAGE or charges.keys() <= seen:
                return charges.get(service_id)
            seen |= charges.keys()
        raise self.http.error(BadResponse, "billing", "an hour's usage without end")

    async def balance(self) -> Nanos:
        """Credits that can be spent."""
        path, under = "/v1/billing/credit-balance", "data.total"
        return in_dollars(
            (await self.ask_for(Available, "balance", "GET", path, under=under)).available
        )

    async def on_shelf(self, operation: str, shelf: Shelf) -> Whole[Any]:
        """Projects come in pages."""
        return await self._projects(operation)

    async def _pages(
        self, operation: str, path: str, shape: type[PageShape[Listed]]
    ) -> Whole[Listed]:
        token, most = "cursor", {"per_page": "100"}
        return await self.pages(
            operation, path, most, shape, identity=attrgetter("id"), token_name=token
        )

    async def _machine(self, operation: str, ref: Ref) -> Instance:
        answer = await self.send(operation, "GET", _path(ref))
        if self.refused(answer):
            raise await self._refusal_of(operation, ref, answer)
        row, project = self.http.decode(operation, answer, Told).data, ref.id.partition("/")[0]
        if row.project_id not in {None, project}:
            raise self.http.error(BadResponse, operation, "a service of another project", answer)
        containers: tuple[Container, ...] = ()
        if row.expired_at is None:
            containers = await self.ask_for(
                tuple[Container, ...], operation, "GET", _path(ref, "/containers"),
                under="data.containers",
            )  # fmt: skip
        told = instance_of(row, self.account, project, containers)
        self._looked[told.ref.id] = Looked(row.stamp, self._now(), told)
        return told

    async def _refusal_of(self, operation: str, ref: Ref, answer: Answer) -> BrokerError:
        """NotFound by the service's name alone, else only where its project is surely gone.

        A token that is narrowed to other projects is told that there is no such project.
        """
        if answer.status == _MISSING and _NO_PROJECT in answer_text(answer.body)[1]:
            projects = await self._projects(operation)
            there = {str(one.id) for one in projects.rows}
            if projects.complete and ref.id.partition("/")[0] not in there:
                return self.http.error(NotFound, operation, f"no project of {ref.id}", answer)
        return self.refusal(operation, answer)

    async def _projects(self, operation: str) -> Whole[Thing]:
        """All that the token sees; complete only where that is all there are."""
        if self._narrowed is None:
            await self.uid(operation)
        whole = await self._pages(operation, _PROJECTS, ProjectsPage)
        return Whole(whole.rows, complete=whole.complete and not self._narrowed)

    def _ref(self, attempt: Attempt, offer: Offer) -> Ref:
        return self.ref(f"{_project(attempt, offer)}/{attempt.name}")

    @staticmethod
    def _hidden(spec: LaunchSpec, body: Mapping[str, Any]) -> tuple[str, ...]:
        return (*secrets_of(spec), body["deployment"]["docker"]["customCommand"])


def _project(attempt: Attempt, offer: Offer) -> str:
    return f"{key_name(attempt)}-{offer.region}"


def _id(text: str) -> str:
    return _bounds.plain_id(text, "ref")


def _path(ref: Ref, below: str = "") -> str:
    project, _, service_id = ref.id.partition("/")
    return f"{_PROJECTS}/{_id(project)}/services/{_id(service_id)}{below}"
