"""RunPod: containers with GPUs, in its own data centers and on hosts of a community.

REST v2 for machines and bills; GraphQL for prices without a key, for the account, and to rent for
a bid or at a host of the community. A 400 to a create means "invalid" and "no capacity" alike.
`PUBLIC_KEY` goes with each machine: the account's own list of keys is replaced as a whole, and is
left alone. A stopped machine's GPU is let to others, and its container disk is wiped.
"""

# ruff: noqa: ARG002 - the interface hands every cloud what any of them needs

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct

from gpubroker.model.bill import Bill, BillLine
from gpubroker.model.capabilities import Capabilities, Limit
from gpubroker.model.errors import (
    AuthFailed,
    BadResponse,
    Invalid,
    NoCapacity,
    NotFound,
    OutOfFunds,
    QuotaExceeded,
    RateLimited,
    Refused,
    WrongState,
)
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.instance import Endpoint, Instance
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import Nanos, nanos, usd
from gpubroker.model.offer import Offer, OfferPage
from gpubroker.model.query import Query
from gpubroker.model.terms import Carrier, Expiry, Kind, Market, Resource, State
from gpubroker.providers import graphql
from gpubroker.providers.bills import bill_of
from gpubroker.providers.boot import as_line, container_boot, seconds_left, secrets_of
from gpubroker.providers.bounds import Bounds
from gpubroker.providers.carriers import whose
from gpubroker.providers.circuit import PERMISSION
from gpubroker.providers.endpoints import at, ssh_of, without_ssh
from gpubroker.providers.fields import (
    Amount,
    Count,
    Moment,
    SignedUsd,
    Text,
    Usd,
    Word,
    signed_nanos,
    told,
    utc,
)
from gpubroker.providers.fields import Told as ToldWord
from gpubroker.providers.holdings import KeepsThings, Shelf, Thing
from gpubroker.providers.paging import Whole
from gpubroker.providers.pushdown import read_options
from gpubroker.providers.refusals import Rule
from gpubroker.providers.runpod_market import (
    COMMUNITY,
    NAME,
    SECURE,
    Asked,
    Told,
    closer,
    covered,
    document,
    overview,
    parse_offers,
    read_market,
)
from gpubroker.providers.states import StateTable, state_by

# What it is

DEFAULT_IMAGE = "runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404"
OWN_IMAGES = "runpod/"
START = 'exec "${GPUBROKER_ROOT-}/start.sh"'
"""Images of the vendor, and the command of theirs that starts an SSH server from `PUBLIC_KEY`."""
DEFAULT_DISK_GB, SMALLEST_PERSISTENT_GB = 20, 10
LONGEST_TEXT, LONGEST_VARIABLE, ALL_VARIABLES = 48_000, 32_768, 131_072
MOST_VARIABLES, MOST_PORTS = 50, 20
"""Variables as in the vendor's docs, environment variables; the other sizes are ours."""
WORKSPACE, PROXY = "/workspace", "proxy.runpod.net"
END = 'runpodctl remove pod "$RUNPOD_POD_ID" || runpodctl pod delete "$RUNPOD_POD_ID"'
"""Each machine has the vendor's client, older or newer, and a key of its own for itself."""

_CALLS = """
whoami balance find get list create terminate stop start billing ensure release resources discard
"""
_EACH = frozenset(_CALLS.split())
CAPABILITIES = Capabilities(
    kinds=frozenset({Kind.CONTAINER}),
    markets=frozenset({Market.ON_DEMAND, Market.SPOT}),
    carriers=(Carrier.NAME,),
    image="container",
    startup="args",
    startup_max_bytes=LONGEST_TEXT,
    ssh="bootstrap",
    ssh_keys="bootstrap",
    env="native",
    ports="at_create",
    stop="loses_gpu",
    stop_wipes=True,
    # By `END` on the machine; what GraphQL rents by the vendor as well (`terminateAfter`).
    expiry=Expiry.MACHINE_ENDS_BILLING,
    registry_auth=True,
    # Only where a private image's login is asked for.
    needs=(Resource.SECRET,),
    # The figures in seconds from here on are ours: the vendor promises none.
    create_deadline_s=120,
    list_lag_s=120,
    absence_grace_s=60,
    gone="404",
    billing="exact",
    # Billing runs every five minutes, its finest bucket is the hour.
    billing_lag_s=2 * 3600,
    public_prices=True,
    limits=(
        # "60 a minute, 3,000 an hour, 50,000 a day", for all calls of a user together.
        Limit("calls", _EACH, interval_s=1.25, burst=12),
        Limit("day", _EACH, interval_s=1.8, burst=2000),
        Limit("market", frozenset({"offers"}), interval_s=5.0, burst=4, per="ip"),
    ),
)

