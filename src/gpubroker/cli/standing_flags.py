"""Flags of `launch` that go on after the first plan: trying, gangs, spot, what is not as asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from gpubroker.cli.launch_inputs import duration_flag
from gpubroker.cli.search_flags import Amount
from gpubroker.cli.words import clock_time, counted, span

if TYPE_CHECKING:
    from gpubroker.fleet.requests import LaunchRequest
    from gpubroker.model.machine import Machine

MOST_NODES = 512
_FLAGS = (
    click.option("--retry-for", metavar="TIME", help="Keep trying so long as stock changes: 6h."),
    click.option(
        "--nodes",
        type=Amount(1, MOST_NODES, whole=True),
        metavar="N",
        help="NAME-1 to NAME-N: all of them, or none.",
    ),
    click.option("--all-within", metavar="TIME", help="All nodes are ready by then; 15m."),
    click.option(
        "--on-preempt",
        metavar="POLICY",
        help="Spot machine taken away: stay (default), replace, on-demand-after:N, give-up.",
    ),
    click.option(
        "--on-mismatch",
        type=click.Choice(("warn", "replace")),
        help="Not what was asked for; default: other GPUs are replaced, the rest is told.",
    ),
)


def standing_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds them."""
    for flag in reversed(_FLAGS):
        command = flag(command)
    return command


def standing_of(flags: dict[str, Any]) -> dict[str, Any]:
    """Fields of the request, every value checked."""
    from gpubroker.fleet.preempting import policy
    from gpubroker.fleet.requests import ALL_WITHIN

    nodes = flags["nodes"] or 1
    if flags["retry_for"] and nodes > 1:
        raise click.UsageError("--retry-for tries for one machine; nodes are had --all-within TIME")
    if flags["all_within"] and nodes == 1:
        raise click.UsageError("--all-within is for several --nodes")
    try:
        policy(flags["on_preempt"] or "stay")
    except ValueError as error:
        raise click.UsageError(f"--on-preempt {error}") from None
    retry_for, all_within = flags["retry_for"], flags["all_within"]
    return {
        "retry_for": duration_flag(retry_for, "--retry-for") if retry_for else None,
        "nodes": nodes,
        "all_within": duration_flag(all_within, "--all-within") if all_within else ALL_WITHIN,
        "on_preempt": flags["on_preempt"] or "stay",
        "on_mismatch": flags["on_mismatch"] or "",
    }


def standing_lines(request: LaunchRequest) -> Iterator[str]:
    """What follows where the plan is not enough."""
    if request.retry_for is not None:
        lasts = span(request.retry_for.total_seconds())
        yield f"  Where nothing can be had it is planned anew for {lasts}, while gpubroker runs."
    if request.nodes > 1:
        lasts = span(request.all_within.total_seconds())
        yield f"  {request.nodes} nodes: all are ready within {lasts}, or all are ended."


def waiting_words(machine: Machine, now: datetime) -> str:
    """When it is tried next, "" where it has a machine."""
    if machine.next_try_at is None:
        return ""
    left = (machine.next_try_at - now).total_seconds()
    words = f"waiting for stock, next try in {span(left)}" if left > 0 else "waiting for stock"
    if machine.retry_until is None:
        return words
    return f"{words}, until {clock_time(machine.retry_until, now)}"


def standing_notes(machine: Machine) -> Iterator[str]:
    """What became of it beside its state."""
    if machine.preempted and machine.ended_at is None:
        yield f"taken away {counted(machine.preempted, 'time')}"
    if machine.mismatch:
        yield "not as asked: gpubroker show tells"


def gang_document(machines: tuple[Machine, ...]) -> dict[str, Any]:
    """The nodes, and where each is reached."""
    from gpubroker import wire

    return {
        "gang": machines[0].gang if machines else "",
        "hosts": [
            {
                "name": machine.name,
                "ssh": f"gb-{machine.name}",
                "host": machine.ssh.host if machine.ssh else None,
                "port": machine.ssh.port if machine.ssh else None,
                "user": machine.ssh.user if machine.ssh else None,
            }
            for machine in machines
        ],
        "instances": [wire.instance(machine) for machine in machines],
    }
