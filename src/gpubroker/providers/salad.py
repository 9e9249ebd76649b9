"""SaladCloud: containers on other people's gaming PCs, and on a few data centers, by the second.

One container group of one replica is a machine. Four priorities are four prices: `high` is taken
away by no other workload and is sold as on-demand, the others are spot; at each of them the PC may
leave, and the group goes on elsewhere with an empty disk. No create is refused for capacity: it
waits for a PC, at no cost. SSH is there, and admits the keys of the person's portal page only: no
call sets one. One port is published, at an HTTPS address that asks for the header
`Salad-Api-Key`; what serves it must listen on IPv6 (`::`). The organisation is configuration, with
a project where that is not `default`: `acme` or `acme/research`.
"""

# ruff: noqa: ARG002 - the interface hands every cloud what any of them needs

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from msgspec import Struct

from gpubroker.model.capabilities import Capabilities, Limit
from gpubroker.model.errors import (
    BadResponse,
    BrokerError,
    Invalid,
    NotFound,
    OutcomeUnknown,
    OutOfFunds,
    QuotaExceeded,
    RateLimited,
    WrongState,
)
from gpubroker.model.identity import Attempt, Ref, parse_name
from gpubroker.model.instance import Endpoint, Instance, Listing
from gpubroker.model.launch import LaunchSpec, RegistryAuth
from gpubroker.model.offer import Offer, OfferPage
from gpubroker.model.query import Query
from gpubroker.model.quota import Quota
from gpubroker.model.terms import Carrier, Expiry, Kind, Market, Resource, State
from gpubroker.providers.accounts import Account
from gpubroker.providers.boot import as_arguments, container_boot, secrets_of
from gpubroker.providers.bounds import Bounds
from gpubroker.providers.carriers import whose
from gpubroker.providers.fields import Count, Moment, Text, Word, utc
from gpubroker.providers.http import Transport
from gpubroker.providers.offering import page_of
from gpubroker.providers.paging import Whole
from gpubroker.providers.pushdown import read_options
from gpubroker.providers.refusals import Rule
from gpubroker.providers.rest import RestCloud
from gpubroker.providers.salad_market import (
    GB,
    MB_OF_GB,
    NAME,
    USUAL_RAM_MB,
    USUAL_VCPUS,
    Free,
    parse_offers,
    read_classes,
)
from gpubroker.providers.states import StateTable, state_by

# What it is

DEFAULT_IMAGE = "nvidia/cuda:12.4.1-runtime-ubuntu22.04"
DEFAULT_PROJECT = "default"
LONGEST_ARGUMENT, MOST_ARGUMENTS, OWN_ARGUMENTS = 1000, 100, 4
LONGEST_TEXT = (MOST_ARGUMENTS - OWN_ARGUMENTS) * LONGEST_ARGUMENT * 3 // 4
"""A command is at most 100 words of 1,000 characters in one line (API 0.9.0-alpha.17)."""
LONGEST_VALUE, ALL_VARIABLES = 1000, 100_000
"""Values of 1 to 1,000 characters (the same); the sum is ours."""
USUAL_DISK_GB = 20
LARGEST_LIST = 100
"""Rows of a list, which has no pages: so many are not known to be all."""

_CALLS = "whoami offers find get list create terminate stop start quotas"
CAPABILITIES = Capabilities(
    kinds=frozenset({Kind.CONTAINER}),
    markets=frozenset({Market.ON_DEMAND, Market.SPOT}),
    carriers=(Carrier.UNIQUE_NAME,),
    image="container",
    startup="args",
    startup_max_bytes=LONGEST_TEXT,
    ssh="portal",
    ssh_keys="account_set",
    env="native",
    ports="http_only",
    # Nothing is kept and nothing costs: "you are only charged for instances that are running".
    stop="loses_gpu",
    stop_wipes=True,
    # Whether a container that ended ends its group is not documented.
    expiry=Expiry.CONTROLLER_ONLY,
    registry_auth=True,
    # The vendor promises none of these three.
    create_deadline_s=120,
    list_lag_s=120,
    absence_grace_s=120,
    gone="404",
    queues=True,
    billing="manual",
    limits=(
        # "240 requests per minute" of a key (SaladCloud docs, using the API).
        Limit("calls", frozenset(_CALLS.split()), interval_s=0.3, burst=20),
    ),
)

