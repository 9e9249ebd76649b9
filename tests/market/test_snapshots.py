"""Segments on disk."""

from __future__ import annotations

import stat
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec
import pytest

from gpubroker.market.book import Segment
from gpubroker.market.coverage import Answer
from gpubroker.market.snapshots import VERSION, Ignored, Snapshots
from gpubroker.model.home import Home
from gpubroker.model.offer import Offer
from gpubroker.model.query import GpuWanted, Query
from gpubroker.model.terms import Source

Build = Callable[..., Offer]


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshots:
    return Snapshots(Home(tmp_path), "live")


@pytest.fixture
def segment(an_offer: Build, now: datetime) -> Segment:
    asked = Query(gpus=(GpuWanted("H100"),))
    return Segment(
        "vast_ai", (an_offer("1", launch={"min_bid": 0.2}),), (Answer(asked, now, True),)
    )


def test_a_segment_comes_back_as_cached(snapshots: Snapshots, segment: Segment) -> None:
    snapshots.save(segment)
    loaded = snapshots.load("vast_ai")
    assert isinstance(loaded, Segment)
    assert loaded.answers == segment.answers
    cached = msgspec.structs.replace(segment.offers[0], source=Source.CACHED)
    assert loaded.offers == (cached,)
    assert snapshots.load_all() == ((loaded,), ())


def test_files_are_private_and_leave_no_draft(snapshots: Snapshots, segment: Segment) -> None:
    snapshots.save(segment)
    snapshots.save(segment)
    path = snapshots.path("vast_ai")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["vast_ai.msgpack"]


def test_realms_do_not_share_files(tmp_path: Path, segment: Segment) -> None:
    Snapshots(Home(tmp_path), "sandbox:abc").save(segment)
    assert Snapshots(Home(tmp_path), "live").load("vast_ai") == Ignored("vast_ai", "not stored")


@pytest.mark.parametrize("content", [b"", b"\x00", b"garbage", b"\xc1" * 99, b"\x81" * 4000])
def test_a_damaged_file_is_ignored_with_a_reason(
    snapshots: Snapshots, segment: Segment, content: bytes
) -> None:
    snapshots.save(segment)
    snapshots.path("vast_ai").write_bytes(content)
    loaded = snapshots.load("vast_ai")
    assert isinstance(loaded, Ignored)
    assert loaded.reason.startswith("damaged: ")
    assert snapshots.load_all() == ((), (loaded,))


def test_every_truncation_is_ignored(snapshots: Snapshots, segment: Segment) -> None:
    snapshots.save(segment)
    path = snapshots.path("vast_ai")
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        assert isinstance(snapshots.load("vast_ai"), Ignored)


def test_another_versions_file_is_ignored_whatever_it_holds(
    snapshots: Snapshots, segment: Segment
) -> None:
    snapshots.save(segment)
    newer = {"version": VERSION + 1, "segment": ["something", "else"]}
    snapshots.path("vast_ai").write_bytes(msgspec.msgpack.encode(newer))
    assert snapshots.load("vast_ai") == Ignored(
        "vast_ai", f"stored in form {VERSION + 1}, this is {VERSION}"
    )


def test_a_file_under_another_providers_name_is_ignored(
    snapshots: Snapshots, segment: Segment
) -> None:
    snapshots.save(segment)
    snapshots.path("vast_ai").rename(snapshots.path("runpod"))
    assert snapshots.load("runpod") == Ignored("runpod", "holds vast_ai")


def test_a_providers_name_is_no_path(snapshots: Snapshots) -> None:
    with pytest.raises(ValueError, match="not a provider's name"):
        snapshots.path("../../etc/passwd")
