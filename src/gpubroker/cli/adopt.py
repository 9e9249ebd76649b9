"""`adopt`: a machine made elsewhere, taken under management."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from gpubroker.cli.launch_inputs import duration_flag
from gpubroker.cli.progress import Progress
from gpubroker.cli.session import Session
from gpubroker.cli.words import money, price

if TYPE_CHECKING:
    from gpubroker.model.machine import Machine

NO_EXPIRY = "none"


@click.command("adopt")
@click.argument("provider")
@click.argument("id")
@click.option("--ttl", required=True, metavar="TIME", help='It is ended after this: 4h; or "none".')
@click.option("--name", metavar="NAME", help="Yours for it; made up where none is given.")
@click.option("--owner", metavar="OWNER", help="The other gpubroker that made it, on purpose.")
@click.option("--scope", metavar="SCOPE", help="Region or the like, where ids repeat.")
@click.option("--price", metavar="USD", type=float, help="Per hour, where nothing else tells it.")
@click.pass_obj
def adopt_command(
    session: Session,
    provider: str,
    id: str,
    ttl: str,
    name: str | None,
    owner: str | None,
    scope: str | None,
    price: float | None,
) -> None:
    """Take a machine that was made elsewhere under management.

    PROVIDER is a cloud, or cloud:ACCOUNT; ID is the cloud's own. From then on ps, ssh, terminate
    and bill know it, and it is ended when its time is over. gpubroker sweep lists what there is.
    """
    from gpubroker.model.money import nanos

    endless = ttl == NO_EXPIRY
    lasts: timedelta | None = None if endless else duration_flag(ttl, "--ttl")
    cloud, _, account = provider.partition(":")
    try:
        hourly = None if price is None else nanos(price)
    except ValueError as error:
        raise click.UsageError(f"--price: {error}") from None
    realm = session.realm()

    async def take() -> Machine:
        async with session.broker(realm, Progress(session)) as broker:
            return await broker.adopt(
                cloud,
                id,
                ttl=lasts,
                no_expiry=endless,
                name=name,
                account=account or None,
                scope=scope,
                owner=owner,
                price=hourly,
            )

    machine = session.run(take())
    from gpubroker import wire

    session.show(lambda: wire.instance(machine), lambda: [_told(machine, ttl)])


def _told(machine: Machine, ttl: str) -> str:
    ends = "it never ends by itself" if machine.expires_at is None else f"it is ended in {ttl}"
    return (
        f"{machine.name} is managed from now on: {machine.gpu_count}x {machine.gpu.label} at "
        f"{machine.provider}, {price(machine.price)}/h, {money(machine.cost_so_far)} so far; {ends}"
    )
