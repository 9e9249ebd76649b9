"""What a newcomer does in the first hour, with the tools a newcomer has."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from typing import Any

import pytest

Person = Any

REAL_LOOKING_KEYS = {
    "VAST_AI_API_KEY": "0123456789abcdef" * 4,
    "VAST_API_KEY": "fedcba9876543210" * 4,
    "RUNPOD_API_KEY": "rpa_ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
    "LAMBDA_API_KEY": "secret_lambda_0123456789abcdef",
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY00",
    "DIGITALOCEAN_TOKEN": "dop_v1_0123456789abcdef0123456789abcdef",
    "DATABASE_URL": "postgres://user:password@127.0.0.1:1/gpubroker",
}


def test_find_rent_use_end_and_see_the_bill(person: Person) -> None:
    found = person.json("offers", "--gpu", "4090", "--max-price", "0.6")
    assert found["total"] > 0
    assert found["sources"]["vast_ai"]["status"] == "live"
    machine = person.launch("--name", "first")
    assert machine["state"] == "running"
    assert [one["outcome"] for one in machine["attempts"]][-1] == "created"
    smi = person.run("ssh", "first", "--", "nvidia-smi", "-L").stdout
    assert smi.count("GPU 0: NVIDIA GeForce RTX 4090") == 1
    assert len(person.billed()) == 1
    person.control("/_sandbox/clock", {"advance_s": 1800})
    [ended] = person.json("terminate", "first", "--yes")["instances"]
    assert ended["state"] == "terminated"
    assert person.billed() == []
    assert ended["cost_so_far"] == pytest.approx(machine["price_per_hour"] / 2, rel=0.05)
    person.control("/_sandbox/clock", {"advance_s": 9 * 3600})
    bill = person.json("show", "first")["billing"]
    assert bill["status"] == "ended"
    truth = person.control("/_sandbox/machines")[0]["accrued_usd"]
    assert bill["amount"] == pytest.approx(truth, abs=0.001)


def test_the_real_ssh_scp_and_rsync_work_and_a_wrong_key_is_refused(
    person: Person, tmp_path: Any
) -> None:
    person.launch("--name", "box")
    config = str(person.home / ".ssh" / "config")
    assert (person.home / ".ssh" / "config").read_text().startswith("Include ")
    plain = person.tool("ssh", "-F", config, "gb-box", "echo $((40 + 2)); exit 7")
    assert (plain.stdout, plain.returncode) == ("42\n", 7)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "model.bin").write_bytes(os.urandom(100_000))
    sent = person.tool("scp", "-q", "-F", config, str(tmp_path / "data/model.bin"), "gb-box:a.bin")
    assert sent.returncode == 0, sent.stderr
    shell = f"ssh -F {config}"
    synced = person.tool("rsync", "-a", "-e", shell, str(tmp_path / "data"), "gb-box:")
    assert synced.returncode == 0, synced.stderr
    sums = person.tool("ssh", "-F", config, "gb-box", "md5sum < a.bin; md5sum < data/model.bin")
    assert len(set(sums.stdout.split("\n")[:2])) == 1
    key = tmp_path / "other"
    person.tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    refused = person.tool(
        "ssh", "-F", config, "-o", f"IdentityFile={key}", "-o", "IdentitiesOnly=yes",
        "-o", "BatchMode=yes", "-i", str(key), "-F", "none",
        *_endpoint(person, "box"), "true",
    )  # fmt: skip
    assert refused.returncode == 255
    assert "Permission denied" in refused.stderr


def _endpoint(person: Person, name: str) -> list[str]:
    ssh = person.json("show", name)["ssh"]
    return [
        "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
        "-p", str(ssh["port"]), f"{ssh['user']}@{ssh['host']}",
    ]  # fmt: skip


def test_ssh_passes_the_exit_code_on_and_says_125_before_the_command_started(
    person: Person,
) -> None:
    person.launch("--name", "box")
    assert person.run("ssh", "box", "--", "exit 3", code=3).stdout == ""
    failed = person.run("ssh", "nobody", "--", "true", code=None)
    assert failed.returncode in {7, 125}
    assert "gpubroker" in failed.stderr or "error:" in failed.stderr


def test_after_a_sigkill_of_the_sandbox_the_machine_is_back_with_its_host_key(
    person: Person,
) -> None:
    person.launch("--name", "box", "--startup-script", _script(person))
    person.run("ssh", "box", "--", "echo kept > kept.txt")
    pinned = (next(person.state.glob("ssh/sandbox-*")) / "known_hosts").read_text()
    os.kill(person.status()["pid"], signal.SIGKILL)
    again = person.run("ssh", "box", "--", "cat kept.txt; wc -l < boots.txt")
    assert again.stdout.split() == ["kept", "2"]
    assert (next(person.state.glob("ssh/sandbox-*")) / "known_hosts").read_text() == pinned


def _script(person: Person) -> str:
    path = person.home / "boot.sh"
    path.write_text("#!/bin/sh\ndate >> ~/boots.txt\n")
    return str(path)


def test_no_address_but_loopback_is_connected_to_and_the_database_is_left_alone(
    person: Person, tmp_path: Any
) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed (Linux only)")
    log = tmp_path / "connects"
    gpubroker = f"{sys.executable} -m gpubroker"
    launch = "launch --sandbox --gpu 'RTX 4090' --max-price 1 --ttl 1h --json"
    person.environ.update(REAL_LOOKING_KEYS)
    # The sandbox is started, watched and stopped inside the trace as well.
    traced = person.tool(
        "strace", "-f", "-qq", "-e", "trace=connect", "-e", "signal=none", "-o", str(log),
        "sh", "-c", f"{gpubroker} {launch} && {gpubroker} sandbox stop >&2",
    )  # fmt: skip
    assert traced.returncode == 0, traced.stderr
    connects = log.read_text()
    addresses = set(re.findall(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"', connects))
    reached = {four or six for four, six in addresses}
    assert reached <= {"127.0.0.1", "::1"}, reached
    assert "127.0.0.1" in reached
    assert "htons(1)" not in connects
    output = traced.stdout + traced.stderr + connects
    for name, secret in REAL_LOOKING_KEYS.items():
        assert secret not in output, name


def test_a_provider_key_in_the_environment_is_not_visible_on_a_machine(person: Person) -> None:
    keys = {name: key for name, key in REAL_LOOKING_KEYS.items() if name != "DATABASE_URL"}
    person.environ.update(keys)
    person.launch("--name", "box")
    seen = person.run(
        "ssh", "box", "--", "env; cat /proc/$PPID/environ 2>/dev/null | tr '\\0' '\\n'"
    )
    assert "HOME=" in seen.stdout
    for secret in keys.values():
        assert secret not in seen.stdout


def test_a_refusal_goes_to_the_next_offer_and_is_shown(person: Person) -> None:
    person.status()
    fault = {"provider": "vast_ai", "operation": "create", "kind": "no_capacity", "times": 1}
    person.control("/_sandbox/faults", fault)
    machine = person.launch("--name", "second-choice")
    assert [one["outcome"] for one in machine["attempts"]] == ["refused", "created"]
    assert "no_such_ask" in machine["attempts"][0]["reason"]
    assert len(person.billed()) == 1


@pytest.mark.parametrize("kind", ["disconnect_after", "disconnect_before", "server_error"])
def test_an_answer_that_is_lost_never_costs_a_second_machine(person: Person, kind: str) -> None:
    person.status()
    fault = {"provider": "vast_ai", "operation": "create", "kind": kind, "times": 1}
    person.control("/_sandbox/faults", fault)
    with person.time_flies():
        machine = person.launch("--name", "only-one")
    assert machine["state"] == "running"
    assert len(person.billed()) == 1
    found_again = kind == "disconnect_after"
    assert len(machine["attempts"]) == (1 if found_again else 2)


def test_a_wrong_gpu_is_given_back_and_the_next_offer_taken(person: Person) -> None:
    person.status()
    fault = {"provider": "vast_ai", "operation": "create", "kind": "wrong_gpu", "times": 1}
    person.control("/_sandbox/faults", fault)
    machine = person.launch("--name", "right-one")
    assert [one["outcome"] for one in machine["attempts"]] == ["failed", "created"]
    person.run("ps", "--sandbox")
    assert len(person.billed()) == 1


def test_an_expired_machine_is_ended_by_the_next_command(person: Person) -> None:
    person.launch("--name", "box")
    person.control("/_sandbox/clock", {"advance_s": 3700})
    listed = person.json("ps")
    assert listed["instances"] == []
    assert person.billed() == []


def test_stop_keeps_the_disk_and_start_brings_the_machine_back(person: Person) -> None:
    person.launch("--name", "box")
    person.run("ssh", "box", "--", "echo kept > kept.txt")
    [stopped] = person.json("stop", "box")["instances"]
    assert (stopped["state"], stopped["status"]) == ("stopped", "offline")
    assert len(person.billed()) == 1
    [started] = person.json("start", "box")["instances"]
    assert started["state"] == "running"
    assert person.run("ssh", "box", "--", "cat kept.txt").stdout == "kept\n"


KILLED = """
import os, signal, sys
from gpubroker import BlockingBroker, LaunchRequest, Query, wanted
from gpubroker.model.terms import Market