_POOR = ("credit", "balance", "funds", "payment")
RULES = (
    # Errors may be web pages (SaladCloud docs, using the API); the texts of 400 and 403 are ours.
    Rule(RateLimited, statuses=(429,)),
    Rule(QuotaExceeded, ("quota", "maximum replicas"), (400, 403), ("create", "start"), "quota"),
    Rule(OutOfFunds, _POOR, (400, 402, 403), ("create", "start"), "no_credit"),
    Rule(WrongState, statuses=(400, 409), operations=("stop", "start", "terminate")),
    # "The container group could not be found." (API, example); another 404 names another thing.
    Rule(NotFound, ("container group",), (404,), code="no_such_group"),
)

_SHOWN = """
type title status detail instance items id name display_name gpu_class_type gpu_count is_high_demand
min_vcpu max_vcpu min_ram max_ram min_storage max_storage prices priority price gpu_classes cpu
memory storage_amount shm_size available_gpu_high available_gpu_medium available_gpu_low
available_gpu_batch on_call_gpu container_groups_quotas container_replicas_quota
container_replicas_used organization_name project_name container image resources replicas
autostart_policy restart_policy networking protocol port dns current_state description
instance_status_counts allocating_count creating_count running_count stopping_count create_time
update_time instances machine_id state ready started ssh_ip ssh_port
"""
SHOWN = frozenset(_SHOWN.split())
"""Fields whose values may be written down. Not: environment_variables, command, the logins."""

_STATES: StateTable = (
    (State.PENDING, {"status": {"pending"}}),
    (State.RUNNING, {"status": {"running", "deploying"}, "runs": {True}}),
    (State.PENDING, {"status": {"running", "deploying"}}),
    (State.STOPPING, {"status": {"stopped"}, "bills": {True}}),
    (State.STOPPED, {"status": {"stopped"}}),
    (State.TERMINATED, {"status": {"succeeded"}}),
    (State.FAILED, {"status": {"failed"}}),
)
_PART = re.compile(r"[a-z][a-z0-9-]{0,61}[a-z0-9]")
_DOCKER_HUB = frozenset({"", "docker.io", "index.docker.io", "registry-1.docker.io"})


# What a create sends

_bounds = Bounds(NAME)


def group(spec: LaunchSpec, offer: Offer, attempt: Attempt) -> dict[str, Any]:
    """The body of a create. Invalid names the field that is out of bounds."""
    require = _bounds.require
    require(set(spec.options) <= {"gateway_auth"}, "options", "gateway_auth")
    _bounds.takes_no(spec, "vm_image", "volumes", "bid")
    _bounds.variables(spec.env, longest=ALL_VARIABLES, together=ALL_VARIABLES)
    fit = all(1 <= len(value) <= LONGEST_VALUE for value in spec.env.values())
    require(fit, "env", f"values of 1 to {LONGEST_VALUE} characters")
    _bounds.ports(spec.ports, most=1, protocols=("tcp",))
    boot = container_boot(
        spec, limit=LONGEST_TEXT, seconds_left=None, end="", then="exec tail -f /dev/null"
    )
    require(not boot.after, "startup_script", f"at most {LONGEST_TEXT} bytes with the variables")
    container: dict[str, Any] = {
        "image": spec.image or DEFAULT_IMAGE,
        "command": as_arguments(boot.text, LONGEST_ARGUMENT),
        "priority": offer.tier,
        "resources": {
            "cpu": int(offer.vcpus or USUAL_VCPUS),
            "memory": round(offer.ram_gb * MB_OF_GB) if offer.ram_gb else USUAL_RAM_MB,
            "gpu_classes": [offer.key.partition(":")[0]],
            "storage_amount": _bounds.disk(spec, offer, usual=USUAL_DISK_GB) * GB,
        },
    }
    if spec.env:
        container["environment_variables"] = dict(spec.env)
    if spec.registry_auth:
        container["registry_authentication"] = _login(spec.registry_auth)
    body: dict[str, Any] = {
        "name": attempt.name,
        "display_name": attempt.name,
        "replicas": 1,
        "autostart_policy": True,
        "restart_policy": "always",
        "container": container,
    }
    for port, _ in spec.ports:
        auth = spec.options.get("gateway_auth", True) is not False
        body["networking"] = {"protocol": "http", "port": port, "auth": auth}
    return body


def _login(login: RegistryAuth) -> dict[str, dict[str, str]]:
    hub = login.server in _DOCKER_HUB
    kind, word = ("docker_hub", "personal_access_token") if hub else ("basic", "password")
    return {kind: {"username": login.username, word: login.password}}


# How machines are read


class Counts(Struct):
    """Replicas by state."""

    running_count: Count = 0
    stopping_count: Count = 0


