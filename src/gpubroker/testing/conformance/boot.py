"""What a person wants on the machine is on it: looked for over SSH, on the machine itself."""

from __future__ import annotations

import asyncio
import shlex
import socket
import time

from gpubroker.model.errors import Invalid, Unsupported
from gpubroker.model.instance import Instance
from gpubroker.model.terms import Expiry
from gpubroker.providers.base import Provider
from gpubroker.remote.keys import broker_key
from gpubroker.remote.ssh import Ran
from gpubroker.testing.conformance.bench import SHARED_FILE, Bench, Made, bills
from gpubroker.testing.conformance.check import Chapter, broken, none_of, require

_chapter = Chapter()
CHECKS = _chapter.checks
promise = _chapter.promise

VARIABLES = {
    "PLAIN": "hello",
    "SPACES": "  two  spaces  ",
    "QUOTES": """it's "quoted" `so`""",
    "DOLLARS": "$HOME ${PATH} $(id) \\n ; & | > # !",
    "WORDS": "größer 東京 🚀",
    "EQUALS": "a=b=c",
    "EMPTY": "",
}
SEVERAL_LINES = "first\nsecond line\n"
SCRIPT_BYTES = 16 * 1024
LATE_S = 600.0
"""How late an end by itself may be."""
_LOOK_S, _ARRIVAL_S, _TIMER_PATIENCE_S = 0.2, 20.0, 40.0


def _has_ssh(provider: type[Provider]) -> bool:
    return provider.capabilities.logs_in


def _has_script(provider: type[Provider]) -> bool:
    return _has_ssh(provider) and provider.capabilities.startup != "none"


def _has_env(provider: type[Provider]) -> bool:
    return _has_ssh(provider) and provider.capabilities.env != "none"


def _ends_by_itself(provider: type[Provider]) -> bool:
    return provider.capabilities.expiry is not Expiry.CONTROLLER_ONLY


async def _answer(bench: Bench, made: Made, command: str, wanted: str) -> str:
    """What a command prints, asked again until it is as wanted or patience ends."""
    ends = time.monotonic() + _ARRIVAL_S
    ran = Ran(None, "", "not asked")
    while time.monotonic() < ends:
        ran = await bench.on(made, command)
        if ran.stdout == wanted:
            break
        await asyncio.sleep(_LOOK_S)
    return ran.stdout if ran.code == 0 else f"(exit {ran.code}) {ran.stdout}{ran.stderr}"


@promise("machine", applies=_has_ssh)
async def the_key_opens_the_machine(bench: Bench) -> None:
    """The key that was asked for logs in, and a command's output and exit code come back."""
    made = await bench.machine()
    ran = await bench.on(made, "printf %s hello; exit 0")
    require(ran.code == 0, f"ssh ended with {ran.code}: {ran.stderr.strip()}")
    require(ran.stdout == "hello", f"it printed {ran.stdout[:80]!r}")


@promise("machine", applies=_has_ssh)
async def what_was_asked_for_is_on_the_machine(bench: Bench) -> None:
    """Variables are seen by logins, and the script has run."""
    made = await bench.machine()
    for name, value in made.spec.env.items():
        told = await _answer(bench, made, f'printf %s "${name}"', value)
        require(told == value, f"{name} is {told!r}, not {value!r}")
    if made.spec.startup_script:
        wanted = made.spec.env.get("GREETING", "")
        told = await _answer(bench, made, f'cat "{SHARED_FILE}"', wanted)
        require(told == wanted, f"the script left {told!r}, not {wanted!r}")


@promise("many", applies=_has_ssh)
async def every_key_opens_the_machine(bench: Bench) -> None:
    """The user's key logs in beside the broker's, and a key that was not asked for does not."""
    if bench.provider_class.capabilities.ssh_keys_max < 2:  # noqa: PLR2004 - ours and one more
        return
    theirs = broker_key(bench.folder / "user", "theuser")
    others = broker_key(bench.folder / "other", "another")
    made = await bench.make(bench.spec(ssh_keys=(bench.key().public_line, theirs.public_line)))
    await bench.ready(made)
    for whose, key in (("the broker's", bench.key()), ("the user's", theirs)):
        ran = await bench.on(made, "true", key=key.private_path)
        require(ran.code == 0, f"{whose} key: {ran.stderr.strip()}")
    refused = await bench.try_on(made, "true", key=others.private_path)
    require(refused.code != 0, "a key that nobody asked for logs in")


@promise("many", applies=_has_env)
async def variables_arrive(bench: Bench) -> None:
    """Values with quotes, dollars, spaces and UTF-8 are seen by logins as they were given."""
    made = await bench.make(bench.spec(env=VARIABLES))
    await bench.ready(made)
    faults = []
    for name, value in VARIABLES.items():
        told = await _answer(bench, made, f'printf %s "${name}"', value)
        if told != value:
            faults.append(f"{name} is {told!r}, not {value!r}")
    none_of(faults)


@promise("many", "requests", applies=_has_env)
async def a_variable_of_several_lines_arrives_or_is_refused(bench: Bench) -> None:
    """A value with line ends is seen as it was given, or refused before anything is sent."""
    spec, offer = bench.spec(env={"LINES_OF_IT": SEVERAL_LINES}), await bench.cheapest()
    before = bench.requests()
    try:
        made = await bench.make(spec, offer)
    except (Invalid, Unsupported) as refusal:
        sent = bench.requests() - before
        require(sent == 0, f"{sent} requests were sent before the refusal")
        field = getattr(refusal, "field", "") or getattr(refusal, "capability", "")
        require(field == "env", f"the refusal names {field!r}")
        return
    await bench.ready(made)
    told = await _answer(bench, made, 'printf %s "$LINES_OF_IT"', SEVERAL_LINES)
    require(told == SEVERAL_LINES, f"it is {told!r}")