boundary, url = sys.argv[1:]

def die(at):
    if at == boundary:
        os.kill(os.getpid(), signal.SIGKILL)

with BlockingBroker(sandbox=url, on_boundary=die) as broker:
    query = Query(gpus=(wanted("RTX 4090"),), market=Market.ON_DEMAND, providers=("vast_ai",))
    broker.launch(LaunchRequest(query=query, name="box"))
    broker.terminate("box")
"""


@pytest.mark.parametrize(
    ("boundary", "machines", "wanted"),
    [
        ("intent committed", 0, 1),
        ("sending committed", 0, 1),
        ("created", 1, 1),
        ("key attached", 1, 1),
        ("end wanted", 1, 0),
        ("terminate sent", 1, 0),
    ],
)
def test_killed_for_real_at_a_boundary_nothing_is_left_behind(
    person: Person, boundary: str, machines: int, wanted: int
) -> None:
    url = person.status()["base_url"]
    ran = person.tool(sys.executable, "-c", KILLED, boundary, url)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    assert len(person.control("/_sandbox/machines")) == machines
    with person.time_flies():
        for _ in range(40):
            listed = person.json("ps")["instances"]
            if all(one["state"] == "running" for one in listed):
                break
    assert len(person.billed()) == len(listed) == wanted
    assert len(person.control("/_sandbox/machines")) <= 1
    person.json("sweep", "--fix")
    assert len(person.billed()) == wanted


def test_a_lost_gpubrokers_machine_is_told_adopted_billed_and_ended(
    person: Person, tmp_path: Any
) -> None:
    person.launch("--name", "kept")
    lost = {
        "GPUBROKER_HOME": str(tmp_path / "lost-home"),
        "GPUBROKER_SANDBOX": person.status()["base_url"],
    }
    # On demand: an interruptible one may be outbid when the hour's prices change.
    flags = ("--gpu", "RTX 4090", "--provider", "vast_ai", "--on-demand", "--max-price", "1")
    more = ("--ttl", "8h", "--name", "orphaned")
    told = person.run("--json", "launch", *flags, *more, more=lost).stdout
    theirs = json.loads(told)
    shutil.rmtree(lost["GPUBROKER_HOME"])
    swept = person.json("sweep", "--fix")
    assert ([one["name"] for one in swept["ours"]], swept["errors"]) == (["kept"], {})
    [stray] = swept["foreign"]
    assert (stray["provider_id"], stray["owner"]) == (theirs["provider_id"], theirs["owner"])
    assert len(person.billed()) == 2
    adopting = ("adopt", "vast", stray["provider_id"], "--ttl", "2h", "--name", "found")
    refused = person.run("--json", "--sandbox", *adopting, code=6).stderr
    assert f"--owner {stray['owner']}" in refused
    mine = person.json(*adopting, "--owner", stray["owner"])
    assert (mine["state"], mine["price_per_hour"] > 0) == ("running", True)
    assert person.run("ssh", "found", "--", "nvidia-smi", "-L").stdout.startswith("GPU 0:")
    assert {one["name"] for one in person.json("sweep", "--fix")["ours"]} == {"kept", "found"}
    person.control("/_sandbox/clock", {"advance_s": 1800})
    person.json("terminate", "found", "--yes")
    assert [one["provider_id"] for one in person.billed()] != [stray["provider_id"]]
    person.control("/_sandbox/clock", {"advance_s": 9 * 3600})
    [bill] = person.json("bill", "found")["bills"]
    assert (bill["verdict"], bill["billed"]["by"], bill["final"]) == ("agrees", "record", True)
    costs = person.json("costs", "--since", "1d")
    assert {row["name"] for row in costs["by"]["instance"]} == {"kept", "found"}
    by_day = sum(row["metered"] for row in costs["by"]["day"])
    assert by_day == pytest.approx(costs["total"]["metered"])


def test_the_vendors_names_are_reached_through_the_proxy_door_and_no_other(
    person: Person,
) -> None:
    person.environ.update(
        json.loads(person.run("--json", "sandbox", "env", "--proxy").stdout)["env"]
    )
    named = person.tool(*CURL, "https://console.vast.ai/api/v0/gpu_names/unique/")
    assert "RTX 4090" in json.loads(named.stdout)["gpu_names"], named.stderr
    other = person.tool(*CURL, "https://example.com/")
    assert other.returncode != 0
    assert "403" in other.stderr


CURL = ("curl", "-sS", "--max-time", "20")


def test_a_sandbox_in_the_foreground_serves_whoever_is_told_of_it_until_it_is_interrupted(
    person: Person,
) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "gpubroker", "--json", "sandbox", "--port", "0", "--speed", "5"],
        env=person.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        told = json.loads(server.stdout.readline())
        person.environ["GPUBROKER_SANDBOX"] = told["base_url"]
        words = (
            "launch",
            "--provider",
            "vast_ai",
            "--gpu",
            "4090",
            "--max-price",
            "1",
            "--ttl",
            "1h",
            "--name",
            "box",
        )
        assert json.loads(person.run("--json", *words).stdout)["state"] == "running"
        assert person.run("ssh", "box", "--", "nvidia-smi", "-L").stdout.startswith("GPU 0")
    finally:
        server.send_signal(signal.SIGINT)
        code = server.wait(30)
        if server.stdout is not None:
            server.stdout.close()
    assert code in {0, 130}


def test_variables_ports_and_the_startup_script_arrive(person: Person) -> None:
    script = person.home / "start.sh"
    script.write_text('echo "$GREETING" > ~/greeting.txt\ncd ~ && python3 -m http.server 8888 &\n')
    machine = person.launch(
        "--name", "box", "--port", "8888/tcp", "--startup-script", str(script),
        "--env", "GREETING=it's $HOME, \"quoted\"",
    )  # fmt: skip
    seen = person.run("ssh", "box", "--", 'cat greeting.txt; printf "%s\\n" "$GREETING"').stdout
    assert seen.splitlines() == ['it\'s $HOME, "quoted"'] * 2
    [port] = machine["ports"]
    assert port["container_port"] == 8888
    url = f"http://{port['host']}:{port['host_port']}/greeting.txt"
    served = person.tool(
        "curl", "-sS", "--retry", "20", "--retry-all-errors", "--retry-delay", "1", url
    )
    assert served.stdout == 'it\'s $HOME, "quoted"\n'
    assert "quoted" not in json.dumps(person.json("show", "box"))


def test_no_key_token_or_secret_value_stands_in_output_logs_or_plain_files(person: Person) -> None:
    env = json.loads(person.run("--json", "sandbox", "env").stdout)["env"]
    told = []
    for words in (
        (
            "launch",
            "--provider",
            "vast_ai",
            "--gpu",
            "4090",
            "--max-price",
            "1",
            "--ttl",
            "1h",
            "--name",
            "box",
        ),
        ("show", "box"),
        ("ps",),
        ("doctor",),
        ("providers",),
        ("terminate", "box"),
        ("sweep",),
    ):
        more = ("--env", "TOKEN=hf_do_not_tell_anybody") if words[0] == "launch" else ()
        ran = person.run("--sandbox", "--trace-http", *words, *more)
        told.append(ran.stdout + ran.stderr)
    assert "http: " in told[0]
    secrets = {env["VAST_API_KEY"], "hf_do_not_tell_anybody"}
    private = [
        line
        for path in person.state.glob("ssh/sandbox-*/gb-*")
        if path.suffix != ".pub"
        for line in path.read_text().splitlines()[1:3]
    ]
    assert private
    # The sandbox itself keeps its keys, and what a cloud is told it knows.
    files = [
        path
        for path in person.state.rglob("*")
        if path.is_file() and person.state / "sandbox" / "cloud" not in path.parents
    ]
    assert person.state / "sandbox" / "sandbox.log" in files
    kept = {path: path.read_bytes() for path in files}
    for secret in secrets | set(private):
        assert not any(secret in text for text in told), "told"
        holders = [path for path, content in kept.items() if secret.encode() in content]
        assert all(path.parent.name.startswith("sandbox-") for path in holders), holders


def test_the_doctor_tells_key_account_balance_and_clock(person: Person) -> None:
    person.control("/_sandbox/clock", {"advance_s": 86400})
    checks = person.json("doctor")["checks"]
    of_vast = {one["what"]: one["ok"] for one in checks if one["provider"] == "vast_ai"}
    told = ("key", "account", "scopes", "balance", "clock")
    assert of_vast == dict.fromkeys(told, True)
    [quota] = [
        one for one in checks if one["provider"] == "digitalocean" and one["what"] == "quota"
    ]
    assert (quota["ok"], quota["detail"]) == (True, "0 of 25 machines of droplet_limit")
    fault = {"provider": "vast_ai", "operation": "*", "kind": "bad_credentials"}
    person.control("/_sandbox/faults", fault)
    checks = person.json("doctor", code=1)["checks"]
    told_now = [one for one in checks if one["what"] == "account"]
    [account] = [one for one in told_now if one["provider"] == "vast_ai"]
    assert account["ok"] is False
    assert "make a new key" in account["fix"]
