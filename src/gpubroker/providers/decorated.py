"""A provider inside its layers: the same methods, the same optional protocols."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

from gpubroker.model.errors import BrokerError
from gpubroker.model.offer import OfferPage
from gpubroker.model.query import Query
from gpubroker.providers.base import MUTATIONS, READS, Provider
from gpubroker.providers.calling import Call, in_call
from gpubroker.providers.layers import Layer

_ITERATED = "offers"
_ASK_NOTHING = ("ends_by_itself", "after_boot")
_PASSED_ON = ("name", "display_name", "website", "credentials", "capabilities")


class Decorated:
    """What the layers are put around. Made by `decorate`, which adds the provider's methods."""

    def __init__(
        self, inner: Provider, layers: Sequence[Layer], deadlines: Mapping[str, float]
    ) -> None:
        self.inner = inner
        self.account = inner.account
        self._layers = tuple(layers)
        self._deadlines = deadlines

    def console_url(self, ref: Any) -> str | None:
        """The page where a person sees it; asks nothing, so no layer."""
        return self.inner.console_url(ref)

    async def aclose(self) -> None:
        """Closes the provider's connections, where it has some."""
        close = getattr(self.inner, "aclose", None)
        if close is not None:
            await close()

    async def offers(self, query: Query) -> AsyncIterator[OfferPage]:
        """All pages of one try; those that came before a failure are given before it is raised."""
        call = self._call(_ITERATED, (query,))
        pages: list[OfferPage] = []

        async def collect() -> None:
            pages.clear()
            async for page in self.inner.offers(query):
                pages.append(page)  # noqa: PERF401 - what came before a failure must stay
            call.facts = {
                "pages": len(pages),
                "rows": sum(len(page.rows) for page in pages),
                "rejected": sum(len(page.rejected) for page in pages),
            }

        failure: BrokerError | None = None
        try:
            await self._through(call, collect)
        except BrokerError as error:
            failure = error
        for page in pages:
            yield page
        if failure is not None:
            raise failure

    async def around(self, operation: str, arguments: tuple[Any, ...], keywords: Any) -> Any:
        """One operation of the provider, through every layer."""
        method: Callable[..., Awaitable[Any]] = getattr(self.inner, operation)
        call = self._call(operation, arguments)
        return await self._through(call, lambda: method(*arguments, **keywords))

    def _call(self, operation: str, arguments: tuple[Any, ...]) -> Call:
        deadline_s = self._deadlines.get(operation)
        call = Call(self.inner.name, self.account, operation, arguments)
        if deadline_s is not None:
            call.deadline_s = deadline_s
        return call

    async def _through(self, call: Call, ask: Callable[[], Awaitable[Any]]) -> Any:
        proceed = ask
        for layer in reversed(self._layers):
            proceed = functools.partial(layer, call, proceed)
        with in_call(call):
            return await proceed()


def _method(operation: str, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def through_layers(self: Decorated, *arguments: Any, **keywords: Any) -> Any:
        return await self.around(operation, arguments, keywords)

    return through_layers


def _inner(name: str) -> Callable[..., Any]:
    def asks_nothing(self: Decorated, *arguments: Any) -> Any:
        return getattr(self.inner, name)(*arguments)

    return asks_nothing


@functools.cache
def _decorated_class(provider: type) -> type[Decorated]:
    # Real methods on a real class: `isinstance(x, Stoppable)` looks at the class from Python
    # 3.12 on, so that an answer of __getattr__ would not count.
    operations = {name for name in (READS | MUTATIONS) - {_ITERATED} if hasattr(provider, name)}
    members: dict[str, Any] = {name: _method(name, getattr(provider, name)) for name in operations}
    members |= {name: getattr(provider, name) for name in _PASSED_ON}
    members |= {name: _inner(name) for name in _ASK_NOTHING if hasattr(provider, name)}
    return type(f"Decorated{provider.__name__}", (Decorated,), members)


def decorate(
    provider: Provider,
    layers: Sequence[Layer],
    *,
    deadlines: Mapping[str, float] | None = None,
) -> Provider:
    """`provider` with `layers` around it, outermost first.

    `deadlines`: seconds an operation may take in all, its waiting and repetitions included.
    """
    wrapped = _decorated_class(type(provider))(provider, layers, deadlines or {})
    return cast("Provider", wrapped)