class GroupState(Struct):
    """What the group is at. `running` also while its replica is moved to another PC."""

    status: Word
    instance_status_counts: Counts
    description: Text | None = None

    @property
    def runs(self) -> bool:
        """Whether a replica runs."""
        return self.instance_status_counts.running_count > 0

    @property
    def bills(self) -> bool:
        """Whether a replica runs, or is told to end and may run for minutes."""
        return self.runs or self.instance_status_counts.stopping_count > 0


class Container(Struct, frozen=True):
    """What it runs. Its variables and command are never read."""

    image: Text | None = None


class Networking(Struct):
    """The published port."""

    port: Count
    dns: Word


class Group(Struct):
    """One container group."""

    name: Word
    project_name: Word
    current_state: GroupState
    id: Word
    container: Container = Container()
    priority: Word | None = None
    networking: Networking | None = None
    create_time: Moment | None = None


class Replica(Struct):
    """One instance of a group, on one PC."""

    state: Word
    ssh_ip: Word | None = None
    ssh_port: Count | None = None


class Replicas(Struct):
    """The organisation's limit; those of stopped groups count."""

    container_replicas_quota: Count
    container_replicas_used: Count


state_of = partial(state_by, _STATES)


def instance_of(row: Group, account: str, replicas: tuple[Replica, ...] = ()) -> Instance:
    """A machine as the vendor tells it; its SSH address where its replica was asked for."""
    now = row.current_state
    state, (owner, attempt) = state_of(now), whose(row.name)
    waits = "waits for a PC" if now.status in {"deploying", "running"} and not now.bills else ""
    gate = row.networking
    return Instance(
        # Addressed by its name, which is free again once it is gone.
        ref=Ref(NAME, account, row.project_name, f"{row.name}/{row.id}"),
        owner=owner,
        attempt=attempt,
        name=row.name,
        state=state,
        raw_state=now.status,
        reason=now.description or waits,
        healthy=state not in {State.FAILED, State.UNKNOWN},
        # "Preparing": the image is pulled and repacked, which takes minutes.
        pulling=now.status == "pending",
        bills_compute=now.bills,
        bills_disk=False,
        image=row.container.image,
        tier=row.priority,
        ssh=next(filter(None, map(_ssh, replicas)), None) if state is State.RUNNING else None,
        ports={f"{gate.port}/tcp": f"https://{gate.dns}"} if gate else {},
        created_at=utc(row.create_time),
        raw={"id": row.id, "status": now.status},
    )


def _ssh(replica: Replica) -> Endpoint | None:
    if replica.state != "running" or not replica.ssh_ip or not replica.ssh_port:
        return None
    return Endpoint(host=replica.ssh_ip, port=replica.ssh_port, user="root")


# Calls