_GONE = (
    "no longer any instances", "no instances available", "no instances currently available",
    "does not have the resources", "there are no instances", "supply_constraint",
)  # fmt: skip
_POOR = ("balance is too low", "insufficient balance", "insufficient_balance", "insufficient funds")
_ABSENT = ("pod not found", "resource not found", "pod does not exist")
_MACHINE = ("get", "terminate", "stop", "start")
RULES = (
    Rule(RateLimited, statuses=(429,)),
    Rule(AuthFailed, ("unauthorized", "unauthenticated", "not authenticated"), (200, 400, 403)),
    Rule(QuotaExceeded, ("spend limit", "spending limit"), (200, 400, 402, 403)),
    Rule(OutOfFunds, statuses=(402,)),
    Rule(OutOfFunds, _POOR, (200, 400, 403)),
    Rule(NoCapacity, _GONE, (200, 400), ("create", "start"), code="supply_constraint"),
    Rule(NoCapacity, ("not enough free gpus",), (200, 400), ("create", "start"), "host_is_full"),
    Rule(WrongState, ("spot pod",), (200, 400), ("start",), code="spot_pod"),
    Rule(AuthFailed, ("forbidden", "access denied"), (200,), code=PERMISSION),
    # As the 400 below.
    Rule(Refused, ("bad_user_input",), (200,), ("create",), code="not_placed"),
    Rule(Invalid, ("graphql_validation_failed", "bad_user_input", "got invalid value"), (200, 400)),
    # The next candidate may do: the vendor's docs, create a pod.
    Rule(Refused, statuses=(400,), operations=("create",), code="not_placed"),
    Rule(Refused, statuses=(403,), operations=("create",), code="no_access"),
    Rule(WrongState, ("in use",), (400,), ("release", "discard"), code="in_use"),
    Rule(NotFound, _ABSENT, (404, 200), _MACHINE, code="no_such_instance"),
    Rule(NotFound, ("registry not found", "resource not found"), (404,), ("release", "discard")),
    Rule(NotFound, ("network volume not found",), (404,), ("discard",)),
)

_SHOWN = """
title status detail errors error message code extensions path data query variables input id ids
name pods pod cluster rank image imageName gpu count gpuTypeId gpuCount cloud cloudType
dataCenterId dataCenterIds disk containerDiskInGb volumeInGb volumeMountPath networkVolumeId
mounts network persistent size volumeId ports startSsh supportPublicIp bidPerGpu minCudaVersion
terminateAfter action actions cost locked runtime uptime public type ip ssh direct host
port username createdAt startedAt cudaVersion myself clientBalance podRentInterruptable
podFindAndDeployOnDemand desiredStatus machineId gpuTypes displayName manufacturer memoryInGb
lowestPrice minimumBidPrice uninterruptablePrice minVcpu minMemory stockStatus dataCenters
listed gpuAvailability secureCloud communityCloud records metadata startTime endTime podId
totalAmount gpuAmount cpuAmount diskAmount recordCount bucketSize includeClusterPods registries
networkVolumes
"""
SHOWN = frozenset(_SHOWN.split())
"""Fields whose values may be written down. Not among them: env, args, dockerArgs, password."""

_STATES: StateTable = (
    (State.PENDING, {"status": {"PROVISIONING", "STARTING"}}),
    (State.RUNNING, {"status": {"RUNNING"}}),
    # Of a spot machine too: nothing in v2 tells one. The fleet knows what it rented and wished.
    (State.STOPPED, {"status": {"EXITED"}}),
    (State.FAILED, {"status": {"ERROR"}}),
    (State.TERMINATED, {"status": {"TERMINATED"}}),
)
_VERSION = re.compile(r"[0-9]{1,3}\.[0-9]{1,3}")


# What a create sends

_bounds = Bounds(NAME)
_OPTIONS = frozenset({"min_cuda_version", "http_ports", "persistent_gb"})


