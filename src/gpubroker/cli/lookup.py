"""Which realm a NAME lives in: live first, then the sandbox."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gpubroker.cli.session import Realm, Session

if TYPE_CHECKING:
    from gpubroker.model.machine import Machine


def answers_to(machine: Machine, name: str) -> bool:
    """By the user's name, the launch's id or the cloud's id."""
    from gpubroker.wire import instance_id

    return name in {machine.name, machine.launch_id, instance_id(machine)}


def find(session: Session, names: Iterable[str], *, gangs: bool = False) -> dict[Realm, list[str]]:
    """Every name in the first realm that knows it; what runs comes before what has ended.

    With `gangs` the name of a gang that has not ended is one too. Raises UnknownName, with names
    that look like it, where no realm knows one.
    """
    from gpubroker.fleet.errors import UnknownName

    wanted = list(dict.fromkeys(names))
    known: list[tuple[Realm, tuple[Machine, ...]]] = []
    found: dict[Realm, list[str]] = {}

    def place(name: str, realm: Realm, machines: Iterable[Machine]) -> bool:
        if any(answers_to(machine, name) for machine in machines):
            found.setdefault(realm, []).append(name)
            return True
        return False

    left = wanted
    for realm in session.realms(start=True):
        machines = session.recorded(realm, include_ended=True)
        known.append((realm, machines))
        running = [machine for machine in machines if machine.ended_at is None]
        if gangs:
            living = {machine.gang for machine in running}
            for name in living.intersection(left):
                found.setdefault(realm, []).append(name)
                left = [other for other in left if other != name]
        left = [name for name in left if not place(name, realm, running)]
        if not left:
            return found
    for realm, machines in known:
        left = [name for name in left if not place(name, realm, machines)]
    if left:
        from difflib import get_close_matches

        all_names = {machine.name for _, machines in known for machine in machines}
        raise UnknownName(left[0], tuple(get_close_matches(left[0], sorted(all_names), n=3)))
    return found
