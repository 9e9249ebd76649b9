"""Where a cloud's words for "no such machine" are not known: its list says whether one is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gpubroker.model.errors import NotFound, OutcomeUnknown
from gpubroker.model.identity import Ref
from gpubroker.model.terms import State
from gpubroker.providers.rest import RestCloud

_MISSING = 404


@asynccontextmanager
async def absent_is_gone(cloud: RestCloud, ref: Ref) -> AsyncIterator[None]:
    """Around a terminate: NotFound is fine, and so is a 404 whose machine is in no list.

    Else an end that was asked for twice could not be told from one that failed. A 404 of a wrong
    path or a gateway stays OutcomeUnknown: the machine is listed, or there is no list.
    """
    try:
        yield
    except NotFound:
        return
    except OutcomeUnknown as unknown:
        if unknown.http_status != _MISSING:
            raise
        whole = await cloud.machines("list")
        there = any(one.ref == ref and one.state is not State.TERMINATED for one in whole.rows)
        if there or not whole.complete:
            raise
