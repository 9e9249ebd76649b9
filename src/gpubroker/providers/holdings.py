"""Things that stay in an account beside its machines, as a table: listed for the sweep, deleted."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar

from msgspec import Struct

from gpubroker.model.errors import NotFound
from gpubroker.model.identity import Ref
from gpubroker.model.instance import Holdings
from gpubroker.model.terms import Resource
from gpubroker.providers.bounds import Bounds
from gpubroker.providers.carriers import held
from gpubroker.providers.fields import Text, Told
from gpubroker.providers.paging import Whole
from gpubroker.providers.rest import RestCloud


class Thing(Struct):
    """A key, volume, script or the like: all else about it is left unread."""

    id: Told | int
    name: Text | None = None


class Shelf(Struct, frozen=True):
    """One sort of them, and where the vendor keeps it."""

    what: Resource
    path: str
    """Of the list: a GET without pages."""
    under: str = ""
    """Where in the answer the list stands."""
    delete: str = "DELETE {path}/{id}"
    rows: Any = tuple[Thing, ...]
    """Of structs that have `id` and `name`."""


class KeepsThings(RestCloud):
    """A cloud whose things beside machines are `shelves`. Lists with pages: override `on_shelf`."""

    shelves: ClassVar[Sequence[Shelf]]

    async def on_shelf(self, operation: str, shelf: Shelf) -> Whole[Any]:
        """Every thing of one sort."""
        rows = await self.ask_for(shelf.rows, operation, "GET", shelf.path, under=shelf.under)
        return Whole(rows, complete=True)

    async def resources(self, scope: str) -> Holdings:
        """Everything on the shelves, with the account's uid read beside it."""
        uid = await self.uid_beside("resources")
        found, complete = [], True
        for shelf in self.shelves:
            whole = await self.on_shelf("resources", shelf)
            complete = complete and whole.complete
            found += [held(shelf.what, self.ref(one.id), one.name or "") for one in whole.rows]
        return Holdings(uid, scope, complete, tuple(found))

    async def discard(self, what: Resource, ref: Ref) -> None:
        """A thing that no machine uses; gone already is fine."""
        await self.remove("discard", what, ref)

    async def remove(self, operation: str, what: Resource, ref: Ref) -> None:
        """Off its shelf, by whatever operation; gone already is fine."""
        shelf = next((one for one in self.shelves if one.what is what), None)
        if shelf is None:
            raise self.unsupported(operation, what.value)
        # Where creates name a thing and deletes number it, its ref is `name/number`.
        id_ = Bounds(self.name).plain_id(ref.id.rpartition("/")[2], "ref")
        method, path = shelf.delete.format(path=shelf.path, id=id_).split(" ", 1)
        with suppress(NotFound):
            await self.ask(operation, method, path)
