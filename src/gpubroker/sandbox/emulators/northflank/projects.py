"""Northflank's projects: each is in one region, and holds everything else."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator
from gpubroker.sandbox.emulators.northflank.bodies import NewProject
from gpubroker.sandbox.emulators.northflank.catalog import sheet
from gpubroker.sandbox.emulators.northflank.words import (
    PAGING,
    check_query,
    data,
    flag,
    invalid,
    moment,
    no_body,
    not_found,
    page_of,
    read_body,
    refusal,
    slug,
    unused,
)
from gpubroker.sandbox.rented import Machine, Thing

KIND, VOLUME = "project", "volume"


def projects_of(cloud: Cloud, account: str) -> list[Thing]:
    """The account's, oldest first."""
    return cloud.live_things(account, KIND)


def the_project(cloud: Cloud, call: Call) -> Thing:
    """The one that the path names; raises the 404."""
    for project in projects_of(cloud, call.owner.name):
        if project.wire["id"] == call.ids[0]:
            return project
    raise not_found("Project")


def services_of(cloud: Cloud, project: Thing) -> list[Machine]:
    """The project's, oldest first."""
    return [
        machine
        for machine in cloud.owned(project.account)
        if not machine.ended and machine.wire["project"] == project.id
    ]


def volumes_of(cloud: Cloud, project: Thing) -> list[Thing]:
    """The project's, oldest first."""
    volumes = cloud.live_things(project.account, VOLUME)
    return [volume for volume in volumes if volume.wire["project"] == project.id]


def app_id(project: Thing, service: Machine) -> str:
    """The whole path of a service."""
    return f"/{team_of(project.account)}/{project.wire['id']}/{service.wire['id']}"


def team_of(account: str) -> str:
    """Whose token it is."""
    return account.replace("acct", "team")


def cluster_json(project: Thing) -> dict[str, Any]:
    """Whose computers it runs on: the vendor's."""
    name = f"nf-{project.wire['region']}"
    return {"id": name, "name": name, "loadBalancers": []}


def _short_json(project: Thing) -> dict[str, Any]:
    return {
        "id": project.wire["id"],
        "uid": project.wire["uid"],
        "name": project.name,
        "description": project.wire["description"],
        "lifecycleStatus": "created",
    }


async def create(api: Emulator, call: Call) -> Response:
    """POST projects."""
    body = read_body(call, NewProject)
    cloud, account = api.cloud, call.owner.name
    if body.region not in {region.id for region in sheet().regions}:
        raise invalid("Invalid request", {"body": ["region is not available"]})
    id_ = slug(body.name)
    if any(project.wire["id"] == id_ for project in projects_of(cloud, account)):
        raise refusal(409, "There is already a project with the same derived identifier")
    taken = {key for kind, key in cloud.things if kind == KIND}
    project = cloud.add_thing(
        account,
        KIND,
        named=lambda _: unused(id_, taken),
        name=body.name,
        description=body.description or "",
        region=body.region,
    )
    project.wire |= {"id": id_, "uid": f"{cloud.number('uid', 0x1000):024x}"}
    cloud.save(project)
    told = {name: value for name, value in _short_json(project).items() if name != "uid"} | {
        "region": body.region,
        "createdAt": moment(project.created_at),
        "updatedAt": moment(project.created_at),
    }
    return data(told)


async def list_all(api: Emulator, call: Call) -> Response:
    """GET projects: without their regions."""
    check_query(call, PAGING)
    rows = [_short_json(project) for project in projects_of(api.cloud, call.owner.name)]
    shown, pagination = page_of(api, call, rows)
    return data({"projects": shown}, pagination=pagination)


async def show(api: Emulator, call: Call) -> Response:
    """GET projects/{id}: where the region is."""
    check_query(call)
    project = the_project(api.cloud, call)
    region = project.wire["region"]
    services = [
        {
            "id": service.wire["id"],
            "uid": service.wire["uid"],
            "appId": app_id(project, service),
            "name": service.order.name,
            "description": service.wire["record"]["description"],
            "serviceType": "deployment",
        }
        for service in services_of(api.cloud, project)
    ]
    return data(
        _short_json(project)
        | {
            "deployment": {"region": region},
            "createdAt": moment(project.created_at),
            "services": services,
            "jobs": [],
            "addons": [],
            "cluster": cluster_json(project),
        }
    )


async def delete(api: Emulator, call: Call) -> Response:
    """DELETE projects/{id}: 409 while something is in it, unless that is to go too."""
    told = no_body(call, ("delete_child_objects",))
    cloud, project = api.cloud, the_project(api.cloud, call)
    services, volumes = services_of(cloud, project), volumes_of(cloud, project)
    if (services or volumes) and not flag(told, "delete_child_objects"):
        raise refusal(409, "The project has dependencies that have not been deleted")
    for service in services:
        await cloud.terminate(service)
    for volume in volumes:
        cloud.end_thing(volume)
    cloud.end_thing(project)
    return data({})