class Salad(RestCloud):
    """One organisation at SaladCloud, and one of its projects: each call one question."""

    name = NAME
    display_name = "SaladCloud"
    website = "https://salad.com/"
    console = "https://portal.salad.com/organizations"
    charges_page = "https://portal.salad.com/"
    credentials = ("SALAD_API_KEY", "SALAD_ORGANIZATION_NAME")
    capabilities = CAPABILITIES
    base_url = "https://api.salad.com"
    rules = RULES
    shown = SHOWN

    def __init__(self, account: Account, transport: Transport) -> None:
        super().__init__(account, transport)
        told_name = account.secrets.get("SALAD_ORGANIZATION_NAME", "")
        self._organization, _, project = told_name.partition("/")
        self._project = project or DEFAULT_PROJECT

    @staticmethod
    def authorization(account: Account) -> Mapping[str, str]:
        """A header of its own."""
        return {"salad-api-key": account.key}

    async def uid(self, operation: str) -> str:
        """The organisation's name, hashed: any key of it is of the same account."""
        if operation == "whoami":
            await self._replicas(operation)
        return f"org-{hashlib.sha256(self._organization.encode()).hexdigest()[:24]}"

    async def scopes(self) -> tuple[str, ...]:
        """The one project: no call lists them."""
        return (self._project,)

    async def list(self, scope: str) -> Listing:
        """Every group of a project."""
        asked_at, uid = self.http.clock.now(), await self.uid_beside("list")
        whole = await self._groups("list", scope)
        return Listing(uid, scope, whole.complete, asked_at, whole.rows)

    async def machines(self, operation: str) -> Whole[Instance]:
        """Those of the project."""
        return await self._groups(operation, self._project)

    async def find(self, attempt: Attempt, offer: Offer) -> tuple[Instance, ...]:
        """By its name, which is unique in the project."""
        with suppress(NotFound):
            return (await self._machine("find", self._project, attempt.name),)
        return ()

    async def offers(self, query: Query) -> AsyncIterator[OfferPage]:
        """All classes, and of each what is free now: the list tells no stock."""
        read_options(query, NAME, {}, {})
        if query.market not in {None, *CAPABILITIES.markets}:
            return
        answer = await self.ask("offers", "GET", f"{self._root}/gpu-classes")
        path, free = f"{self._root}/availability/sce-gpu-availability", {}
        for row in read_classes(answer.body)[0]:
            body = {"gpu_classes": [row.id]}
            free[row.id] = await self.ask_for(Free, "offers", "POST", path, body)
        rows, rejected = parse_offers(
            answer.body, account=self.account, fetched_at=answer.asked_at, free=free
        )
        yield page_of(rows, rejected, whole=len(free) < LARGEST_LIST)

    async def create(
        self, spec: LaunchSpec, offer: Offer, attempt: Attempt, have: Mapping[Resource, Ref]
    ) -> Ref:
        """One request. How a taken name is refused is not documented: a refusal is looked into."""
        body, path = group(spec, offer, attempt), self._path(self._project)
        hide = (*secrets_of(spec), *body["container"]["command"][OWN_ARGUMENTS:])
        try:
            made = await self.ask_for(Group, "create", "POST", path, body, hide=hide)
        except Invalid as refusal:
            try:
                return (await self._machine("find", self._project, attempt.name)).ref
            except NotFound:
                raise refusal from None
            except BrokerError as trouble:
                raise self.http.error(OutcomeUnknown, "create", str(trouble)) from trouble
        return instance_of(made, self.account).ref

    async def get(self, ref: Ref) -> Instance:
        """NotFound by the vendor's words, and where another group has its name by now.

        A running one's replica tells where its SSH is.
        """
        found = await self._machine("get", ref.scope, _name(ref))
        if found.ref.id != ref.id:
            raise self.http.error(NotFound, "get", f"{_name(ref)} is another group now")
        return found

    async def terminate(self, ref: Ref) -> None:
        """Accepted: its replica may run on, and cost, for minutes. Gone already is fine.

        A name that is not ours may stand for another group by now: that is asked first.
        """
        with suppress(NotFound):
            if parse_name(_name(ref)) is None:
                await self.get(ref)
            await self.ask("terminate", "DELETE", self._path(ref.scope, _name(ref)))

    async def stop(self, ref: Ref) -> None:
        """Ends the replica and its disk."""
        await self.ask("stop", "POST", self._path(ref.scope, _name(ref), "/stop"))

    async def start(self, ref: Ref) -> None:
        """Looks for a PC anew."""
        await self.ask("start", "POST", self._path(ref.scope, _name(ref), "/start"))

    async def quotas(self) -> tuple[Quota, ...]:
        """Replicas of all groups of the organisation."""
        known = await self._replicas("quotas")
        most, used = known.container_replicas_quota, known.container_replicas_used
        return (Quota(bucket="container_replicas_quota", limit=most, used=used, unit="machines"),)

    @property
    def _root(self) -> str:
        # Without a key nothing is sent, and there is no organisation.
        name = _part(self._organization, "organization") if self._has_key else ""
        return f"/api/public/organizations/{name}"

    def _path(self, project: str, name: str | None = None, below: str = "") -> str:
        one = "" if name is None else f"/{_part(name, 'ref')}{below}"
        return f"{self._root}/projects/{_part(project, 'project')}/containers{one}"

    async def _replicas(self, operation: str) -> Replicas:
        path, under = f"{self._root}/quotas", "container_groups_quotas"
        return await self.ask_for(Replicas, operation, "GET", path, under=under)

    async def _groups(self, operation: str, project: str) -> Whole[Instance]:
        rows = await self.ask_for(
            tuple[Group, ...], operation, "GET", self._path(project), under="items"
        )
        once = {row.id: instance_of(row, self.account) for row in rows}
        return Whole(tuple(once.values()), complete=len(rows) < LARGEST_LIST)

    async def _machine(self, operation: str, project: str, name: str) -> Instance:
        path = self._path(project, name)
        row = await self.ask_for(Group, operation, "GET", path)
        if row.name != name:
            raise self.http.error(BadResponse, operation, f"another group than {name}")
        replicas: tuple[Replica, ...] = ()
        if row.current_state.runs:
            replicas = await self.ask_for(
                tuple[Replica, ...], operation, "GET", f"{path}/instances", under="instances"
            )
        return instance_of(row, self.account, replicas)


def _name(ref: Ref) -> str:
    return ref.id.partition("/")[0]


def _part(text: str, field: str) -> str:
    """A name as it stands in a path."""
    fits = _PART.fullmatch(text) is not None
    _bounds.require(fits, field, f"letters, digits and hyphens, not {text[:40]!r}")
    return text
