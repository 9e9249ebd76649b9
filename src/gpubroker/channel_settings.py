"""What a channel's settings in config.toml must be, beyond their types."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from urllib.parse import urlsplit

from gpubroker.model.notices import KINDS, NEVER_SENT, Channel
from gpubroker.providers.http import is_loopback

OF_CHANNELS: Mapping[str, frozenset[str]] = {
    "command": frozenset(),
    "webhook": frozenset({"secret_env"}),
    "email": frozenset({"server", "sender", "user", "starttls", "secret_env"}),
}
"""What a channel is -> the settings that mean something to it, beside `least` and `kinds`."""


def faults(channel: Channel, told: frozenset[str]) -> Iterator[tuple[str, str]]:
    """(setting, what is wrong with it). `told`: the settings that stand in the file."""
    ways = sorted(OF_CHANNELS.keys() & told)
    if len(ways) != 1:
        yield "", f"expected exactly one of {', '.join(OF_CHANNELS)}"
        return
    for setting in sorted(told - OF_CHANNELS[ways[0]] - {ways[0], "least", "kinds"}):
        yield setting, f"means nothing to a channel that is a {ways[0]}"
    sent = sorted(KINDS.keys() - NEVER_SENT)
    for kind in channel.kinds:
        if kind not in sent:
            near = get_close_matches(kind, sent, n=1)
            known = f"did you mean {near[0]}?" if near else f"known are {', '.join(sent)}"
            yield "kinds", f"nothing is warned of as {kind}; {known}"
    yield from _FAULTS[ways[0]](channel)


def _command_faults(channel: Channel) -> Iterator[tuple[str, str]]:
    if not channel.command or not channel.command[0]:
        yield "command", 'expected a program and its arguments: ["notify-send", "gpubroker"]'


def _webhook_faults(channel: Channel) -> Iterator[tuple[str, str]]:
    try:
        parts = urlsplit(channel.webhook or "")
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        yield "webhook", "this is no URL"
        return
    if parts.username is not None or parts.password is not None:
        yield "webhook", "a password does not stand in a URL: the webhook is signed"
    if not host or parts.scheme not in ({"https", "http"} if is_loopback(host) else {"https"}):
        yield "webhook", "expected https://…; http:// is for this computer only"


def _email_faults(channel: Channel) -> Iterator[tuple[str, str]]:
    for setting in ("email", "sender"):
        address = getattr(channel, setting)
        if address is not None and not _ADDRESS.fullmatch(address):
            yield setting, "expected an address: me@example.com"
    host, _, port = (channel.server or "").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        yield "server", 'expected the mail server as "smtp.example.com:587"'
    elif not channel.starttls and (not is_loopback(host) or channel.user is not None):
        yield "starttls", "only a server on this computer is spoken to without, and without a login"


_ADDRESS = re.compile(r"[^@\s<>,]+@[^@\s<>,]+")
_FAULTS: Mapping[str, Callable[[Channel], Iterator[tuple[str, str]]]] = {
    "command": _command_faults,
    "webhook": _webhook_faults,
    "email": _email_faults,
}
