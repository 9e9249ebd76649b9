"""A command, a webhook and a mail, each against a real receiver on loopback."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import ssl
import sys
from pathlib import Path

import pytest
import trustme
from tests.fleet.receivers import http, smtp

from gpubroker.fleet.channels import Command, Mail, Notice, Undelivered, Webhook, signature

NOTICE = Notice(
    "abcdef-7", "gpubroker train-1: expiring", "train-1 ends", b'{"a": 1}', 1767268800.0
)
SECRET = "sesame-of-the-test"


def hook(url: str, *, loopback_only: bool = True, deadline_s: float = 10.0) -> Webhook:
    return Webhook(url, SECRET, loopback_only=loopback_only, deadline_s=deadline_s)


# Webhooks


async def test_a_webhook_is_signed_over_timestamp_and_body() -> None:
    with http() as (url, heard):
        await hook(url).send(NOTICE)
    [(first, headers, body)] = heard.requests
    assert first.startswith("POST /hook?key=in-the-path ")
    assert body == NOTICE.body
    assert headers["gpubroker-notice"] == "abcdef-7"
    assert headers["gpubroker-timestamp"] == "1767268800"
    expected = hmac.new(SECRET.encode(), b'1767268800.{"a": 1}', hashlib.sha256).hexdigest()
    assert headers["gpubroker-signature"] == f"v1={expected}"


def test_the_signature_depends_on_each_part() -> None:
    base = signature("s", "1", b"b")
    assert len({base, signature("t", "1", b"b"), signature("s", "2", b"b"),
                signature("s", "1", b"c")}) == 4  # fmt: skip


@pytest.mark.parametrize("status", [302, 400, 503])
async def test_an_answer_that_is_no_yes_is_a_failure_without_the_address(status: int) -> None:
    said = f"answered with {status}"
    with http(status) as (url, _), pytest.raises(Undelivered, match=said) as caught:
        await hook(url).send(NOTICE)
    assert "in-the-path" not in str(caught.value)
    assert SECRET not in f"{caught.value!r}"


async def test_a_receiver_that_does_not_answer_is_left_at_the_deadline() -> None:
    with http(0) as (url, _), pytest.raises(Undelivered, match="no answer"):
        await hook(url, deadline_s=0.2).send(NOTICE)


async def test_nobody_at_home_is_a_failure() -> None:
    with pytest.raises(Undelivered, match="no answer"):
        await hook("http://127.0.0.1:1/").send(NOTICE)


@pytest.mark.parametrize(
    "url", ["https://hooks.example/x", "http://10.0.0.1/", "http://127.0.0.1.example/"]
)
async def test_in_a_sandbox_realm_nothing_leaves_loopback(url: str) -> None:
    with pytest.raises(Undelivered, match="nothing leaves this machine"):
        await hook(url).send(NOTICE)
    mail = Mail(
        "me@example.com", server="smtp.example.com:25", sender="me@example.com", login=None,
        starttls=True, loopback_only=True,
    )  # fmt: skip
    with pytest.raises(Undelivered, match="nothing leaves this machine"):
        await mail.send(NOTICE)


# Commands


def script(folder: Path, text: str) -> tuple[str, ...]:
    file = folder / "tell.py"
    file.write_text(text)
    return (sys.executable, str(file), str(folder / "out"))


async def test_a_command_gets_the_warning_on_standard_input_and_none_of_our_keys(
    tmp_path: Path,
) -> None:
    argv = script(
        tmp_path,
        "import json, os, sys\n"
        "open(sys.argv[1], 'w').write(json.dumps([sys.stdin.read(), dict(os.environ)]))\n",
    )
    environ = {**os.environ, "VAST_AI_API_KEY": "k", "GPUBROKER_SECRET_KEY": "s"}
    await Command(argv, environ).send(NOTICE)
    told, seen = json.loads((tmp_path / "out").read_text())
    assert told == '{"a": 1}'
    assert not [name for name in seen if "KEY" in name]
    assert seen["PATH"] == os.environ["PATH"]


async def test_a_command_is_no_shell_line(tmp_path: Path) -> None:
    argv = script(tmp_path, "import sys; open(sys.argv[1], 'w').write(sys.argv[2])")
    await Command((*argv, "$(id); `id`"), os.environ).send(NOTICE)
    assert (tmp_path / "out").read_text() == "$(id); `id`"


async def test_a_command_that_fails_or_is_not_there_is_a_failure(tmp_path: Path) -> None:
    argv = script(tmp_path, "import sys; sys.exit('the secret is sesame')")
    with pytest.raises(Undelivered, match=r"^the command exited with 1$"):
        await Command(argv, os.environ).send(NOTICE)
    with pytest.raises(Undelivered, match="cannot be run"):
        await Command(("/no/such/program",), os.environ).send(NOTICE)


async def test_a_command_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    argv = script(
        tmp_path,
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "open(sys.argv[1] + '.part', 'w').write(str(child.pid))\n"
        "os.rename(sys.argv[1] + '.part', sys.argv[1])\n"
        "time.sleep(60)\n",
    )
    with pytest.raises(Undelivered, match="took more than"):
        await Command(argv, os.environ, deadline_s=2.0).send(NOTICE)
    pid = int((tmp_path / "out").read_text())
    for _ in range(500):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        await asyncio.sleep(0.01)
    pytest.fail("its child lives on")


# Mail


def certificates() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


def mail(server: str, tls: ssl.SSLContext | None, *, login: bool = True) -> Mail:
    return Mail(
        "me@example.com", server=server, sender="gpubroker@example.com",
        login=("me", SECRET) if login else None, starttls=tls is not None, loopback_only=True,
        tls=tls, deadline_s=10.0,
    )  # fmt: skip


async def test_a_mail_goes_out_encrypted_with_a_login() -> None:
    server_tls, client_tls = certificates()
    with smtp(server_tls) as (server, heard):
        await mail(server, client_tls).send(NOTICE)
    assert heard.encrypted
    starttls = heard.lines.index("STARTTLS")
    [auth] = [line for line in heard.lines if line.startswith("AUTH PLAIN")]
    assert heard.lines.index(auth) > starttls
    assert base64.b64decode(auth.split()[2]) == f"\0me\0{SECRET}".encode()
    assert "Subject: gpubroker train-1: expiring" in heard.lines
    assert "To: me@example.com" in heard.lines
    assert "train-1 ends" in heard.lines


async def test_a_server_that_cannot_encrypt_gets_nothing() -> None:
    _, client_tls = certificates()
    with smtp(None) as (server, heard), pytest.raises(Undelivered, match="was not taken"):
        await mail(server, client_tls).send(NOTICE)
    assert not [line for line in heard.lines if line.startswith(("AUTH", "MAIL"))]


async def test_a_certificate_that_nobody_vouches_for_is_refused() -> None:
    server_tls, _ = certificates()
    _, stranger = certificates()
    with smtp(server_tls) as (server, heard), pytest.raises(Undelivered, match="was not taken"):
        await mail(server, stranger).send(NOTICE)
    assert not [line for line in heard.lines if line.startswith(("AUTH", "MAIL"))]


async def test_a_refused_login_is_told_by_its_number_only() -> None:
    server_tls, client_tls = certificates()
    said = r"^the mail server answered with 535$"
    with smtp(server_tls, login=535) as (server, _), pytest.raises(Undelivered, match=said):
        await mail(server, client_tls).send(NOTICE)


async def test_a_server_on_this_computer_may_be_spoken_to_in_the_clear() -> None:
    with smtp(None) as (server, heard):
        await mail(server, None, login=False).send(NOTICE)
    assert "train-1 ends" in heard.lines


async def test_the_address_of_a_webhook_stands_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"), http() as (url, heard):
        await hook(url).send(NOTICE)
    assert heard.requests
    assert "in-the-path" not in caplog.text
