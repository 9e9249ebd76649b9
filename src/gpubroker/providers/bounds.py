"""What a vendor would not take is refused before anything is sent, with the field's name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from gpubroker.model.errors import Invalid
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.offer import Offer

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(r"[1-9][0-9]{0,18}")
_PLAIN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_PORTS = range(1, 65536)
_PROTOCOLS = ("tcp", "udp")
_LINE_ENDS = frozenset("\n\r\0")
BEYOND_BOUNDS = "bounds"
"""Code of what this one vendor would not take; another may."""


class Bounds:
    """The checks of one provider. Values never stand in an error: they may be secrets."""

    def __init__(self, provider: str) -> None:
        self._provider = provider

    def require(self, holds: bool, field: str, rule: str) -> None:
        """Invalid of `field` where `rule` does not hold."""
        if not holds:
            error = Invalid(
                f"{self._provider} takes {field}: {rule}",
                provider=self._provider,
                code=BEYOND_BOUNDS,
            )
            error.field = field
            raise error

    def number(self, text: str, field: str) -> int:
        """An id that is a number: it stands in a path."""
        self.require(bool(_NUMBER.fullmatch(text)), field, f"a number, not {text[:40]!r}")
        return int(text)

    def plain_id(self, text: str, field: str) -> str:
        """An id of letters, digits, `-` and `_`: it stands in a path."""
        self.require(bool(_PLAIN_ID.fullmatch(text)), field, f"a plain id, not {text[:40]!r}")
        return text

    def disk(self, spec: LaunchSpec, offer: Offer, *, usual: int, smallest: int = 1) -> int:
        """GB of a disk that is bought by the GB."""
        wanted = spec.disk_gb if spec.disk_gb is not None else usual
        self.require(wanted >= smallest, "disk_gb", f"at least {smallest} GB")
        most = offer.disk_max_gb
        self.require(most is None or wanted <= most, "disk_gb", f"at most {most or 0:g} GB here")
        return wanted

    def disk_of_type(self, spec: LaunchSpec, offer: Offer) -> None:
        """For machines that have the disk of their type, and no other."""
        wanted, there = spec.disk_gb, offer.disk_gb
        fits = wanted is None or there is None or wanted <= there
        self.require(fits, "disk_gb", f"at most {there or 0:g} GB here")

    def takes_no(self, spec: LaunchSpec, *fields: str) -> None:
        """Of what the cloud does not know, nothing may be asked for."""
        for field in fields:
            self.require(not getattr(spec, field), field, "none")

    def variables(self, env: Mapping[str, str], *, longest: int, together: int) -> None:
        """Names a shell can hold, values of one line; sizes in characters of `NAME=value`."""
        total = 0
        for name, value in env.items():
            named = _VARIABLE.fullmatch(name) is not None
            self.require(named, "env", "names of letters, digits and underscores")
            self.require(_LINE_ENDS.isdisjoint(value), "env", f"one line for {name}")
            size = len(name) + 1 + len(value)
            self.require(size <= longest, "env", f"{longest} characters at most for {name}")
            total += size
        self.require(total <= together, "env", f"{together} characters in all")

    def ports(
        self, ports: Iterable[tuple[int, str]], *, most: int, protocols: Sequence[str] = _PROTOCOLS
    ) -> None:
        """Ports that exist, of the vendor's protocols, no more of them than it opens."""
        told = tuple(ports)
        there = all(port in _PORTS and protocol in protocols for port, protocol in told)
        self.require(there, "ports", f"1 to 65535, {' or '.join(protocols)}")
        self.require(len(set(told)) <= most, "ports", f"at most {most}")
