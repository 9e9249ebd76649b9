"""Northflank's calls: the body of a create, each refusal, each state, each bound."""

from __future__ import annotations

import base64
import json
import shlex
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.providers.scripted import START, ManualClock, Scripted, connected

from gpubroker.catalog.clouds import way_in
from gpubroker.model.errors import (
    AuthFailed,
    BadResponse,
    BrokerError,
    Invalid,
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
from gpubroker.model.launch import LaunchSpec, RegistryAuth
from gpubroker.model.offer import Offer
from gpubroker.model.terms import Expiry, Resource, State
from gpubroker.providers.northflank import (
    LONGEST_TEXT,
    LOOK_AGAIN_S,
    MOST_LOOKS,
    USUAL_PAGE,
    Northflank,
    service,
)
from gpubroker.providers.northflank_market import parse_offers

FIXTURES = Path(__file__).parent / "fixtures" / "northflank"
ATTEMPT = Attempt("abcdef", "abcdefghijklmnop", "launch")
PROJECT = "gb-abcdef-us-central"
PATH = f"/v1/projects/{PROJECT}"
ITSELF = f"{PATH}/services/{ATTEMPT.name}"
REF = Ref("northflank", "default", "", f"{PROJECT}/{ATTEMPT.name}")
HAVE = {Resource.NAMESPACE: Ref("northflank", "default", "", PROJECT)}
INCOMPRESSIBLE = "".join(sha256(str(n).encode()).hexdigest() for n in range(LONGEST_TEXT // 30))


def answer(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_bytes())


def spec(**change: Any) -> LaunchSpec:
    return LaunchSpec(**({"expires_at": None} | change))


@pytest.fixture
def offer() -> Offer:
    regions, plans = ((FIXTURES / f"{name}.json").read_bytes() for name in ("regions", "plans"))
    return parse_offers(regions, plans, account="default", fetched_at=datetime.now(UTC))[0][0]


@pytest.fixture
def north(scripted: Scripted) -> Northflank:
    return connected(Northflank, scripted)


def script_of(body: dict[str, Any]) -> str:
    """What its container runs, read as the platform reads words."""
    docker = body["deployment"]["docker"]
    assert docker["configType"] == "customEntrypointCustomCommand"
    assert docker["customEntrypoint"] == "/bin/sh -c"
    line, _, *coded = shlex.split(docker["customCommand"])
    assert "base64 -d" in line
    return base64.b64decode("".join(coded)).decode()


def test_the_smallest_create(offer: Offer) -> None:
    body = service(spec(), offer, ATTEMPT, None)
    assert script_of(body).endswith("exec tail -f /dev/null\n")
    del body["deployment"]["docker"]
    assert body == {
        "name": ATTEMPT.name,
        "billing": {"deploymentPlan": "nf-gpu-h100-80-1g"},
        "deployment": {
            "instances": 1,
            "external": {"imagePath": "docker.io/pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime"},
            "gpu": {"enabled": True, "configuration": {"gpuType": "h100-80", "gpuCount": 1}},
        },
    }


def test_a_create_with_everything(offer: Offer) -> None:
    wanted = spec(
        image="ghcr.io/me/train:1",
        env={"TOKEN": "t0ken"},
        startup_script="echo 'up'\n",
        command="python train.py",
        ports=((8888, "tcp"), (65535, "tcp")),
        disk_gb=100,
    )
    body = service(wanted, offer, ATTEMPT, 3600.9)
    assert body["deployment"]["external"] == {"imagePath": "ghcr.io/me/train:1"}
    assert body["deployment"]["storage"] == {"ephemeralStorage": {"storageSize": 102_400}}
    assert body["runtimeEnvironment"] == {"TOKEN": "t0ken"}
    assert body["createOptions"] == {"expiryTime": 3600}
    assert body["ports"] == [
        {"name": "p8888", "internalPort": 8888, "public": True, "protocol": "HTTP"},
        {"name": "p65535", "internalPort": 65535, "public": True, "protocol": "HTTP"},
    ]
    assert "python train.py" in script_of(body)
    assert "echo" in script_of(body)


def test_an_expiry_that_is_near_is_the_shortest_there_is(offer: Offer) -> None:
    assert service(spec(), offer, ATTEMPT, 60.0)["createOptions"] == {"expiryTime": 300}


@pytest.mark.parametrize(
    ("change", "left_s", "field"),
    [
        ({"ports": ((53, "udp"),)}, None, "ports"),
        ({"env": {"LINES": "a\nb"}}, None, "env"),
        ({"vm_image": "ubuntu"}, None, "vm_image"),
        ({"volumes": ((REF, "/data"),)}, None, "volumes"),
        ({"registry_auth": RegistryAuth("r", "ghcr.io", "me", "p4ss")}, None, "registry_auth"),
        ({"disk_gb": 0}, None, "disk_gb"),
        ({"startup_script": INCOMPRESSIBLE}, None, "startup_script"),
        ({"options": {"spot": True}}, None, "options"),
        ({}, 604_801.0, "expires_at"),
    ],
)
def test_what_the_cloud_does_not_take_is_refused_by_its_field(
    offer: Offer, change: dict[str, Any], left_s: float | None, field: str
) -> None:
    with pytest.raises(Invalid) as refused:
        service(spec(**change), offer, ATTEMPT, left_s)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("operation", "status", "message", "error"),
    [
        ("create", 401, "Invalid token", AuthFailed),
        ("create", 403, "Role lacks permission", AuthFailed),
        ("create", 403, "GPU deployments are disabled due to insufficient credits.", OutOfFunds),
        ("create", 400, "The GPU quota of your account is reached.", QuotaExceeded),
        ("create", 400, "Unable to verify external image", Invalid),
        ("create", 404, "Project not found", NotFound),
        ("create", 409, "The project is being deleted", WrongState),
        ("create", 429, "Too many requests", RateLimited),
        ("create", 500, "Internal error", OutcomeUnknown),
        ("create", 500, "Please purchase credits", OutcomeUnknown),
        ("get", 503, "Purchase credits", Unavailable),
        ("start", 402, "Insufficient credits", OutOfFunds),
        ("get", 404, "Service not found", NotFound),
        ("get", 404, f"Route GET:/v1/projects/p/services/{ATTEMPT.name} not found", BadResponse),
        ("terminate", 404, f"Cannot DELETE /v1/projects/p/services/{ATTEMPT.name}", OutcomeUnknown),
        ("get", 404, "Route not found", BadResponse),
        ("start", 409, "The service is not paused", WrongState),
        ("terminate", 404, "Not found", OutcomeUnknown),
    ],
)
async def test_each_refusal_is_what_it_means(
    scripted: Scripted, north: Northflank, offer: Offer, operation: str, status: int, message: str,
    error: type[BrokerError],
) -> None:  # fmt: skip
    body = {"error": {"status": status, "message": message, "details": {}}}
    call = {"create": f"POST {PATH}/services/deployment", "get": f"GET {ITSELF}"}
    call |= {"start": f"POST {ITSELF}/resume", "terminate": f"DELETE {ITSELF}"}
    scripted.says(call[operation], body, status=status)
    with pytest.raises(error) as raised:
        if operation == "create":
            await north.create(spec(env={"A": "s3cr3t-0f-mine"}), offer, ATTEMPT, HAVE)
        else:
            await getattr(north, operation)(REF)
    assert type(raised.value) is error
    assert "s3cr3t" not in str(raised.value)


async def test_a_name_that_is_taken_is_the_attempts_own_service(
    scripted: Scripted, north: Northflank, offer: Offer
) -> None:
    scripted.says(f"POST {PATH}/services/deployment", answer("taken"), status=409)
    assert await north.create(spec(), offer, ATTEMPT, HAVE) == REF
    assert len(scripted.requests) == 1


@pytest.mark.parametrize(
    ("word", "paused", "containers", "state", "bills"),
    [
        ("PENDING", False, (), State.PENDING, False),
        ("IN_PROGRESS", False, ("TASK_STAGING",), State.PENDING, True),
        ("IN_PROGRESS", False, ("TASK_STARTING",), State.PENDING, True),
        ("COMPLETED", False, ("TASK_RUNNING",), State.RUNNING, True),
        ("COMPLETED", False, ("TASK_FAILED", "TASK_KILLED"), State.PENDING, True),
        ("COMPLETED", False, ("TASK_DREAMING",), State.PENDING, True),
        ("COMPLETED", True, ("TASK_FAILED", "TASK_KILLED"), State.STOPPED, False),
        ("COMPLETED", False, ("TASK_FINISHED",), State.PENDING, False),
        ("FAILED", False, (), State.FAILED, False),
        ("COMPLETED", True, ("TASK_KILLING",), State.STOPPING, True),
        ("COMPLETED", True, (), State.STOPPED, False),
        ("DREAMING", False, (), State.UNKNOWN, False),
        (None, False, (), State.PENDING, False),
    ],
)
async def test_states(
    scripted: Scripted, north: Northflank, word: str | None, paused: bool,
    containers: tuple[str, ...], state: State, bills: bool,
) -> None:  # fmt: skip
    told = answer("running")
    told["data"]["servicePaused"] = paused
    told["data"]["status"] = {"deployment": {"status": word}} if word else {}
    rows = [{"name": f"c{n}", "status": status} for n, status in enumerate(containers)]
    scripted.says(f"GET {ITSELF}", told)
    scripted.says(f"GET {ITSELF}/containers", {"data": {"containers": rows}})
    machine = await north.get(REF)
    assert (machine.state, machine.bills_compute, machine.bills_disk) == (state, bills, False)
    assert machine.healthy == (state not in {State.FAILED, State.UNKNOWN})


async def test_another_service_in_the_answer_is_a_bad_one(
    scripted: Scripted, north: Northflank
) -> None:
    told = answer("running")
    told["data"]["id"] = "another"
    scripted.says(f"GET {ITSELF}", told).says(f"GET {ITSELF}/containers", answer("containers"))
    with pytest.raises(BadResponse):
        await north.get(REF)


async def test_the_project_of_the_region_is_made_once(
    scripted: Scripted, north: Northflank, offer: Offer
) -> None:
    scripted.says("GET /v1/projects", answer("no-projects")).says(
        "POST /v1/projects", answer("project")
    )
    first = await north.ensure(Resource.NAMESPACE, spec(), offer, ATTEMPT, {})
    assert scripted.body() == {"name": PROJECT, "region": "us-central"}
    scripted.says("GET /v1/projects", answer("projects")).says(f"GET {PATH}", answer("project"))
    assert await north.ensure(Resource.NAMESPACE, spec(), offer, ATTEMPT, {}) == first
    elsewhere = {"data": {"id": PROJECT, "region": "us-west"}}
    scripted.says(f"GET {PATH}", elsewhere)
    with pytest.raises(Refused) as refused:
        await north.ensure(Resource.NAMESPACE, spec(), offer, ATTEMPT, {})
    assert refused.value.code == "name_taken"
    scripted.says("GET /v1/projects", answer("no-projects"))
    scripted.says("POST /v1/projects", answer("taken"), status=409)
    with pytest.raises(Unavailable):
        await north.ensure(Resource.NAMESPACE, spec(), offer, ATTEMPT, {})


async def test_a_list_follows_all_pages_of_all_projects(
    scripted: Scripted, north: Northflank
) -> None:
    more = {"hasNextPage": True, "cursor": "c2", "count": 1}
    first = answer("projects") | {"pagination": more}
    second = {"data": {"projects": [{"id": "mine", "name": "mine"}]}}
    scripted.says("GET /v1/projects", first, second).says("GET /v1/auth", answer("auth"))
    scripted.says(f"GET {PATH}/services", answer("services"))
    scripted.says("GET /v1/projects/mine/services", {"data": {"services": []}})
    scripted.says(f"GET {ITSELF}", answer("running"))
    scripted.says(f"GET {ITSELF}/containers", answer("containers"))
    listing = await north.list("")
    assert listing.complete
    assert [machine.owner for machine in listing.instances] == ["abcdef", None]
    assert scripted.requests[2].url.params["cursor"] == "c2"


@pytest.mark.parametrize("path", ["/v1/projects", f"{PATH}/services"])
async def test_a_page_without_its_rows_is_no_empty_list(
    scripted: Scripted, north: Northflank, path: str
) -> None:
    scripted.says("GET /v1/auth", answer("auth")).says("GET /v1/projects", answer("projects"))
    scripted.says(f"GET {path}", {"data": {}})
    with pytest.raises(BadResponse):
        await north.list("")


async def test_a_terminate_takes_what_was_made_with_it(
    scripted: Scripted, north: Northflank
) -> None:
    scripted.says(f"DELETE {ITSELF}", answer("done"))
    await north.terminate(REF)
    assert dict(scripted.requests[-1].url.params) == {"delete_child_objects": "true"}


async def test_a_pause_has_no_body_and_a_resume_one_instance(
    scripted: Scripted, north: Northflank
) -> None:
    scripted.says(f"POST {ITSELF}/pause", answer("done"))
    scripted.says(f"POST {ITSELF}/resume", answer("done"))
    await north.stop(REF)
    assert scripted.requests[-1].content == b""
    await north.start(REF)
    assert scripted.body() == {"instances": 1}


async def test_charges_are_read_hour_by_hour_and_final_once_they_can_be(
    scripted: Scripted,
) -> None:
    clock = ManualClock()
    north = connected(Northflank, scripted, clock=clock)
    since = START - timedelta(minutes=90)
    for hour in (START - timedelta(hours=2), START - timedelta(hours=1)):
        scripted.says(f"GET /v1/billing/usage/{int(hour.timestamp())}", answer("usage"))
    early = await north.billing(REF, since, START)
    assert (early.status, early.amount) == ("pending", 5_510_000_000)
    clock.at += timedelta(hours=3)
    bill = await north.billing(REF, since, START)
    assert (bill.status, bill.amount) == ("ended", 5_510_000_000)
    assert {line.item for line in bill.lines} == {"gpu", "storage"}
    assert scripted.requests[0].url.params["projectId"] == PROJECT


async def test_older_servers_call_the_usage_otherwise(scripted: Scripted) -> None:
    told = answer("usage")
    told["data"]["paasUsage"] = told["data"].pop("paas")
    scripted.says(f"GET /v1/billing/usage/{int(START.timestamp())}", told)
    north = connected(Northflank, scripted)
    bill = await north.billing(REF, START, START + timedelta(minutes=5))
    assert bill.amount == 2_755_000_000


async def test_the_owners_projects_are_what_a_sweep_finds_and_ends(
    scripted: Scripted, north: Northflank
) -> None:
    scripted.says("GET /v1/auth", answer("auth")).says("GET /v1/projects", answer("projects"))
    holdings = await north.resources("")
    (one,) = holdings.resources
    assert (one.what, one.owner, one.attempt) == (Resource.NAMESPACE, "abcdef", None)
    scripted.says(f"DELETE {PATH}", answer("done"))
    await north.discard(Resource.NAMESPACE, one.ref)
    not_empty = {"error": {"status": 409, "message": "The project is not empty"}}
    scripted.says(f"DELETE {PATH}", not_empty, status=409)
    with pytest.raises(WrongState):
        await north.discard(Resource.NAMESPACE, one.ref)


def test_the_cloud_ends_it_at_its_expiry(north: Northflank, offer: Offer) -> None:
    assert Northflank.capabilities.expiry is Expiry.PROVIDER
    at = START + timedelta(hours=1)
    assert north.ends_by_itself(spec(expires_at=at), offer) == at


def test_where_gpubroker_does_not_log_in_the_way_in_is_told() -> None:
    assert not Northflank.capabilities.logs_in
    told = way_in("northflank", REF.id)
    assert f"--projectId {PROJECT} --serviceId {ATTEMPT.name}`" in told


class Many:
    """Six of our services in one project, which run unless they are paused."""

    def __init__(self, scripted: Scripted) -> None:
        self.scripted, self.clock = scripted, ManualClock()
        self.north = connected(Northflank, scripted, clock=self.clock)
        self.paused: set[int] = set()
        scripted.says("GET /v1/auth", answer("auth")).says("GET /v1/projects", answer("projects"))
        self.tell()

    def tell(self, changed_at: str | None = "2026-01-20T11:22:16Z", first: str = "") -> None:
        """`first`: when the first one changed, where that is another time."""
        rows = []
        for number, letter in enumerate("abcdef"):
            at = first if first and not number else changed_at
            deployment = {"status": "COMPLETED"} | ({"lastTransitionTime": at} if at else {})
            name = f"gb-abcdef-{letter * 16}"
            rows.append({"id": name, "name": name, "status": {"deployment": deployment}})
        self.scripted.says(f"GET {PATH}/services", {"data": {"services": rows}})
        for number, row in enumerate(rows):
            off = number in self.paused
            path = f"GET {PATH}/services/{row['id']}"
            self.scripted.says(path, {"data": row | {"servicePaused": off}})
            there = [] if off else [{"status": "TASK_RUNNING"}]
            self.scripted.says(f"{path}/containers", {"data": {"containers": there}})

    async def seen(self) -> tuple[int, int]:
        """(how many are told to be stopped, how many were looked at)."""
        before = len(self.scripted.requests)
        listing = await self.north.list("")
        assert len(listing.instances) == 6
        stopped = sum(one.state is State.STOPPED for one in listing.instances)
        return stopped, (len(self.scripted.requests) - before - 3) // 2


async def test_a_list_looks_at_what_changed_and_takes_the_rest_as_it_was_seen(
    scripted: Scripted,
) -> None:
    many = Many(scripted)
    assert await many.seen() == (0, MOST_LOOKS)
    assert await many.seen() == (0, 6 - MOST_LOOKS)
    assert await many.seen() == (0, 0)
    many.tell(first="2026-01-20T12:00:00Z")
    assert await many.seen() == (0, 1)
    many.clock.at += timedelta(seconds=LOOK_AGAIN_S)
    assert await many.seen() == (0, MOST_LOOKS)


async def test_that_a_machine_costs_nothing_is_never_taken_from_memory(
    scripted: Scripted,
) -> None:
    many = Many(scripted)
    many.paused = {0, 1}
    many.tell()
    assert await many.seen() == (2, MOST_LOOKS)
    assert await many.seen() == (2, MOST_LOOKS)
    assert await many.seen() == (2, 2)
    many.paused = {1}
    many.tell()
    assert await many.seen() == (1, 2)


async def test_where_a_list_does_not_tell_the_change_nothing_is_taken_from_memory(
    scripted: Scripted,
) -> None:
    many = Many(scripted)
    many.tell(changed_at=None)
    for _ in range(3):
        assert (await many.seen())[1] == MOST_LOOKS


# What a token sees


@pytest.mark.parametrize(
    ("told", "complete"),
    [
        ({}, True),
        ({"scope": "role"}, True),
        ({"scope": "own-project"}, False),
        ({"projectRestrictions": {"enabled": False, "projects": []}}, True),
        ({"projectRestrictions": {"enabled": True, "projects": ["x"]}}, False),
    ],
    ids=str,
)
async def test_a_token_that_is_narrowed_has_no_complete_list(
    scripted: Scripted, north: Northflank, told: dict[str, Any], complete: bool
) -> None:
    scripted.says("GET /v1/auth", {"data": answer("auth")["data"] | told})
    scripted.says("GET /v1/projects", answer("no-projects"))
    listing = await north.list("")
    assert (listing.instances, listing.complete) == ((), complete)
    assert (await north.resources("")).complete is complete


@pytest.mark.parametrize(
    ("projects", "narrowed", "gone"),
    [("no-projects", False, True), ("no-projects", True, False), ("projects", False, False)],
)
async def test_a_project_that_is_not_told_is_gone_only_where_the_token_sees_all(
    scripted: Scripted, north: Northflank, projects: str, narrowed: bool, gone: bool
) -> None:
    token = answer("auth")["data"] | {"projectRestrictions": {"enabled": narrowed}}
    scripted.says("GET /v1/auth", {"data": token}).says("GET /v1/projects", answer(projects))
    body = {"error": {"status": 404, "message": "Project not found"}}
    scripted.says(f"GET {ITSELF}", body, status=404).says(f"DELETE {ITSELF}", body, status=404)
    with pytest.raises(NotFound if gone else BadResponse):
        await north.get(REF)
    if gone:
        await north.terminate(REF)
    else:
        with pytest.raises(OutcomeUnknown):
            await north.terminate(REF)


# What must not be believed


@pytest.mark.parametrize(("field", "value"), [("projectId", "another"), ("id", "a/b")])
async def test_a_create_that_answers_with_another_service_is_unknown(
    scripted: Scripted, north: Northflank, offer: Offer, field: str, value: str
) -> None:
    made = answer("made")
    made["data"][field] = value
    scripted.says(f"POST {PATH}/services/deployment", made)
    with pytest.raises(OutcomeUnknown):
        await north.create(spec(), offer, ATTEMPT, HAVE)


async def test_a_service_of_another_project_is_a_bad_answer(
    scripted: Scripted, north: Northflank
) -> None:
    told = answer("running")
    told["data"]["projectId"] = "another"
    scripted.says(f"GET {ITSELF}", told)
    with pytest.raises(BadResponse):
        await north.get(REF)


async def test_a_service_that_is_charged_twice_in_an_hour_has_no_bill(
    scripted: Scripted, north: Northflank
) -> None:
    told = answer("usage")
    told["data"]["paas"]["teams"] *= 2
    scripted.says(f"GET /v1/billing/usage/{int(START.timestamp())}", told)
    with pytest.raises(BadResponse):
        await north.billing(REF, START, START + timedelta(minutes=5))


async def test_a_full_page_of_charges_is_not_the_last_one(
    scripted: Scripted, north: Northflank
) -> None:
    told, full = answer("usage"), answer("usage")
    (kind,) = full["data"]["paas"]["teams"][0]["projects"][0]["resourceTypes"]
    kind["resources"] = [{"id": f"s{n}", "price": {"total": 1}} for n in range(USUAL_PAGE)]
    scripted.says(f"GET /v1/billing/usage/{int(START.timestamp())}", full, told)
    bill = await north.billing(REF, START, START + timedelta(minutes=5))
    assert bill.amount == 2_755_000_000
    assert scripted.requests[-1].url.params["resourcesPage"] == "2"
    scripted.says(f"GET /v1/billing/usage/{int(START.timestamp())}", full)
    bill = await north.billing(REF, START, START + timedelta(minutes=5))
    assert bill.amount in {None, 0}


async def test_times_that_not_every_zone_knows_are_none(
    scripted: Scripted, north: Northflank
) -> None:
    told = answer("running")
    told["data"] |= {
        "createdAt": "0001-01-01T00:00:00+23:59",
        "expiryTime": "9999-12-31T23:59:59-23:59",
    }
    scripted.says(f"GET {ITSELF}", told).says(f"GET {ITSELF}/containers", answer("containers"))
    machine = await north.get(REF)
    assert (machine.created_at, machine.expires_at) == (None, None)


def test_searches_count_among_the_accounts_calls() -> None:
    (hour,) = (one for one in Northflank.capabilities.limits if one.bucket == "hour")
    assert "offers" in hour.operations
