"""`python -m gpubroker.testing.conformance PROVIDER --max-cost 2.00 --ttl 20m`: a real account."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpubroker.credentials.sources import default_account
from gpubroker.model.clock import Clock, SystemClock
from gpubroker.model.durations import duration
from gpubroker.model.errors import BrokerError
from gpubroker.model.money import nanos, usd
from gpubroker.providers.accounts import Account, sandbox_accounts
from gpubroker.providers.registry import provider_class
from gpubroker.testing.conformance import checks_for
from gpubroker.testing.conformance.account import AccountBench, Caps, run
from gpubroker.testing.conformance.bench import closed
from gpubroker.testing.conformance.check import Broken

KEPT, BROKEN, REFUSED = 0, 1, 2
"""Exit codes."""
DEAREST_USD, LONGEST_S = 50.0, 6 * 3600.0
INDEX_S = 10.0


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m gpubroker.testing.conformance",
        description="Tries a provider's promises at a real account. It rents one machine.",
    )
    parser.add_argument("provider", help="wire name or any short form")
    parser.add_argument(
        "--max-cost", type=float, required=True, metavar="USD", help="the most that it may cost"
    )
    parser.add_argument(
        "--ttl", required=True, metavar="TIME", help="how long the machine may live: 20m"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--sandbox", metavar="URL", help="a sandbox's address, to rehearse")
    return parser.parse_args(argv)


def main() -> None:
    """Exits with what `tried` answers."""
    sys.exit(asyncio.run(tried(sys.argv[1:])))


async def tried(
    argv: Sequence[str],
    *,
    environ: Mapping[str, str] = os.environ,
    ask: Callable[[str], str] = input,
    clock: Clock | None = None,
) -> int:
    """0: every promise was kept. 1: one was not, or something is left. 2: nothing was done."""
    wanted = _arguments(argv)
    try:
        caps = _caps(wanted)
        kind = provider_class(wanted.provider)
        account, base_url = await asyncio.to_thread(_account, kind.name, wanted.sandbox, environ)
    except (ValueError, KeyError, OSError, BrokerError) as refusal:
        _say(f"refused: {refusal}")
        return REFUSED
    with tempfile.TemporaryDirectory() as folder:
        bench = AccountBench(
            kind,
            account,
            Path(folder),
            caps,
            clock=clock or SystemClock(),
            base_url=base_url,
            loopback_only=base_url is not None,
        )
        try:
            return await _try(bench, account, sure=wanted.yes, ask=ask)
        finally:
            await closed(bench.provider)


def _caps(wanted: argparse.Namespace) -> Caps:
    ttl_s = duration(wanted.ttl).total_seconds()
    if not 0 < wanted.max_cost <= DEAREST_USD:
        raise ValueError(f"--max-cost is above 0 and at most {DEAREST_USD:g} USD")
    if ttl_s > LONGEST_S:
        raise ValueError(f"--ttl is at most {LONGEST_S / 3600:g} h")
    return Caps(nanos(wanted.max_cost), ttl_s)


def _account(
    name: str, sandbox: str | None, environ: Mapping[str, str]
) -> tuple[Account, str | None]:
    if sandbox:
        index = _index(sandbox)
        if name not in index:
            raise ValueError(f"the sandbox at {sandbox} has no {name}")
        return sandbox_accounts(index)[name]
    account = default_account(name, environ)
    if account is None:
        raise ValueError(f"no key for {name}")
    return account, None


def _index(sandbox: str) -> dict[str, dict[str, Any]]:
    import json
    from urllib.request import urlopen

    if not sandbox.startswith(("http://127.0.0.1:", "http://localhost:")):
        raise ValueError("--sandbox is an address on loopback")
    with urlopen(f"{sandbox}/_sandbox/providers", timeout=INDEX_S) as answer:  # noqa: S310 - above
        index: dict[str, dict[str, Any]] = json.load(answer)
    return index


async def _try(
    bench: AccountBench, account: Account, *, sure: bool, ask: Callable[[str], str]
) -> int:
    checks = checks_for(bench.provider_class, bench.abilities)
    try:
        offer = await bench.plan()
    except (BrokerError, Broken) as refusal:
        _say(f"refused: {refusal}")
        return REFUSED
    name, ttl_s = bench.provider_class.display_name, bench.caps.ttl_s
    _say(f"{name}, key from {account.found}, owner {bench.owner}")
    _say(f"{len(checks)} promises are tried with one machine:")
    _say(f"  {offer.gpu_count} x {offer.gpu.raw}, {offer.region}, {offer.key}")
    _say(f"  for {ttl_s / 60:g} minutes and ${usd(bench.highest_cost(offer)):.2f} at most")
    if not sure and (await asyncio.to_thread(ask, "Type yes to rent it: ")).strip() != "yes":
        _say("nothing was rented")
        return REFUSED
    return BROKEN if await run(bench, checks, _say) else KEPT


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a program


if __name__ == "__main__":
    main()
