"""`sandbox`: every cloud on loopback. Foreground, or the one in the background that others use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from gpubroker.cli.search_flags import Amount
from gpubroker.cli.session import Session

if TYPE_CHECKING:
    from gpubroker.sandbox.daemon import Running
    from gpubroker.sandbox.server import Ready

DEFAULT_PORT = 9900
HIGHEST_PORT = 65535
HIGHEST_SPEED = 10_000

SHELLS = ("bash", "fish", "powershell")


@click.group("sandbox", invoke_without_command=True)
@click.option(
    "--port",
    type=Amount(0, HIGHEST_PORT, whole=True),
    default=DEFAULT_PORT,
    show_default=True,
    metavar="N",
    help="On loopback; 0 takes a free one.",
)
@click.option("--providers", metavar="NAME,NAME", help="Only these clouds.")
@click.option("--seed", type=Amount(0, whole=True), default=0, metavar="N", help="Of the market.")
@click.option(
    "--speed",
    type=Amount(0.001, HIGHEST_SPEED),
    default=1.0,
    metavar="N",
    help="Its time runs N times as fast.",
)
@click.option("--proxy", is_flag=True, help="Also an HTTPS proxy under the vendors' own names.")
@click.pass_context
def sandbox_command(
    ctx: click.Context, port: int, providers: str | None, seed: int, speed: float, proxy: bool
) -> None:
    """Every cloud's API on loopback, with machines that answer SSH.

    Without a sub-command: in the foreground until Ctrl-C. --sandbox of other verbs starts one in
    the background, found again by `status` and ended by `stop`.
    """
    if ctx.invoked_subcommand is None:
        _foreground(ctx.obj, port, providers, seed, speed, proxy)


@sandbox_command.command("start")
@click.pass_obj
def start_command(session: Session) -> None:
    """Start the one in the background, where it does not run already."""
    from gpubroker.sandbox import daemon

    _show(session, daemon.ensure(session.home))


@sandbox_command.command("status")
@click.pass_obj
def status_command(session: Session) -> None:
    """Where the one in the background is."""
    from gpubroker.sandbox import daemon

    _show(session, daemon.status(session.home))


@sandbox_command.command("stop")
@click.pass_obj
def stop_command(session: Session) -> None:
    """End the one in the background. Its clouds and machines come back with the next start."""
    from gpubroker.sandbox import daemon

    stopped = daemon.stop(session.home)
    session.show(
        lambda: {"running": False, "stopped": bool(stopped)},
        lambda: ["The sandbox is stopped." if stopped else "No sandbox was running."],
    )


@sandbox_command.command("env")
@click.option("--shell", type=click.Choice(SHELLS), default="bash", show_default=True)
@click.option("--proxy", is_flag=True, help="Also lead tools with fixed addresses here.")
@click.pass_obj
def env_command(session: Session, shell: Any, proxy: bool) -> None:
    """Print variables that point gpubroker and the vendors' own tools at the sandbox.

    For bash: eval "$(gpubroker sandbox env)". The keys in them are worth nothing elsewhere.
    """
    from gpubroker import realm
    from gpubroker.sandbox import daemon
    from gpubroker.sandbox.proxy import UNSET, env_exports, proxy_variables

    base_url = session.environ.get("GPUBROKER_SANDBOX")
    if base_url and proxy:
        raise click.UsageError(
            "--proxy is opened for the sandbox in the background only; GPUBROKER_SANDBOX names "
            "another: start that one with --proxy"
        )
    found: dict[str, str] = {}
    if not base_url:
        running = daemon.ensure(session.home)
        base_url = running.base_url
        if proxy:
            found.update(proxy_variables(*daemon.open_proxy(running)))
    found["GPUBROKER_SANDBOX"] = base_url
    index: Mapping[str, Any] = realm.control(base_url, "/_sandbox/providers")
    for entry in index.values():
        found.update(entry["env"])
    unset = UNSET if proxy else ()
    session.show(lambda: {"env": found}, lambda: [env_exports(shell, found, unset).rstrip()])


def _show(session: Session, running: Running | None) -> None:
    if running is None:
        session.show(
            lambda: {"running": False},
            lambda: ["No sandbox is running. gpubroker offers --sandbox starts one."],
        )
        return
    document = {
        "running": True,
        "base_url": running.base_url,
        "id": running.id,
        "pid": running.pid,
        "port": running.port,
    }
    session.show(
        lambda: document,
        lambda: [
            f"The sandbox answers at {running.base_url} (process {running.pid}).",
            "    gpubroker offers --sandbox        gpubroker sandbox stop",
        ],
    )


def _foreground(
    session: Session, port: int, providers: str | None, seed: int, speed: float, proxy: bool
) -> None:
    from gpubroker.cli.search_flags import provider_name
    from gpubroker.sandbox import server

    chosen = None
    if providers is not None:
        chosen = tuple(provider_name(name) for name in providers.split(",") if name.strip())
    settings = server.Settings(
        # Apart from the one in the background: this one admits any key that is well formed.
        folder=session.home.sandbox / "foreground",
        port=port,
        providers=chosen,
        seed=seed,
        speed=speed,
        proxy=proxy,
    )

    def tell(ready: server.Ready) -> None:
        document = {
            "running": True,
            "base_url": ready.base_url,
            "id": ready.id,
            "proxy_url": ready.proxy_url,
            "ca_file": None if ready.ca_file is None else str(ready.ca_file),
        }
        session.show(lambda: document, lambda: _ready_lines(ready))

    try:
        session.run(server.serve(settings, tell))
    except (server.FolderInUse, ValueError) as error:
        raise click.UsageError(str(error)) from error


def _ready_lines(ready: Ready) -> Iterator[str]:
    yield f"The sandbox answers at {ready.base_url}. Ctrl-C ends it."
    yield "It takes any well-formed key, from programs of this user on this computer."
    yield f"    GPUBROKER_SANDBOX={ready.base_url} gpubroker offers"
    if ready.proxy_url is not None:
        yield f"    HTTPS_PROXY={ready.proxy_url} SSL_CERT_FILE={ready.ca_file} …"
