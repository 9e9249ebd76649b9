"""What each cloud can do, side by side: one table for `providers --table` and for the docs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from gpubroker.cli.table import Column
from gpubroker.cli.words import NOTHING
from gpubroker.model.capabilities import Capabilities
from gpubroker.model.terms import Market

YES = "yes"


class Declared(NamedTuple):
    """One cloud's declared data."""

    name: str
    can: Capabilities
    answers: frozenset[str]
    """Calls beyond those that every cloud has: `ProviderInfo.answers`."""


def _word(field: str, words: Mapping[str, str]) -> Callable[[Declared], str]:
    return lambda cloud: words[getattr(cloud.can, field)]


def _answers(call: str) -> Callable[[Declared], str]:
    return lambda cloud: YES if call in cloud.answers else NOTHING


def _spot(cloud: Declared) -> str:
    if Market.SPOT not in cloud.can.markets:
        return NOTHING
    return "bid" if "bid" in cloud.answers else YES


def _expiry(cloud: Declared) -> str:
    words = {
        "provider": "cloud",
        "machine_ends_billing": "timer",
        "machine_frees_gpu": "timer, disk bills",
        "controller_only": "keeper",
    }
    moves = cloud.can.expiry == "provider" and "extend" not in cloud.answers
    return words[cloud.can.expiry] + (", fixed" if moves else "")


_IMAGE = {"container": "runs it", "docker_on_vm": "docker", "none": NOTHING}
_SSH = {
    "sshd": "cloud's",
    "bootstrap": "ours",
    "portal": "portal keys",
    "exec": "exec only",
    "forward": "forward",
    "none": NOTHING,
}
_PORTS = {
    "any_tcp": "any",
    "http_only": "https",
    "at_create": "at create",
    "firewall": "firewall",
    "none": NOTHING,
}
_STOP = {"keeps_disk": "keeps disk", "loses_gpu": "frees gpu", "none": NOTHING}
_BILL = {"exact": "exact", "daily": "daily", "balance": "balance", "manual": "by hand"}

_COLUMNS: tuple[tuple[Column, Callable[[Declared], str]], ...] = (
    (Column("CLOUD"), lambda cloud: cloud.name),
    (Column("MACHINES", drop=7), lambda cloud: "+".join(sorted(cloud.can.kinds))),
    (Column("SPOT"), _spot),
    (Column("IMAGE", drop=6), _word("image", _IMAGE)),
    (Column("SSH"), _word("ssh", _SSH)),
    (Column("PORTS", drop=8), _word("ports", _PORTS)),
    (Column("STOP"), _word("stop", _STOP)),
    (Column("ENDED BY"), _expiry),
    (Column("FOUND BY", drop=5), lambda cloud: cloud.can.carriers[0]),
    (Column("BILL", drop=9), _word("billing", _BILL)),
    (Column("BALANCE", drop=4), _answers("balance")),
    (Column("QUOTA", drop=3), _answers("quotas")),
    (Column("THINGS", drop=2), _answers("resources")),
    (Column("KEYLESS", drop=1), lambda cloud: YES if cloud.can.public_prices else NOTHING),
)
COLUMNS = tuple(column for column, _ in _COLUMNS)
LEGEND = (
    "SSH ours: by our startup text. ENDED BY: what ends a machine at its expiry when no gpubroker",
    "runs. THINGS: keys, volumes and the like are swept. KEYLESS: prices without a key.",
)


def rows(clouds: Iterable[Declared]) -> list[list[str]]:
    """A row a cloud, by name."""
    return [[tell(cloud) for _, tell in _COLUMNS] for cloud in sorted(clouds)]
