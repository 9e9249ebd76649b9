"""HTTP to a port of a machine, for vendors whose gateways lead there under names of their own."""

from __future__ import annotations

from collections.abc import Collection

from starlette.requests import Request
from starlette.responses import Response

from gpubroker.sandbox.emulators.base import vendor_path
from gpubroker.sandbox.published import LOOPBACK

_OF_A_HOP = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class Unanswered(Exception):
    """The machine said nothing; `late`: within the time it has, else not at all."""

    def __init__(self, *, late: bool) -> None:
        super().__init__("no answer in time" if late else "no answer")
        self.late = late


async def forward(
    request: Request, port: int, *, patience_s: float, kept_back: Collection[str] = ()
) -> Response:
    """What answers on a published port. Headers of `kept_back` (lower case) stay with the gateway.

    Raises Unanswered.
    """
    import httpx2

    unsent = _OF_A_HOP.union(kept_back)
    headers = [(name, value) for name, value in request.headers.items() if name not in unsent]
    headers.append(("host", request.headers["host"]))
    url = f"http://{LOOPBACK}:{port}{vendor_path(request)}"
    if request.url.query:
        url += f"?{request.url.query}"
    body = await request.body()
    try:
        async with httpx2.AsyncClient(timeout=patience_s, trust_env=False) as client:
            told = await client.request(request.method, url, headers=headers, content=body)
    except httpx2.TimeoutException:
        raise Unanswered(late=True) from None
    except httpx2.HTTPError:
        raise Unanswered(late=False) from None
    answer = Response(told.content, told.status_code)
    for name, value in told.headers.multi_items():
        if name.lower() not in _OF_A_HOP:
            answer.headers.append(name, value)
    return answer
