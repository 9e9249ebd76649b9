"""Two computers on one PostgreSQL: one owner, one broker key, one fleet."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from gpubroker.broker import Broker
from gpubroker.model.home import Home
from gpubroker.store.errors import NoSecretKey

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


def computer(folder: Path, url: str, key: str = KEY) -> Broker:
    environ = {"DATABASE_URL": url, "GPUBROKER_SECRET_KEY": key, "HOME": str(folder)}
    return Broker(home=Home(folder), environ=environ)


def test_computers_on_one_store_log_in_with_one_key(postgres: str, tmp_path: Path) -> None:
    one, two = computer(tmp_path / "one", postgres), computer(tmp_path / "two", postgres)
    first, second = one._ssh.key(), two._ssh.key()
    assert first.private_path != second.private_path
    assert first.private_path.read_bytes() == second.private_path.read_bytes()
    assert first.public_line == second.public_line
    assert stat.S_IMODE(second.private_path.stat().st_mode) == 0o600
    one.close()
    two.close()


def test_the_key_lies_sealed_in_the_store(postgres: str, tmp_path: Path) -> None:
    import psycopg

    one = computer(tmp_path / "one", postgres)
    private = one._ssh.key().private_path.read_bytes()
    with psycopg.connect(postgres) as db:
        rows = db.execute("SELECT value FROM gpubroker.meta WHERE key = 'broker_key'").fetchall()
    [(stored,)] = rows
    assert private[40:80].hex() not in stored
    other = computer(tmp_path / "two", postgres, "OTg3NjU0MzIxMDk4NzY1NDMyMTA5ODc2NTQzMjEwOTg=")
    with pytest.raises(NoSecretKey, match="not the one that sealed"):
        other._ssh.key()
    one.close()
    other.close()
