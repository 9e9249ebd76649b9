"""The one way to a REST cloud: pooled connections, deadlines, and what an error proves.

A mutation is sent once: no retry here, none in the client beneath (its `retries=0` covers even
the connection), and no redirect is followed. httpcore2 sends a request again only where the
connection refused it before its first byte (`ConnectionNotAvailable`); a kept connection that
the server closed meanwhile is either seen to be closed before the send and replaced, or fails
after it, which is OutcomeUnknown. Whether a byte was sent is read from httpcore2's own trace
events, so that it does not depend on which exception came.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

import msgspec

from gpubroker.model.clock import Clock, SystemClock
from gpubroker.model.errors import (
    BadResponse,
    BrokerError,
    OutcomeUnknown,
    PolicyRefused,
    TimedOut,
    Unavailable,
)
from gpubroker.providers.base import MUTATIONS
from gpubroker.providers.calling import current_call
from gpubroker.providers.exchange import UNREADABLE, Answer, Exchange, Observer
from gpubroker.providers.redaction import Redactor

if TYPE_CHECKING:
    import ssl

    import httpx2

T = TypeVar("T")
MEBIBYTE = 1024 * 1024
LARGEST_BODY = 64 * MEBIBYTE
CONNECT_S = 10.0
READ_DEADLINE_S = 30.0
MUTATION_DEADLINE_S = 60.0
MOST_REDIRECTS = 3
REDIRECTS_OF_GET = frozenset({301, 302, 303, 307, 308})
REDIRECTS_OF_ANY = frozenset({307, 308})


@cache
def _trusted(*, trust_env: bool, file: str, folder: str) -> ssl.SSLContext:
    """Reading all certificates takes as long as a request: once for all clouds.

    `file`, `folder`: what the environment says of them, read by the library itself.
    """
    del file, folder
    import httpx2

    return httpx2.create_ssl_context(trust_env=trust_env)


class Transport:
    """HTTP for one account at one provider."""

    def __init__(
        self,
        provider: str,
        base_url: str,
        *,
        auth: Callable[[], Mapping[str, str]] = dict,
        redactor: Redactor | None = None,
        clock: Clock | None = None,
        loopback_only: bool = False,
        deadlines: Mapping[str, float] | None = None,
        observers: Sequence[Observer] = (),
        wire: httpx2.AsyncBaseTransport | None = None,
        largest_body: int = LARGEST_BODY,
    ) -> None:
        """`loopback_only`: the sandbox realm, where nothing may leave this machine.

        `wire` replaces the network, in tests.
        """
        self.provider = provider
        self.base_url = base_url.rstrip("/")
        self.redactor = redactor or Redactor()
        self.clock = clock or SystemClock()
        self._auth = auth
        self._loopback_only = loopback_only
        self._deadlines = deadlines or {}
        self._observers = tuple(observers)
        self._wire = wire
        self._largest_body = largest_body
        self._client: httpx2.AsyncClient | None = None

    async def aclose(self) -> None:
        """Closes the pooled connections."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    async def send(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        hide: Sequence[str] = (),
    ) -> Answer:
        """One request and its whole answer, of any status.

        `path`: below the base URL, or a whole address at another host of the same vendor. Whether
        it is a mutation is said by `operation`. `hide`: values of this request that are secrets.
        Raises Unavailable before a byte was sent; after it OutcomeUnknown for a mutation, else
        TimedOut, Unavailable or BadResponse.
        """
        content = None if json is None else msgspec.json.encode(json)
        url = path if path.startswith("https://") else self.base_url + path
        mutation = operation in MUTATIONS
        for _ in range(MOST_REDIRECTS + 1):
            request = _Request(self, operation, method, url, params, content, hide)
            answer = await request.perform()
            if not 300 <= answer.status < 400:  # noqa: PLR2004 - HTTP's own classes
                return answer
            if mutation:
                raise self.error(
                    OutcomeUnknown,
                    operation,
                    f"a redirect ({answer.status}), which is not followed",
                )
            url, params = self._redirected(operation, method, url, answer), None
        raise self.error(BadResponse, operation, "too many redirects")

    def _redirected(self, operation: str, method: str, url: str, answer: Answer) -> str:
        target = urljoin(url, answer.headers.get("location", ""))
        followed = REDIRECTS_OF_GET if method == "GET" else REDIRECTS_OF_ANY
        same_host = urlsplit(target)[:2] == urlsplit(url)[:2]
        if answer.status not in followed or not same_host or "location" not in answer.headers:
            raise self.error(
                BadResponse, operation, f"a redirect ({answer.status}) that is not followed"
            )
        return target

    def decode(self, operation: str, answer: Answer, shape: type[T]) -> T:
        """The body as `shape`. BadResponse where it is not; OutcomeUnknown for a mutation."""
        try:
            return msgspec.json.decode(answer.body, type=shape)
        except UNREADABLE as fault:
            reason = str(fault)
        kind = OutcomeUnknown if operation in MUTATIONS else BadResponse
        raise self.error(kind, operation, f"an answer that does not parse: {reason}", answer)

    def error(
        self,
        kind: type[BrokerError],
        operation: str,
        happened: str,
        answer: Answer | None = None,
    ) -> BrokerError:
        """An error of this provider, with the answer's text redacted."""
        redactor = self.redactor.hiding(answer.hidden) if answer else self.redactor
        raw = redactor.body(answer.body) if answer else ""
        error = kind(
            f"{self.provider}, {operation}: {redactor.text(happened)}",
            provider=self.provider,
            operation=operation,
            raw=raw,
            http_status=answer.status if answer else None,
        )
        if isinstance(error, BadResponse):
            error.body = raw.encode()
        return error

    def check_destination(self, url: str, operation: str) -> None:
        """In a sandbox realm every host but loopback is refused, before anything connects."""
        if self._loopback_only and not is_loopback(urlsplit(url).hostname or ""):
            raise self.error(
                PolicyRefused, operation, "in a sandbox realm no request leaves this machine"
            )

    def client(self) -> httpx2.AsyncClient:
        """The pooled client, made at first use."""
        if self._client is None:
            import httpx2

            keep_addresses_out_of_logs()
            self._client = httpx2.AsyncClient(
                transport=self._wire,
                verify=_trusted(
                    trust_env=not self._loopback_only,
                    file=os.environ.get("SSL_CERT_FILE", ""),
                    folder=os.environ.get("SSL_CERT_DIR", ""),
                ),
                follow_redirects=False,
                trust_env=not self._loopback_only,
                limits=httpx2.Limits(max_connections=50, max_keepalive_connections=10),
                headers={"user-agent": "gpubroker", "accept": "application/json"},
            )
        return self._client

    def deadline_s(self, operation: str) -> float:
        """For one request, all phases together."""
        usual = MUTATION_DEADLINE_S if operation in MUTATIONS else READ_DEADLINE_S
        return self._deadlines.get(operation, usual)

    @property
    def on_network(self) -> bool:
        """Whether a real connection reports its phases."""
        return self._wire is None

    def authorize(self, auth: Callable[[], Mapping[str, str]]) -> None:
        """Another source of the credentials: a token that the key is exchanged for."""
        self._auth = auth

    def auth_headers(self) -> Mapping[str, str]:
        """The account's credentials, in the vendor's form."""
        return self._auth()

    @property
    def largest_body(self) -> int:
        """Bytes, after decompression."""
        return self._largest_body

    def observe(self, exchange: Callable[[], Exchange]) -> None:
        """Hands the exchange to who wants it; nothing is redacted where nobody does."""
        call = current_call()
        recorded = call.exchanges if call else None
        if not self._observers and recorded is None:
            return
        seen = exchange()
        if recorded is not None:
            recorded.append(seen)
        for observer in self._observers:
            observer(seen)


