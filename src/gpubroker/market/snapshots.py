"""Segments on disk: one file a provider, below a folder a realm.

A file that is missing, of another version, or damaged is no error: the market is asked again.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import msgspec
from msgspec import Struct

from gpubroker.market.book import Segment
from gpubroker.model.home import Home
from gpubroker.model.offer import Offer
from gpubroker.model.terms import Source

VERSION = 1
"""Of the stored form; files of any other are ignored."""

_SUFFIX = ".msgpack"
_PROVIDER = re.compile(r"[a-z0-9_]{1,40}")


class _File(Struct, frozen=True):
    version: int
    segment: msgspec.Raw


class Ignored(Struct, frozen=True):
    """A stored file that was not used, and why."""

    provider: str
    reason: str


class Snapshots:
    """The segments of one realm."""

    def __init__(self, home: Home, realm: str) -> None:
        self._folder = home.market / re.sub(r"[^a-zA-Z0-9]", "_", realm)

    def path(self, provider: str) -> Path:
        """Where a provider's segment is kept. ValueError for what is no provider's name."""
        if not _PROVIDER.fullmatch(provider):
            raise ValueError(f"not a provider's name: {provider!r}")
        return self._folder / f"{provider}{_SUFFIX}"

    def load(self, provider: str) -> Segment | Ignored:
        """The stored segment, or why there is none."""
        try:
            stored = msgspec.msgpack.decode(self.path(provider).read_bytes(), type=_File)
            if stored.version != VERSION:
                return Ignored(provider, f"stored in form {stored.version}, this is {VERSION}")
            segment = msgspec.msgpack.decode(stored.segment, type=Segment)
        except FileNotFoundError:
            return Ignored(provider, "not stored")
        except (OSError, msgspec.MsgspecError, RecursionError) as error:
            return Ignored(provider, f"damaged: {error}")
        if segment.provider != provider:
            return Ignored(provider, f"holds {segment.provider}")
        return segment

    def load_all(self) -> tuple[tuple[Segment, ...], tuple[Ignored, ...]]:
        """Every stored segment, and what was ignored."""
        found = [
            self.load(path.stem)
            for path in sorted(self._folder.glob(f"*{_SUFFIX}"))
            if _PROVIDER.fullmatch(path.stem)
        ]
        return (
            tuple(entry for entry in found if isinstance(entry, Segment)),
            tuple(entry for entry in found if isinstance(entry, Ignored)),
        )

    def save(self, segment: Segment) -> None:
        """Keep a segment; a reader sees the old file or the new one, never a part. OSError."""
        path = self.path(segment.provider)
        kept = msgspec.structs.replace(segment, offers=tuple(map(_as_cached, segment.offers)))
        content = msgspec.msgpack.encode(_File(VERSION, msgspec.Raw(msgspec.msgpack.encode(kept))))
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            with open(os.open(draft, flags, 0o600), "wb") as file:  # noqa: PTH123 - a descriptor, opened private
                file.write(content)
            draft.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise


def _as_cached(offer: Offer) -> Offer:
    """What is read back is not live any more."""
    if offer.source is not Source.LIVE:
        return offer
    return msgspec.structs.replace(offer, source=Source.CACHED)