@promise("many", applies=_has_script)
async def the_script_runs(bench: Bench) -> None:
    """A script with quotes, dollars and UTF-8 runs once the machine is up, with the variables."""
    text = """it's "größer" than $5 \\ 🚀"""
    quoted = text.replace("'", "'\\''")
    env = {"GREETING": "hello $USER"} if _has_env(bench.provider_class) else {}
    script = f"printf '%s|%s' '{quoted}' \"$GREETING\" > \"{SHARED_FILE}\"\n"
    made = await bench.make(bench.spec(startup_script=script, env=env))
    await bench.ready(made)
    wanted = f"{text}|{env.get('GREETING', '')}"
    told = await _answer(bench, made, f'cat "{SHARED_FILE}"', wanted)
    require(told == wanted, f"the script left {told!r}, not {wanted!r}")


@promise("many", "requests", applies=_has_script)
async def a_long_script_runs_or_is_refused(bench: Bench) -> None:
    """A script of 16 KB runs whole, or is refused before anything is sent."""
    line = ": 'filling, so that the script is long'\n"
    script = line * (SCRIPT_BYTES // len(line)) + f'printf whole > "{SHARED_FILE}"\n'
    offer = await bench.cheapest()
    before = bench.requests()
    try:
        made = await bench.make(bench.spec(startup_script=script), offer)
    except (Invalid, Unsupported) as refusal:
        sent = bench.requests() - before
        require(sent == 0, f"{sent} requests were sent before the refusal")
        field = getattr(refusal, "field", "") or getattr(refusal, "capability", "")
        require(field == "startup_script", f"the refusal names {field!r}")
        return
    await bench.ready(made)
    told = await _answer(bench, made, f'cat "{SHARED_FILE}"', "whole")
    require(told == "whole", f"the script left {told!r}")


@promise("many", applies=lambda p: _has_ssh(p) and p.capabilities.ports != "none")
async def a_port_leads_to_the_machine(bench: Bench) -> None:
    """What listens on a port that was asked for is reached from outside."""
    port = _free_port()
    made = await bench.make_somewhere(bench.spec(ports=((port, "tcp"),)))
    machine = await bench.ready(made)
    server = shlex.quote(_SERVER.format(host=bench.listen_on(machine), port=port))
    started = await bench.on(made, f"nohup python3 -c {server} >/dev/null 2>&1 </dev/null &")
    require(started.code == 0, f"no server can be started: {started.stderr.strip()}")
    told = machine.ports.get(f"{port}/tcp")
    if told is None:
        require(
            bench.provider_class.capabilities.ports in {"any_tcp", "firewall"},
            f"the port is not told: {dict(machine.ports)}",
        )
        told = f"{machine.ssh.host}:{port}" if machine.ssh else ""
    address = told.removeprefix("http://").removeprefix("https://").rstrip("/")
    host, _, outside = address.rpartition(":")
    require(await _greets(host.strip("[]"), int(outside or 0)), f"nothing answers at {told}")


_SERVER = (
    'import socket;s=socket.create_server(("{host}",{port}))\n'
    'while 1:\n c,_=s.accept();c.sendall(b"hello");c.close()'
)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _greets(host: str, port: int) -> bool:
    ends = time.monotonic() + _ARRIVAL_S
    while time.monotonic() < ends:
        try:
            async with asyncio.timeout(_ARRIVAL_S):
                reader, writer = await asyncio.open_connection(host, port)
                greeting = await reader.read()
                writer.close()
        except (OSError, TimeoutError):
            greeting = b""
        if greeting == b"hello":
            return True
        await asyncio.sleep(_LOOK_S)
    return False


@promise("many", "truth", applies=_ends_by_itself)
async def the_expiry_ends_the_machine(bench: Bench) -> None:
    """When its time is over the machine ends as declared, though nothing of ours does anything."""
    by = bench.provider_class.capabilities.expiry
    made = await bench.make()
    await bench.ready(made)
    if by is not Expiry.PROVIDER:
        # On a VM the timer is a unit of its own, and starts a moment after the machine is there.
        look = '[ -s "$HOME/.gpubroker/until" ] && printf armed'
        armed = await _answer(bench, made, look, "armed")
        require(armed == "armed", "no timer runs on it")
    await bench.clock.sleep(bench.ttl_s + LATE_S)
    patience = time.monotonic() + _TIMER_PATIENCE_S
    while (machine := await bench.seen(made.ref)) is not None and _costs(machine, by):
        if time.monotonic() > patience:
            broken(f"its time is over, and it is {machine.state} and billed")
        # A timer on the machine looks at the machine's own clock, every few seconds.
        await asyncio.sleep(_LOOK_S)
    if by is not Expiry.MACHINE_FREES_GPU:
        require(not bench.is_billed(made.ref), "its time is over, and the cloud still charges")


def _costs(machine: Instance, by: Expiry) -> bool:
    return machine.bills_compute if by is Expiry.MACHINE_FREES_GPU else bills(machine)
