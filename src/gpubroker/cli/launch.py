"""`launch`: the plan, the question, then the machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpubroker.cli import failures
from gpubroker.cli.launch_inputs import duration_flag, environment, port, public_key, tag
from gpubroker.cli.progress import Progress
from gpubroker.cli.search_flags import DOLLARS, Amount, Unknown, query_of, search_flags
from gpubroker.cli.session import Realm, Session
from gpubroker.cli.standing_flags import (
    gang_document,
    standing_flags,
    standing_lines,
    standing_of,
    waiting_words,
)
from gpubroker.cli.table import Column, table
from gpubroker.cli.words import clock_time, counted, ended_by, masked, money, price, span

if TYPE_CHECKING:
    from gpubroker.config import Defaults
    from gpubroker.fleet.requests import LaunchRequest, Plan
    from gpubroker.model.machine import Machine

PLAN_COLUMNS = (
    Column("PLAN", right=True),
    Column("OFFER"),
    Column("GPU"),
    Column("REGION", drop=2),
    Column("PRICE/H", right=True),
    Column("KIND"),
    Column("WHY", drop=1),
)
_TEXT_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("launch")
@search_flags
@click.option("--offer", "offers", multiple=True, metavar="ID", help="Exactly this offer.")
@click.option("--name", metavar="NAME", help="Yours for it; made up where none is given.")
@click.option("--image", metavar="REF", help="Container image.")
@click.option("--env", "env", multiple=True, metavar="K=V", help="Seen by the machine.")
@click.option("--env-file", multiple=True, type=_TEXT_FILE, help="K=V lines.")
@click.option("--port", "ports", multiple=True, metavar="8888/tcp", help="To publish.")
@click.option("--startup-script", type=_TEXT_FILE, help="Runs when the machine starts.")
@click.option(
    "--ssh-key", "ssh_keys", multiple=True, metavar="FILE|KEY", help="Public key; else yours."
)
@click.option("--disk", type=Amount(1, whole=True), metavar="GB", help="Disk of the machine.")
@click.option("--ttl", metavar="TIME", help="It ends by itself after this: 4h; 24h if not told.")
@click.option("--idle", metavar="TIME", help="It ends after so long without work: 30m.")
@click.option("--bid", type=DOLLARS, metavar="USD", help="Per hour, for spot machines.")
@click.option(
    "--max-price-increase", metavar="SHARE", help="0.1 or 10%: beyond that it is refused."
)
@click.option("--max-cost", type=DOLLARS, metavar="USD", help="The most it may cost in all.")
@click.option("--project", metavar="NAME", help="Whose spending it is: budgets go by it.")
@click.option("--tag", "tags", multiple=True, metavar="K=V", help="The same, by any key.")
@click.option("--tries", type=Amount(1, 50, whole=True), metavar="N", help="Offers at most.")
@standing_flags
@click.option("--wait/--no-wait", default=True, help="Default: until SSH answers.")
@click.option("--dry-run", is_flag=True, help="Show the plan, rent nothing.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--registry-auth", metavar="NAME", help="A login of gpubroker registry.")
@click.pass_obj
def launch_command(
    session: Session,
    /,
    offers: tuple[str, ...],
    wait: bool,
    dry_run: bool,
    yes: bool,
    **flags: Any,
) -> int:
    """Rent a machine: the best offer first, then the next, until one runs.

    Shows its plan and what it can cost at most, and asks before anything is rented.
    """
    from msgspec import structs

    from gpubroker.config import load

    session.load_gpu_models()
    defaults = load(session.home.config).defaults
    # An offer that is named is where it is.
    flags = _with_defaults(flags, structs.replace(defaults, regions=()) if offers else defaults)
    request, unknown = request_of(flags, offers, session.environ)
    realm = session.realm()
    return session.run(_launch(session, realm, request, unknown, wait, dry_run, yes))


async def _launch(
    session: Session,
    realm: Realm,
    request: LaunchRequest,
    unknown: tuple[Unknown, ...],
    wait: bool,
    dry_run: bool,
    yes: bool,
) -> int:
    from gpubroker import wire
    from gpubroker.fleet.errors import NoOfferMatches

    async with session.broker(realm, Progress(session)) as broker:
        if not dry_run and broker.due():
            for why in await broker.settle():
                session.say(f"warning: not done yet, tried again by the next command: {why}")
        try:
            plan = await broker.plan(request)
        except NoOfferMatches as error:
            raise (unknown[0] if unknown else error) from error
        if unknown and not plan.ranked:
            raise unknown[0]
        if dry_run:
            disk_gb = float(request.disk_gb or 0)
            session.show(
                lambda: wire.plan(plan, disk_gb=disk_gb),
                lambda: plan_lines(plan, request, session.width),
            )
            return failures.DONE if plan.ranked else failures.NO_OFFER
        for line in plan_lines(plan, request, session.width):
            session.say(line)
        if realm.url is None:
            most = f"Rent it for at most {money(plan.most)}?"
            if plan.unkept:
                most = f"{most[:-1]}, and see to its end yourself?"
            session.confirm(most if plan.ranked else "Rent it when it is for sale?", yes=yes)
        if request.nodes > 1:
            machines = await broker.launch_gang(request, plan=plan, wait=wait)
        else:
            machines = (await broker.launch(request, plan=plan, wait=wait),)
    now = session.now(realm)
    session.show(
        lambda: gang_document(machines) if request.nodes > 1 else wire.instance(machines[0]),
        lambda: (line for machine in machines for line in launched_lines(machine, now)),
    )
    return failures.DONE


def _with_defaults(flags: dict[str, Any], defaults: Defaults) -> dict[str, Any]:
    """Where no flag was given, what the configuration says."""
    increase = defaults.max_price_increase
    configured = {
        "ttl": defaults.ttl,
        "image": defaults.image,
        "disk": defaults.disk_gb,
        "max_price": defaults.max_price,
        "max_price_increase": None if increase is None else str(increase),
        "tries": defaults.tries,
        "region": defaults.regions,
        "project": defaults.project,
    }
    told = {name: value for name, value in flags.items() if value not in (None, ())}
    return {**flags, **configured, **told}


def request_of(
    flags: dict[str, Any], offers: tuple[str, ...], environ: Mapping[str, str]
) -> tuple[LaunchRequest, tuple[Unknown, ...]]:
    """The request that the flags make, every value checked before anything is asked."""
    from gpubroker.config import NO_EXPIRY
    from gpubroker.fleet.requests import (
        DEFAULT_TOLERANCE,
        DEFAULT_TRIES,
        DEFAULT_TTL,
        LaunchRequest,
    )
    from gpubroker.model.money import nanos
    from gpubroker.remote.keys import user_keys

    keys = tuple(_offer_key(text) for text in offers)
    more: dict[str, Any] = {"keys": tuple(key for _, key in keys)}
    if flags["disk"] is not None:
        more["disk_gb"] = float(flags["disk"])
    if keys:
        flags = flags | {"provider": (*flags["provider"], *(name for name, _ in keys))}
    query, unknown = query_of(flags, **more)
    standing = standing_of(flags)
    no_expiry = flags["ttl"] == NO_EXPIRY
    ttl: timedelta | None = None
    if not no_expiry:
        ttl = duration_flag(flags["ttl"], "--ttl") if flags["ttl"] else DEFAULT_TTL
    increase = flags["max_price_increase"]
    script: Path | None = flags["startup_script"]
    request = LaunchRequest(
        query=query,
        name=flags["name"],
        image=flags["image"],
        env=environment(flags["env"], flags["env_file"]),
        ports=tuple(port(text) for text in flags["ports"]),
        startup_script=script.read_text() if script else "",
        registry_auth=flags["registry_auth"],
        ssh_keys=tuple(public_key(text) for text in flags["ssh_keys"]) or user_keys(environ),
        disk_gb=flags["disk"],
        ttl=ttl,
        no_expiry=no_expiry,
        idle=duration_flag(flags["idle"], "--idle") if flags["idle"] else None,
        bid=None if flags["bid"] is None else nanos(flags["bid"]),
        max_price_increase=DEFAULT_TOLERANCE if increase is None else _share(increase),
        tries=flags["tries"] or DEFAULT_TRIES,
        max_cost=None if flags["max_cost"] is None else nanos(flags["max_cost"]),
        project=flags["project"] or "",
        tags=dict(tag(text) for text in flags["tags"]),
        **standing,
    )
    return request, unknown


def _offer_key(text: str) -> tuple[str, str]:
    from gpubroker.catalog.clouds import parse_offer_id

    try:
        return parse_offer_id(text)
    except ValueError as error:
        raise click.UsageError(f"--offer {error}") from None


def _share(text: str) -> float:
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 10:  # noqa: PLR2004 - eleven times the price is no increase any more
        raise click.UsageError(f'--max-price-increase "{text}": expected 0.1 or 10%')
    return share


def plan_lines(plan: Plan, request: LaunchRequest, width: int | None) -> Iterator[str]:
    """What will be tried in which order, the most it can cost, and how it ends."""
    if not plan.ranked:
        yield "  None of the matching offers can be tried now:"
    rows = [
        [
            f"{place}.",
            planned.offer_id,
            f"{planned.offer.gpu_count}x {planned.offer.gpu.label}",
            planned.offer.region or planned.offer.area,
            price(planned.price),
            planned.offer.market.replace("_", "-"),
            planned.reason,
        ]
        for place, planned in enumerate(plan.ranked, 1)
    ]
    if rows:
        yield from table(PLAN_COLUMNS, rows, width)
    for which, why in plan.left_out:
        yield f"  left out: {which} ({why})"
    if request.env:
        yield f"  With: {masked(request.env)}"
    if request.ttl is None:
        yield "  It runs, and costs, until you end it: no expiry was asked for."
    elif plan.ranked:
        lasts = span(request.ttl.total_seconds())
        yield f"  At most {money(plan.most)} for {lasts}; then {_ender(plan)} ends it."
        if plan.unkept:
            yield (
                f"  Nothing ends it at {' and '.join(plan.unkept)} unless gpubroker runs then, and "
                "no keeper runs. To have one: gpubroker keeper install"
            )
    yield from _ways_in(plan, request)
    if request.idle is not None and not plan.kept_by:
        yield "  Idle machines are ended by a keeper, and none runs: gpubroker keeper install"
    yield from standing_lines(request)


def _ways_in(plan: Plan, request: LaunchRequest) -> Iterator[str]:
    """What is otherwise at clouds where gpubroker does not log in."""
    from gpubroker.catalog.clouds import way_in

    for name in dict.fromkeys(planned.offer.provider for planned in plan.ranked):
        if other := way_in(name):
            yield f"  At {name}: {other}."
            if request.ports:
                yield f"  At {name} a port is published for HTTP alone, at an HTTPS address."
            if request.idle is not None:
                yield f"  At {name} nothing sees whether a machine is idle: its expiry ends it."


def _ender(plan: Plan) -> str:
    """What ends the machine at its expiry, at each cloud of the plan."""
    by_us = f"the keeper on {plan.kept_by[0]}" if plan.kept_by else "the next gpubroker command"
    words = {
        name: by_us if by == "controller_only" else ended_by(by)
        for name, by in plan.ended_by.items()
    }
    if len(set(words.values())) <= 1:
        return next(iter(words.values()), by_us)
    return ", or ".join(f"{word} ({name})" for name, word in words.items())


def launched_lines(machine: Machine, now: datetime) -> Iterator[str]:
    """That it runs, what it costs, when it ends, and what to type next."""
    if waiting := waiting_words(machine, now):
        yield f"{machine.name} is {waiting}"
        yield f"    gpubroker ps goes on with it        gpubroker terminate {machine.name}"
        return
    hourly = machine.price if machine.reported_price is None else machine.reported_price
    ends = f", ends {clock_time(machine.expires_at, now)}" if machine.expires_at else ", no expiry"
    missed = len([one for one in machine.tries if one.outcome in {"refused", "failed"}])
    after = f" (after {counted(missed, 'offer')} that could not be had)" if missed else ""
    ready = machine.phase == "ready"
    state = "running" if ready else machine.phase
    yield f"{machine.name} is {state}: {price(hourly)}/h{ends}{after}"
    verb = "ssh" if ready and machine.ssh is not None else "show"
    yield f"    gpubroker {verb} {machine.name}        gpubroker terminate {machine.name}"
