"""Ways to reach people: a command, a signed webhook, a mail. Each has a deadline and tries once.

What goes wrong is told without what was sent, where it went or what signs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
import signal
from collections.abc import Mapping
from email.message import EmailMessage
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from msgspec import Struct

from gpubroker.providers.http import is_loopback, keep_addresses_out_of_logs

if TYPE_CHECKING:
    import ssl

DEADLINE_S = 20.0
SIGNATURE_HEADER = "Gpubroker-Signature"
TIMESTAMP_HEADER = "Gpubroker-Timestamp"
NOTICE_HEADER = "Gpubroker-Notice"
ENVIRONMENT = frozenset(
    {
        *("HOME", "LOGNAME", "PATH", "SYSTEMROOT", "TMPDIR", "TZ", "USER"),
        *("LANG", "LC_ALL"),
        *("DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR"),
    }
)
"""All that a command sees of our environment: keys of clouds are not among it."""


class Undelivered(Exception):
    """Why a warning did not get there, fit to be stored and shown."""


class Notice(Struct, frozen=True):
    """One warning as it is sent."""

    id: str
    """The same whenever it is sent again."""
    subject: str
    text: str
    body: bytes
    """The warning as JSON."""
    at: float
    """Of the sending, in seconds since the epoch."""


class Carrying(Protocol):
    """One configured channel."""

    async def send(self, message: Notice) -> None:
        """Raises Undelivered."""
        ...


class Command:
    """A program of the user's, run without a shell; the warning is on its standard input."""

    def __init__(
        self, argv: tuple[str, ...], environ: Mapping[str, str], *, deadline_s: float = DEADLINE_S
    ) -> None:
        self._argv = argv
        self._environ = {name: environ[name] for name in ENVIRONMENT & environ.keys()}
        self._deadline_s = deadline_s

    async def send(self, message: Notice) -> None:
        """Raises Undelivered."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env=self._environ,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise Undelivered(f"the command cannot be run ({type(error).__name__})") from None
        try:
            async with asyncio.timeout(self._deadline_s):
                await process.communicate(message.body)
        except TimeoutError:
            raise Undelivered(f"the command took more than {self._deadline_s:g} s") from None
        finally:
            if process.returncode is None:
                _kill(process)
                await process.wait()
        if process.returncode:
            raise Undelivered(f"the command exited with {process.returncode}")


class Webhook:
    """A POST with an HMAC-SHA256 over `timestamp.body`."""

    def __init__(
        self, url: str, secret: str, *, loopback_only: bool, deadline_s: float = DEADLINE_S
    ) -> None:
        self._url = url
        self._secret = secret
        self._loopback_only = loopback_only
        self._deadline_s = deadline_s

    async def send(self, message: Notice) -> None:
        """Raises Undelivered."""
        import httpx2

        _refuse_leaving(urlsplit(self._url).hostname, loopback_only=self._loopback_only)
        timestamp = f"{message.at:.0f}"
        headers = {
            "content-type": "application/json",
            "user-agent": "gpubroker",
            NOTICE_HEADER: message.id,
            TIMESTAMP_HEADER: timestamp,
            SIGNATURE_HEADER: signature(self._secret, timestamp, message.body),
        }
        keep_addresses_out_of_logs()
        try:
            async with (
                asyncio.timeout(self._deadline_s),
                httpx2.AsyncClient(
                    follow_redirects=False,
                    timeout=self._deadline_s,
                    trust_env=not self._loopback_only,
                ) as client,
                client.stream("POST", self._url, content=message.body, headers=headers) as answer,
            ):
                status = answer.status_code
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
            raise Undelivered(f"no answer ({type(error).__name__})") from None
        if not 200 <= status < 300:  # noqa: PLR2004 - HTTP's own classes
            raise Undelivered(f"answered with {status}")


class Mail:
    """One mail over SMTP, encrypted by STARTTLS."""

    def __init__(
        self,
        to: str,
        *,
        server: str,
        sender: str,
        login: tuple[str, str] | None,
        starttls: bool,
        loopback_only: bool,
        tls: ssl.SSLContext | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """`tls` replaces the system's certificates, in tests."""
        self._to = to
        self._host, _, port = server.rpartition(":")
        self._port = int(port)
        self._sender = sender
        self._login = login
        self._starttls = starttls
        self._loopback_only = loopback_only
        self._tls = tls
        self._deadline_s = deadline_s

    async def send(self, message: Notice) -> None:
        """Raises Undelivered."""
        _refuse_leaving(self._host, loopback_only=self._loopback_only)
        mail = EmailMessage()
        mail["From"], mail["To"] = self._sender, self._to
        mail["Subject"] = message.subject
        mail["Message-ID"] = f"<{message.id}@gpubroker.invalid>"
        mail.set_content(f"{message.text}\n")
        await asyncio.to_thread(self._deliver, mail)

    def _deliver(self, mail: EmailMessage) -> None:
        import smtplib
        import ssl

        try:
            with smtplib.SMTP(self._host, self._port, timeout=self._deadline_s) as server:
                if self._starttls:
                    server.starttls(context=self._tls or ssl.create_default_context())
                if self._login is not None:
                    server.login(*self._login)
                server.send_message(mail)
        except smtplib.SMTPResponseException as error:
            # The server's words may repeat what it was told: its number is enough.
            raise Undelivered(f"the mail server answered with {error.smtp_code}") from None
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise Undelivered(f"the mail was not taken ({type(error).__name__})") from None


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """What a receiver compares with the header, in constant time."""
    signed = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"v1={signed.hexdigest()}"


def _refuse_leaving(host: str | None, *, loopback_only: bool) -> None:
    if loopback_only and not is_loopback(host or ""):
        raise Undelivered("in a sandbox realm nothing leaves this machine")


def _kill(process: asyncio.subprocess.Process) -> None:
    """With all that it started, where there are process groups."""
    with contextlib.suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