def is_loopback(host: str) -> bool:
    """Whether a host name of a URL can only mean this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Request:
    """One request on the wire, and the proof of whether any of it was sent."""

    def __init__(
        self,
        transport: Transport,
        operation: str,
        method: str,
        url: str,
        params: Mapping[str, str] | None,
        content: bytes | None,
        hide: Sequence[str],
    ) -> None:
        self._transport = transport
        self._operation = operation
        self._method = method
        self._url = url
        self._params = params
        self._content = content
        self._hide = hide
        self._built: httpx2.Request | None = None
        # A wire of a test reports no phases: only the exception tells.
        self._sent = not transport.on_network

    async def perform(self) -> Answer:
        transport, operation = self._transport, self._operation
        transport.check_destination(self._url, operation)
        call = current_call()
        if call and call.before_request:
            await call.before_request()
        started, asked_at = time.monotonic(), transport.clock.now()
        try:
            async with asyncio.timeout(transport.deadline_s(operation)):
                answer = await self._exchange(asked_at)
        except BrokerError as error:
            self._observe(None, started, error.word)
            raise
        except TimeoutError:
            late = self._failed("no answer within the deadline", TimedOut)
            self._observe(None, started, late.word)
            raise late from None
        self._observe(answer, started, "answered")
        return answer

    async def _exchange(self, asked_at: datetime) -> Answer:
        import httpx2

        client = self._transport.client()
        limit_s = self._transport.deadline_s(self._operation)
        headers = dict(self._transport.auth_headers())
        if self._content is not None:
            headers["content-type"] = "application/json"
        connect_s = min(CONNECT_S, limit_s / 2)
        try:
            self._built = client.build_request(
                self._method,
                self._url,
                params=self._params,
                content=self._content,
                headers=headers,
                timeout=httpx2.Timeout(limit_s, connect=connect_s, pool=connect_s),
                extensions={"trace": self._trace},
            )
            response = await client.send(self._built, stream=True)
            try:
                body = await self._read(response)
            finally:
                await response.aclose()
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as fault:
            self._sent = False
            raise self._failed(type(fault).__name__, Unavailable) from None
        except (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, httpx2.InvalidURL) as fault:
            self._sent = False
            raise self._failed(type(fault).__name__, Unavailable) from None
        except httpx2.TimeoutException as fault:
            raise self._failed(type(fault).__name__, TimedOut) from None
        except httpx2.DecodingError as fault:
            raise self._failed(type(fault).__name__, BadResponse) from None
        except httpx2.HTTPError as fault:
            raise self._failed(type(fault).__name__, Unavailable) from None
        received = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, received, body, asked_at, tuple(self._hide))

    async def _read(self, response: httpx2.Response) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.aiter_bytes():
            size += len(chunk)
            if size > self._transport.largest_body:
                raise self._failed(
                    f"an answer of more than {self._transport.largest_body} bytes", BadResponse
                )
            chunks.append(chunk)
        return b"".join(chunks)

    async def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        # A CONNECT to a proxy is not yet a byte of ours to the vendor.
        if event.endswith("send_request_headers.started"):
            request = info.get("request")
            self._sent = self._sent or getattr(request, "method", b"") != b"CONNECT"

    def _failed(self, happened: str, of_a_read: type[BrokerError]) -> BrokerError:
        if not self._sent:
            kind: type[BrokerError] = Unavailable
        else:
            kind = OutcomeUnknown if self._operation in MUTATIONS else of_a_read
        return self._transport.error(kind, self._operation, happened)

    def _observe(self, answer: Answer | None, started: float, outcome: str) -> None:
        redactor = self._transport.redactor.hiding(self._hide)

        def exchange() -> Exchange:
            url = str(self._built.url) if self._built is not None else self._url
            sent = dict(self._built.headers) if self._built is not None else {}
            return Exchange(
                operation=self._operation,
                method=self._method,
                url=redactor.url(url),
                request_headers=redactor.headers(sent),
                request_body=redactor.body(self._content or b""),
                status=answer.status if answer else None,
                headers=redactor.headers(answer.headers) if answer else {},
                body=redactor.body(answer.body) if answer else "",
                seconds=time.monotonic() - started,
                outcome=outcome,
            )

        self._transport.observe(exchange)


def keep_addresses_out_of_logs() -> None:
    """The HTTP client logs whole addresses: queries and a webhook's path may be secrets."""
    import logging

    logging.getLogger("httpx2").addFilter(_never)


def _never(_record: object) -> bool:
    return False
