"""The channels of config.toml, made ready: their secrets found, their kinds told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gpubroker.credentials.vault import Vault
from gpubroker.fleet.channels import Carrying, Command, Mail, Webhook
from gpubroker.fleet.outbox import Route
from gpubroker.model.errors import BrokerError, Invalid, NotFound
from gpubroker.model.notices import Channel

if TYPE_CHECKING:
    from gpubroker.config import Config

SECRET = "secret"  # noqa: S105 - what it is called in the vault


class UnknownChannel(NotFound):
    """config.toml has no channel of that name."""


def routes(
    config: Config, environ: Mapping[str, str], vault: Vault, *, loopback_only: bool
) -> tuple[Route, ...]:
    """One for each channel; where its secret is missing the route says so and carries nothing."""
    made = []
    for name, channel in config.notify.channels.items():
        carrier: Carrying | None = None
        problem = ""
        try:
            carrier = _carrier(name, channel, environ, vault, loopback_only=loopback_only)
        except BrokerError as error:
            problem = str(error)
        made.append(Route(name, _to(channel), channel.wanted(), carrier, problem))
    return tuple(made)


def keep_secret(config: Config, vault: Vault, name: str, secret: str) -> str:
    """Seal a channel's secret. Answer: where it is. Raises UnknownChannel, Invalid."""
    channel = known(config, name)
    if channel.command:
        raise Invalid(f"{name} is a command: it has no secret. Nothing was stored.")
    if not secret.strip():
        raise Invalid("an empty secret signs nothing. Nothing was stored.")
    return vault.keep(_place(name), {SECRET: secret.strip()})


def known(config: Config, name: str) -> Channel:
    """Raises UnknownChannel."""
    channels = config.notify.channels
    if name not in channels:
        listed = ", ".join(channels) or "none is configured"
        raise UnknownChannel(f"no channel is called {name!r} in [notify.channels]: {listed}")
    return channels[name]


def _carrier(
    name: str,
    channel: Channel,
    environ: Mapping[str, str],
    vault: Vault,
    *,
    loopback_only: bool,
) -> Carrying:
    if channel.command:
        return Command(channel.command, environ)
    if channel.webhook is not None:
        secret = _secret(name, channel, environ, vault)
        return Webhook(channel.webhook, secret, loopback_only=loopback_only)
    login = None
    if channel.user is not None:
        login = (channel.user, _secret(name, channel, environ, vault))
    return Mail(
        channel.email or "",
        server=channel.server or "",
        sender=channel.sender or channel.email or "",
        login=login,
        starttls=channel.starttls,
        loopback_only=loopback_only,
    )


def _secret(name: str, channel: Channel, environ: Mapping[str, str], vault: Vault) -> str:
    if channel.secret_env is not None:
        if secret := environ.get(channel.secret_env):
            return secret
        raise Invalid(f"its secret is missing: {channel.secret_env} is not set")
    stored = vault.stored().get(_place(name))
    if stored is None:
        raise Invalid(f"its secret is missing: gpubroker notify secret {name} stores it")
    return vault.secrets(_place(name), stored, (SECRET,))[SECRET]


def _place(name: str) -> str:
    return f"notify:{name}"


def _to(channel: Channel) -> str:
    if channel.command:
        return channel.command[0]
    if channel.webhook is not None:
        return urlsplit(channel.webhook).hostname or ""  # its path may be what lets people in
    return channel.email or ""
