"""What a vendor would not take is refused before anything is sent, with the field's name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from gpubroker.model.errors import Invalid

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(r"[1-9][0-9]{0,18}")
_PORTS = range(1, 65536)
_PROTOCOLS = frozenset({"tcp", "udp"})
_LINE_ENDS = frozenset("\n\r\0")


class Bounds:
    """The checks of one provider. Values never stand in an error: they may be secrets."""

    def __init__(self, provider: str) -> None:
        self._provider = provider

    def require(self, holds: bool, field: str, rule: str) -> None:
        """Invalid of `field` where `rule` does not hold."""
        if not holds:
            error = Invalid(
                f"{self._provider} takes {field}: {rule}", provider=self._provider, code="bounds"
            )
            error.field = field
            raise error

    def number(self, text: str, field: str) -> int:
        """An id that is a number: it stands in a path."""
        self.require(bool(_NUMBER.fullmatch(text)), field, f"a number, not {text[:40]!r}")
        return int(text)

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

    def ports(self, ports: Iterable[tuple[int, str]], *, most: int) -> None:
        """Ports that exist, no more of them than the vendor opens."""
        told = tuple(ports)
        there = all(port in _PORTS and protocol in _PROTOCOLS for port, protocol in told)
        self.require(there, "ports", "1 to 65535, tcp or udp")
        self.require(len(set(told)) <= most, "ports", f"at most {most}")