def pod(
    spec: LaunchSpec, offer: Offer, attempt: Attempt, *, now: datetime, registry: str | None = None
) -> dict[str, Any]:
    """The body of a create in REST v2. Invalid names the field that is out of bounds."""
    require = _bounds.require
    unknown = sorted(set(spec.options) - _OPTIONS)
    require(not unknown, "options", f"{', '.join(sorted(_OPTIONS))}; not {', '.join(unknown)}")
    _bounds.takes_no(spec, "vm_image")
    disk = _bounds.disk(spec, offer, usual=DEFAULT_DISK_GB)
    _bounds.variables(spec.env, longest=LONGEST_VARIABLE, together=ALL_VARIABLES)
    env = dict(spec.env) | ({"PUBLIC_KEY": "\n".join(spec.ssh_keys)} if spec.ssh_keys else {})
    require(len(env) <= MOST_VARIABLES, "env", f"{MOST_VARIABLES} variables, PUBLIC_KEY included")
    http = ((int(port), "http") for port in spec.options.get("http_ports", ()))
    ports = dict.fromkeys(((22, "tcp"), *spec.ports, *http))
    _bounds.ports(ports, most=MOST_PORTS, protocols=("tcp", "http"))
    gpu: dict[str, Any] = {"id": offer.gpu.raw, "count": offer.gpu_count}
    if cuda := spec.options.get("min_cuda_version"):
        right = _VERSION.fullmatch(str(cuda)) is not None
        require(right, "min_cuda_version", "a version such as 12.4")
        gpu["minCudaVersion"] = str(cuda)
    body: dict[str, Any] = {
        "name": attempt.name,
        "image": spec.image or DEFAULT_IMAGE,
        "gpu": gpu,
        "cloud": offer.tier.upper(),
        "disk": disk,
        "args": _args(spec, now),
        "ports": [f"{port}/{protocol}" for port, protocol in ports],
        "env": env,
        "startSsh": bool(spec.ssh_keys),
    }
    if offer.region:
        body["dataCenterIds"] = [offer.region]
    if mounts := _mounts(spec):
        body["mounts"] = mounts
    if registry:
        body["registry"] = registry
    return body


def _mounts(spec: LaunchSpec) -> dict[str, Any]:
    """A network volume or a disk of the host's that outlives a stop."""
    require, gigabytes = _bounds.require, spec.options.get("persistent_gb")
    require(len(spec.volumes) <= 1, "volumes", "at most one")
    for volume, path in spec.volumes:
        require(path.startswith("/"), "volumes", "an absolute path")
        require(gigabytes is None, "persistent_gb", "either a persistent disk or a volume")
        return {"network": [{"volumeId": _bounds.plain_id(volume.id, "volumes"), "path": path}]}
    if gigabytes is None:
        return {}
    enough = int(gigabytes) >= SMALLEST_PERSISTENT_GB
    require(enough, "persistent_gb", f"at least {SMALLEST_PERSISTENT_GB} GB")
    return {"persistent": {"size": int(gigabytes), "path": WORKSPACE}}


def _args(spec: LaunchSpec, now: datetime) -> str:
    """In place of the image's own command, which the vendor's images are given back at the end."""
    own = (spec.image or DEFAULT_IMAGE).startswith(OWN_IMAGES)
    boot = container_boot(
        spec,
        limit=LONGEST_TEXT,
        seconds_left=seconds_left(spec, now),
        end=END,
        sessions_see_env=False,
        sshd="vendor" if own else "recipe",
        then=START if own else "exec tail -f /dev/null",
    )
    rule = f"{LONGEST_TEXT} bytes with all that starts the machine, compressed"
    _bounds.require(not boot.after, "startup_script", rule)
    return f"bash -c '{as_line(boot.text)}'"


def rent(pod: Mapping[str, Any], bid: Nanos | None, expires_at: datetime | None) -> dict[str, Any]:
    """The same as GraphQL takes it. `bid`: an hour of the whole machine; None on demand."""
    _bounds.require(bid is None or bid > 0, "bid", "more than nothing")
    gpu, mounts = pod["gpu"], pod.get("mounts", {})
    network, persistent = mounts.get("network", [{}])[0], mounts.get("persistent", {})
    wanted = {
        "name": pod["name"],
        "imageName": pod["image"],
        "gpuTypeId": gpu["id"],
        "gpuCount": gpu["count"],
        "minCudaVersion": gpu.get("minCudaVersion"),
        "cloudType": pod["cloud"],
        "dataCenterId": next(iter(pod.get("dataCenterIds", ())), None),
        "bidPerGpu": None if bid is None else usd(-(-bid // gpu["count"])),
        "containerDiskInGb": pod["disk"],
        "volumeInGb": persistent.get("size", 0),
        "networkVolumeId": network.get("volumeId"),
        "volumeMountPath": network.get("path") or persistent.get("path"),
        "containerRegistryAuthId": pod.get("registry"),
        "ports": ",".join(pod["ports"]),
        "dockerArgs": pod["args"],
        "env": [{"key": name, "value": value} for name, value in pod["env"].items()],
        "supportPublicIp": True,
        "startSsh": pod["startSsh"],
        "terminateAfter": rfc3339(expires_at) if expires_at else None,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def rfc3339(at: datetime) -> str:
    """As the vendor writes times: UTC, "Z", whole seconds."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# How machines are read


class RentedGpu(Struct, gc=False):
    """Which GPUs a machine has."""

    id: Word | None = None
    count: Count | None = None


class Way(Struct, gc=False):
    """One way in by SSH."""

    host: Word
    port: Count
    username: Word | None = None


class Ways(Struct, gc=False):
    """The vendor's proxy is left unread: it carries an interactive shell only."""

    direct: Way | None = None


class LivePort(Struct, gc=False):
    """Where a port of the container is reached."""

    private: Count | None = None
    public: Count | None = None
    type: Word | None = None
    ip: Word | None = None


class Runtime(Struct, gc=False):
    """Of a container that runs."""

    ports: tuple[LivePort, ...] | None = None


class Mounted(Struct, gc=False):
    """What is mounted, and outlives a stop."""

    persistent: Mapping[str, Any] | None = None


class Pod(Struct, rename="camel"):
    """One machine. Everything but the id may be missing; its variables are never read."""

    id: ToldWord
    status: Word | None = None
    name: Text | None = None
    image: Text | None = None
    disk: Amount | None = None
    ports: tuple[Word, ...] | None = None
    mounts: Mounted | None = None
    gpu: RentedGpu | None = None
    cloud: Word | None = None
    data_center_id: Word | None = None
    cuda_version: Word | None = None
    ssh: Ways | None = None
    cost: Usd | None = None
    """USD an hour of the whole machine, 0 where it is off."""
    locked: bool | None = None
    runtime: Runtime | None = None
    created_at: Moment | None = None
    started_at: Moment | None = None


_RAW = ("id", "status", "cloud", "data_center_id", "cuda_version", "locked")


state_of = partial(state_by, _STATES)


def instance_of(row: Pod, account: str) -> Instance:
    """A machine as the vendor tells it."""
    state = state_of(row)
    owner, attempt = whose(row.name)
    live = [one for one in (row.runtime and row.runtime.ports) or () if one.type != "http"]
    direct = {
        f"{one.private}/tcp": where
        for one in live
        if one.private and one.public and (where := at(one.ip, one.public))
    }
    web = [port for port in row.ports or () if port.endswith("/http")]
    on = state not in {State.STOPPED, State.TERMINATED}
    gpu, mounts = row.gpu or RentedGpu(), row.mounts or Mounted()
    return Instance(
        ref=Ref(NAME, account, "", row.id),
        owner=owner,
        attempt=attempt,
        name=row.name,
        state=state,
        raw_state=row.status or "-",
        healthy=state not in {State.FAILED, State.UNKNOWN},
        bills_compute=on,
        # A container's disk ends with it; a persistent one stays, and costs.
        bills_disk=on or (state is State.STOPPED and bool(mounts.persistent)),
        price=nanos(row.cost) if row.cost else None,
        gpu=gpu.id,
        gpu_count=gpu.count,
        image=row.image,
        disk_gb=row.disk,
        ssh=_ssh(row, direct) if state is State.RUNNING else None,
        ports=without_ssh(direct)
        | {port: f"https://{row.id}-{port.partition('/')[0]}.{PROXY}" for port in web if on},
        created_at=utc(row.created_at),
        raw=told(row, _RAW),
    )


def _ssh(row: Pod, direct: Mapping[str, str]) -> Endpoint | None:
    if row.ssh and (way := row.ssh.direct):
        return Endpoint(host=way.host, port=way.port, user=way.username or "root")
    return ssh_of(direct)


# How charges are read


class Charge(Struct, rename="camel"):
    """What one machine was charged in one hour."""

    start_time: Moment
    end_time: Moment
    pod_id: Word
    amount: SignedUsd = msgspec.field(name="totalAmount")
    gpu_amount: SignedUsd = 0.0
    cpu_amount: SignedUsd = 0.0
    disk_amount: SignedUsd = 0.0

    def lines(self) -> tuple[BillLine, ...]:
        """By kind, what cost nothing left out."""
        told = {"gpu": self.gpu_amount, "cpu": self.cpu_amount, "disk": self.disk_amount}
        since, until = utc(self.start_time), utc(self.end_time)
        return tuple(
            BillLine(item, signed_nanos(amount), since, until)
            for item, amount in told.items()
            if amount and since and until
        )


class ChargeCount(Struct, rename="camel"):
    """How many records the vendor says there are."""

    record_count: Count | None = None


class Charges(Struct):
    """The record of charges: it has no pages."""

    records: tuple[Charge, ...]
    metadata: ChargeCount | None = None


# Calls


class User(Struct, rename="camel"):
    """Whose key this is."""

    id: Word
    client_balance: SignedUsd | None = None


_MYSELF = "query Me { myself { id clientBalance } }"
_RENT = {
    name: f"mutation Rent($input: {kind}) {{ {name}(input: $input) {{ id }} }}"
    for name, kind in (
        ("podRentInterruptable", "PodRentInterruptableInput!"),
        ("podFindAndDeployOnDemand", "PodFindAndDeployOnDemandInput"),
    )
}
_ALL = {"includeClusterPods": "true"}
_PODS, _REGISTRIES = "/v2/pods", "/v2/registries"
NONE_ASKED = "none"
"""Id of the need of a launch that asks for no login."""


class RunPod(KeepsThings):
    """One account at RunPod: each call one question."""

    name = NAME
    display_name = "RunPod"
    website = "https://www.runpod.io/"
    console = "https://console.runpod.io/pods?id={id}"
    credentials = ("RUNPOD_API_KEY",)
    capabilities = CAPABILITIES
    base_url = "https://api.runpod.io"
    rules = RULES
    shown = SHOWN
    keyless = frozenset({"offers"})
    shelves = (
        Shelf(Resource.SECRET, _REGISTRIES, "registries"),
        Shelf(Resource.VOLUME, "/v2/network-volumes", "networkVolumes"),
    )

    @staticmethod
    def says_no(body: bytes) -> bool:
        """GraphQL tells its failures inside a 200."""
        return graphql.has_errors(body)

    async def uid(self, operation: str) -> str:
        """The user's id."""
        return (await self._me(operation)).id

    async def machines(self, operation: str) -> Whole[Instance]:
        """Those of clusters too; the list has neither pages nor filters."""
        pods = await self.ask_for(
            tuple[Pod, ...], operation, "GET", _PODS, under="pods", params=_ALL
        )
        told = {row.id: instance_of(row, self.account) for row in pods}
        return Whole(tuple(told.values()), complete=True)

    async def balance(self) -> Nanos:
        """What can be spent."""
        me = await self._me("balance")
        if me.client_balance is None:
            raise self.http.error(BadResponse, "balance", "an answer without `clientBalance`")
        return signed_nanos(me.client_balance)

    async def offers(self, query: Query) -> AsyncIterator[OfferPage]:
        """The whole market in one request; for one count, a second asks each data center."""
        read_options(query, NAME, {}, {})
        asked = overview(query)
        told, page = await self._market(asked, None)
        yield OfferPage(covered(told, asked), page.complete, page.rows, page.rejected)
        if near := closer(query, told):
            count = near[0].count
            covers = Query(tier=SECURE.lower(), min_count=count, max_count=count, strict=True)
            _, page = await self._market(near, covers)
            yield page

    async def ensure(
        self,
        what: Resource,
        spec: LaunchSpec,
        offer: Offer,
        attempt: Attempt,
        have: Mapping[Resource, Ref],
    ) -> Ref:
        """The login of a private image, under the attempt's name; nothing where none is asked."""
        if what is not Resource.SECRET:
            raise self.unsupported("ensure", what.value)
        login = spec.registry_auth
        if login is None:
            return self.ref(NONE_ASKED)
        of_all, under = tuple[Thing, ...], "registries"
        for stored in await self.ask_for(of_all, "find", "GET", _REGISTRIES, under=under):
            if stored.name == attempt.name:
                return self.ref(stored.id)
        body = {"name": attempt.name, "username": login.username, "password": login.password}
        hide = (login.username, login.password)
        made = await self.ask_for(Thing, "ensure", "POST", _REGISTRIES, body, hide=hide)
        return self.ref(made.id)

    async def release(self, what: Resource, ref: Ref) -> None:
        """WrongState while a machine uses it."""
        if what is not Resource.SECRET:
            raise self.unsupported("release", what.value)
        if ref.id != NONE_ASKED:
            await self.remove("release", what, ref)

    async def create(
        self, spec: LaunchSpec, offer: Offer, attempt: Attempt, have: Mapping[Resource, Ref]
    ) -> Ref:
        """One request. GraphQL for a bid, and for a host of the community.

        Such a host gives a public address, and so SSH, only where it is asked for: REST v2 cannot.
        """
        login = have.get(Resource.SECRET)
        registry = login.id if login and login.id != NONE_ASKED else None
        wanted = pod(spec, offer, attempt, now=self.http.clock.now(), registry=registry)
        hide = (*secrets_of(spec), wanted["args"])
        how, bid = "podFindAndDeployOnDemand", None
        if offer.market is Market.SPOT:
            how = "podRentInterruptable"
            bid = spec.bid if spec.bid is not None else offer.price.compute
        elif offer.tier.upper() != COMMUNITY:
            made = await self.ask_for(Thing, "create", "POST", _PODS, wanted, hide=hide)
            return self.ref(made.id)
        asked = {"input": rent(wanted, bid, spec.expires_at)}
        made = await graphql.query(self, "create", _RENT[how], Thing, asked, under=how, hide=hide)
        return self.ref(made.id)

    def ends_by_itself(self, spec: LaunchSpec, offer: Offer) -> datetime | None:
        """What GraphQL rents ends by the vendor too; no call that we know moves that."""
        by_vendor = offer.market is Market.SPOT or offer.tier.upper() == COMMUNITY
        return spec.expires_at if by_vendor else None

    async def get(self, ref: Ref) -> Instance:
        """NotFound where the vendor says so in its own words."""
        row = await self.ask_for(Pod, "get", "GET", _path(ref))
        return self.same(ref, instance_of(row, self.account))

    async def terminate(self, ref: Ref) -> None:
        """Ends the machine and its disks, a network volume excepted; gone already is fine."""
        with suppress(NotFound):
            await self.ask("terminate", "DELETE", _path(ref))

    async def stop(self, ref: Ref) -> None:
        """Wipes the container's disk and lets the GPUs go; a persistent disk goes on costing."""
        await self.ask("stop", "POST", f"{_path(ref)}/action", {"action": "stop"})

    async def start(self, ref: Ref) -> None:
        """On the host where it was: NoCapacity where its GPUs are let to somebody else."""
        await self.ask("start", "POST", f"{_path(ref)}/action", {"action": "start"})

    async def billing(self, ref: Ref, since: datetime, until: datetime | None) -> Bill:
        """The charges of this machine, hour by hour. Final only `billing_lag_s` after its end."""
        now = self.http.clock.now()
        params = {
            "startTime": rfc3339(since.replace(minute=0, second=0, microsecond=0)),
            "endTime": rfc3339((until or now) + timedelta(hours=1)),
            "bucketSize": "hour",
            "podId": _bounds.plain_id(ref.id, "ref"),
        }
        told = await self.ask_for(Charges, "billing", "GET", "/v2/billing/pods", params=params)
        ours = [charge for charge in told.records if charge.pod_id == ref.id]
        counted = told.metadata.record_count if told.metadata else None
        return bill_of(
            ours,
            until=until,
            now=now,
            lag_s=self.capabilities.billing_lag_s,
            complete=counted in (None, len(told.records)),
            evidence=f"pod {ref.id}: {len(ours)} hourly records",
        )

    async def _me(self, operation: str) -> User:
        return await graphql.query(self, operation, _MYSELF, User, under="myself")

    async def _market(self, asked: Sequence[Asked], covers: Query | None) -> tuple[Told, OfferPage]:
        body = document(asked)
        answer = await self.send("offers", "POST", graphql.PATH, body)
        if not answer.ok or graphql.data_of(answer.body) == b"null":
            raise self.refusal("offers", answer)
        told = read_market(answer.body, asked)
        rows, rejected = parse_offers(told, account=self.account, fetched_at=answer.asked_at)
        return told, OfferPage(covers, told.whole, rows, rejected)


def _path(ref: Ref) -> str:
    return f"{_PODS}/{_bounds.plain_id(ref.id, 'ref')}"
