"""The store: what was wanted, tried, seen and billed. Synchronous, one short transaction a step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec

from gpubroker.model.clock import boot_seconds
from gpubroker.model.identity import new_owner
from gpubroker.store.budgets import Budgets
from gpubroker.store.database import Database, bind_realm, marks
from gpubroker.store.errors import LeaseHeld, LeaseLost, NameTaken
from gpubroker.store.events import claimed, record
from gpubroker.store.expiries import Expiries
from gpubroker.store.gangs import Gangs
from gpubroker.store.notices import Notices
from gpubroker.store.processes import close_holder, open_holder, parse_holder
from gpubroker.store.registries import Registries
from gpubroker.store.rows import (
    AccountRow,
    AttemptRow,
    BalanceRow,
    EventRow,
    LaunchRow,
    NeedRow,
    UsageRow,
)

LEASE_S = 300.0
"""Longer than any provider's create deadline, renewed at every step."""

Row = TypeVar("Row", bound=msgspec.Struct)


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """The right to work on one launch, on the wall clock and on one that counts suspend."""

    launch_id: str
    fence: int
    until: float
    boot_until: float

    def left_s(self) -> float:
        """The lesser of both clocks; a suspended laptop wakes up with a lease that is over."""
        return min(self.until - time.time(), self.boot_until - boot_seconds())


class Writer:
    """Writes of one fenced transaction."""

    def __init__(self, db: Database, launch_id: str, at: float) -> None:
        self._db = db
        self._launch_id = launch_id
        self._at = at

    def launch(self, **columns: Any) -> None:
        """Set columns of the launch."""
        _update(self._db, "launches", columns, "id", self._launch_id)

    def counted_end(self, expires_at: float | None) -> None:
        """Its end, as it counts from a plan: one that was moved by hand stays."""
        self._db.execute(
            "UPDATE launches SET expires_at = ? WHERE id = ? AND end_wished = 0",
            (expires_at, self._launch_id),
        )

    def power(self, wanted: str, power_at: float | None) -> bool:
        """When its stop or start is seen to next. False, changing nothing: it is not wished now."""
        kept = self._db.execute(
            "UPDATE launches SET power_at = ? WHERE id = ? AND wanted = ?",
            (power_at, self._launch_id, wanted),
        )
        return kept.rowcount > 0

    def attempt(self, id: str, **columns: Any) -> None:
        """Set columns of one of its attempts."""
        _update(self._db, "attempts", columns, "id", id)

    def add_attempt(self, **columns: Any) -> None:
        """One more create call."""
        _insert(self._db, "attempts", {"launch_id": self._launch_id, **columns})

    def need(self, attempt_id: str, what: str, seq: int, status: str, ref: str | None) -> None:
        """A step of what must exist before the machine."""
        self._db.execute(
            "INSERT INTO needs (attempt_id, what, seq, status, ref) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (attempt_id, what) DO UPDATE SET status = excluded.status, "
            "ref = excluded.ref",
            (attempt_id, what, seq, status, ref),
        )

    def meter(self, attempt_id: str, rate: int | None, at: float) -> None:
        """From `at` on the machine costs `rate` an hour; None: nothing any more."""
        open_row = self._db.execute(
            "SELECT since, rate FROM usage WHERE attempt_id = ? AND until IS NULL", (attempt_id,)
        ).fetchone()
        if open_row is not None:
            if open_row["rate"] == rate:
                return
            at = max(at, open_row["since"])
            self._db.execute(
                "UPDATE usage SET until = ? WHERE attempt_id = ? AND until IS NULL",
                (at, attempt_id),
            )
        if rate is not None:
            self._db.execute(
                "INSERT INTO usage (attempt_id, since, rate) VALUES (?, ?, ?) "
                "ON CONFLICT (attempt_id, since) DO UPDATE SET rate = excluded.rate, until = NULL",
                (attempt_id, at, rate),
            )

    def metered_from(self, attempt_id: str, rate: int | None, at: float) -> None:
        """Its start is known now: what was metered until then by guess is void."""
        self._db.execute("DELETE FROM usage WHERE attempt_id = ?", (attempt_id,))
        self.meter(attempt_id, rate, at)

    def guarded(self, guard: Callable[[Database], None]) -> None:
        """What it raises undoes the transaction."""
        guard(self._db)

    def event(self, kind: str, attempt_id: str | None = None, **data: Any) -> None:
        """A line of the machine's history."""
        record(self._db, self._at, kind, self._launch_id, attempt_id, data)


class Store:
    """One realm's state in one database."""

    def __init__(self, db: Database, realm: str) -> None:
        """Takes `db` over. Raises WrongRealm where it belongs to another realm."""
        self.where = db.where
        self.realm = realm
        self.shared = db.shared
        self._db = db
        self.budgets = Budgets(db)
        self.expiries = Expiries(db)
        self.gangs = Gangs(db)
        self.notices = Notices(db)
        self.registries = Registries(db)
        try:
            self.owner = bind_realm(db, realm, new_owner)
        except BaseException:
            db.close()
            raise
        self._holder = open_holder()

    def close(self) -> None:
        """Close the database, and with it release our leases."""
        close_holder(self._holder)
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[Database]:
        with self._db.transaction() as db:
            yield db

    def agreed(self, key: str, value: str) -> str:
        """The value of a setting that all who share the store must have: the first one stays."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT DO NOTHING", (key, value)
            )
            row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
            return value if row is None else str(row["value"])

    # Launches and leases

    def add_launch(
        self,
        columns: Mapping[str, Any],
        first_attempt: Mapping[str, Any],
        at: float,
        guard: Callable[[Database], None] = lambda _: None,
    ) -> Lease:
        """Commit intent, its first attempt, and our lease on it, in one transaction.

        `guard` is asked before the commit, with the launch in place: what it raises undoes all.
        """
        [lease] = self.add_launches([(columns, first_attempt)], at, guard)
        return lease

    def add_launches(
        self,
        rows: Sequence[tuple[Mapping[str, Any], Mapping[str, Any] | None]],
        at: float,
        guard: Callable[[Database], None] = lambda _: None,
    ) -> list[Lease]:
        """As `add_launch`, several at once or none; one without an attempt waits to be planned."""
        leases = [_lease(columns["id"], 1) for columns, _ in rows]
        with self._transaction() as db:
            for columns, attempt in rows:
                self._add_launch(db, columns)
                if attempt is not None:
                    _insert(db, "attempts", {"launch_id": columns["id"], **attempt})
                first = None if attempt is None else attempt["id"]
                record(db, at, "launch", columns["id"], first, {})
            guard(db)
        return leases

    def _add_launch(self, db: Database, columns: Mapping[str, Any]) -> None:
        lease = {
            "holder": str(self._holder),
            "lease_until": db.now() + LEASE_S,
            "fence": 1,
        }
        try:
            _insert(db, "launches", {**columns, **lease})
        except db.duplicate as error:
            name = columns["name"]
            raise NameTaken(f"a machine named {name} has not ended") from error

    def acquire(self, launch_id: str) -> Lease:
        """Take or renew the lease. Raises LeaseHeld while another living process holds it."""
        asked_at = time.time(), boot_seconds()
        me = str(self._holder)
        with self._transaction() as db:
            now = db.now()
            row = self._locked(db, launch_id)
            held = row["holder"] not in {"", me} and row["lease_until"] > now
            if held and not (holder := parse_holder(row["holder"])).surely_dead():
                raise LeaseHeld(row["name"], holder.described)
            fence = row["fence"] if row["holder"] == me else row["fence"] + 1
            db.execute(
                "UPDATE launches SET holder = ?, lease_until = ?, fence = ? WHERE id = ?",
                (me, now + LEASE_S, fence, launch_id),
            )
        return _lease(launch_id, fence, *asked_at)

    def _locked(self, db: Database, launch_id: str) -> Mapping[str, Any]:
        """Who works on a launch; nobody else writes it before this transaction ends."""
        sql = "SELECT name, holder, lease_until, fence FROM launches WHERE id = ?"
        row = db.execute(f"{sql} {db.locking}", (launch_id,)).fetchone()
        if row is None:
            raise KeyError(launch_id)
        return row

    def release(self, lease: Lease) -> None:
        """Give the lease back; no effect where another process has it by now."""
        with self._transaction() as db:
            db.execute(
                "UPDATE launches SET holder = '', lease_until = 0 WHERE id = ? AND fence = ?",
                (lease.launch_id, lease.fence),
            )

    @contextmanager
    def fenced(self, lease: Lease, at: float) -> Iterator[Writer]:
        """One transaction of writes; raises LeaseLost, writing nothing, behind a newer fence."""
        with self._transaction() as db:
            row = self._locked(db, lease.launch_id)
            if row["fence"] != lease.fence:
                raise LeaseLost(f"{row['name']} was taken over by another gpubroker")
            yield Writer(db, lease.launch_id, at)

    def want(
        self,
        launch_id: str,
        wanted: str,
        at: float,
        why: str,
        guard: Callable[[Database], None] | None = None,
        power_at: float | None = None,
    ) -> None:
        """What the user wants from now on. No lease is needed: whoever holds it converges.

        `guard` is asked before the commit: what it raises undoes it. `power_at`: from then on
        whoever looks sees to the stop or start that this is; None: there is none to be seen to.
        """
        with self._transaction() as db:
            # "gone" is final: nothing wants a machine back that was ended.
            changed = db.execute(
                "UPDATE launches SET wanted = ? WHERE id = ? AND wanted <> ? "
                "AND wanted <> 'gone' AND ended_at IS NULL",
                (wanted, launch_id, wanted),
            )
            db.execute(
                "UPDATE launches SET power_at = ? WHERE id = ? AND wanted = ? AND ended_at IS NULL",
                (power_at, launch_id, wanted),
            )
            if changed.rowcount:
                record(db, at, "wanted", launch_id, None, {"wanted": wanted, "why": why})
            if guard is not None:
                guard(db)

    def launch(self, launch_id: str) -> LaunchRow:
        """By id."""
        return self._rows(LaunchRow, "SELECT * FROM launches WHERE id = ?", launch_id)[0]

    def launch_of_machine(self, provider: str, ref_id: str) -> str | None:
        """The launch that the cloud's id belongs to, the latest where ids are reused."""
        row = self._db.execute(
            "SELECT launch_id FROM attempts WHERE provider = ? AND ref_id = ? "
            "ORDER BY created_at DESC",
            (provider, ref_id),
        ).fetchone()
        return None if row is None else str(row["launch_id"])

    def launches(self, *, include_ended: bool = False) -> list[LaunchRow]:
        """In the order they were made."""
        where = "" if include_ended else "WHERE ended_at IS NULL"
        return self._rows(LaunchRow, f"SELECT * FROM launches {where} ORDER BY created_at, id")  # noqa: S608 - a constant

    def due(self, now: float) -> list[LaunchRow]:
        """Launches that the next command acts on: expired, undecided, not ready, owed an end.

        One that waits for stock is due when it is planned next; a gang while it forms; one that
        was to be stopped or started, until it is seen to be.
        """
        return self._rows(
            LaunchRow,
            "SELECT * FROM launches WHERE ended_at IS NULL AND (wanted = 'gone' "
            "OR expires_at <= ? OR gang_until IS NOT NULL "
            "OR (coalesce(next_plan_at, 0) <= ? AND NOT EXISTS (SELECT 1 FROM attempts "
            "WHERE launch_id = launches.id AND status = 'made' AND ready_at IS NOT NULL)) "
            "OR (on_preempt <> 'stay' AND wanted = 'running' AND EXISTS (SELECT 1 FROM attempts "
            "WHERE launch_id = launches.id AND status = 'made' AND wanted = 'running' "
            "AND ready_at IS NOT NULL AND state = 'preempted')) "
            "OR (power_at <= ? AND EXISTS (SELECT 1 FROM attempts WHERE launch_id = launches.id "
            "AND status = 'made' AND attempts.wanted = 'running' AND ready_at IS NOT NULL "
            "AND state NOT IN ('failed', 'terminating', 'terminated') "
            "AND (launches.wanted = 'running' OR state NOT IN ('stopped', 'preempted') "
            "OR (state = 'stopped' AND power_at > 0)))) "
            "OR EXISTS (SELECT 1 FROM attempts WHERE launch_id = launches.id "
            "AND (status IN ('intent', 'sending', 'unknown') "
            "OR (status = 'made' AND wanted = 'gone') OR (status IN "
            "('refused', 'absent', 'unsent', 'gone') AND EXISTS (SELECT 1 FROM needs "
            "WHERE attempt_id = attempts.id AND needs.status IN ('intent', 'made')))))) "
            "ORDER BY created_at, id",
            now,
            now,
            now,
        )

    def steady(self) -> list[AttemptRow]:
        """Machines that are ready and wanted: one list of each account serves them all."""
        return self._rows(
            AttemptRow,
            "SELECT attempts.* FROM attempts JOIN launches ON launches.id = launch_id "
            "WHERE status = 'made' AND ready_at IS NOT NULL AND attempts.wanted = 'running' "
            "AND launches.wanted <> 'gone' AND ended_at IS NULL ORDER BY attempts.created_at",
        )

    def next_due(self) -> float | None:
        """The earliest expiry or new plan to come, None where there is none."""
        row = self._db.execute(
            "SELECT min(at) AS at FROM (SELECT expires_at AS at FROM launches "
            "WHERE ended_at IS NULL AND wanted <> 'gone' UNION ALL "
            "SELECT next_plan_at AS at FROM launches "
            "WHERE ended_at IS NULL AND wanted <> 'gone') AS times"
        ).fetchone()
        return None if row is None or row["at"] is None else float(row["at"])

    def claim(self, name: str, now: float, for_s: float) -> bool:
        """Whether this process is to do that work now: for so long no other is told yes."""
        with self._transaction() as db:
            return claimed(db, name, now, now + for_s)

    def free(self, names: Sequence[str], now: float) -> list[str]:
        """Of these works those that nobody has claimed by now: a look, which claims none."""
        if not names:
            return []
        rows = self._db.execute(
            f"SELECT name FROM claims WHERE until > ? AND name IN ({marks(names)})",  # noqa: S608 - marks only
            (now, *names),
        )
        taken = {row["name"] for row in rows}
        return [name for name in names if name not in taken]

    def names(self) -> set[str]:
        """Of machines that have not ended."""
        rows = self._db.execute("SELECT name FROM launches WHERE ended_at IS NULL")
        return {row["name"] for row in rows}

    # Attempts

    def attempts(self, launch_id: str) -> list[AttemptRow]:
        """Of one launch, in the order they were made."""
        return self._rows(
            AttemptRow, "SELECT * FROM attempts WHERE launch_id = ? ORDER BY seq", launch_id
        )

    def attempts_of_provider(self, provider: str, account: str | None = None) -> list[AttemptRow]:
        """Every attempt of one account, or of all accounts, closed ones too."""
        if account is None:
            everywhere = "SELECT * FROM attempts WHERE provider = ? ORDER BY created_at"
            return self._rows(AttemptRow, everywhere, provider)
        return self._rows(
            AttemptRow,
            "SELECT * FROM attempts WHERE provider = ? AND account = ? ORDER BY created_at",
            provider,
            account,
        )

    def attempts_about(
        self, provider: str, ids: Sequence[str], ref_ids: Sequence[str]
    ) -> list[AttemptRow]:
        """Those of these ids, closed ones too, and those that have a machine of these ids.

        Neither may be empty.
        """
        return self._rows(
            AttemptRow,
            f"SELECT * FROM attempts WHERE id IN ({marks(ids)}) OR (provider = ? "  # noqa: S608 - marks only
            f"AND status = 'made' AND ref_id IN ({marks(ref_ids)})) ORDER BY created_at",
            *ids,
            provider,
            *ref_ids,
        )

    def bills_due(self, now: float) -> list[AttemptRow]:
        """Machines that are gone, whose bill is not final and to be asked for by now."""
        return self._rows(
            AttemptRow,
            "SELECT * FROM attempts WHERE bill_final = 0 AND status = 'gone' "
            "AND (bill_due_at IS NULL OR bill_due_at <= ?) ORDER BY closed_at",
            now,
        )

    def take_bill(self, attempt_id: str, was_due: float | None, next_due: float) -> bool:
        """Whether this process is the one to ask for a bill now; else another has taken it."""
        with self._transaction() as db:
            taken = db.execute(
                "UPDATE attempts SET bill_due_at = ? WHERE id = ? AND bill_final = 0 "
                "AND coalesce(bill_due_at, 0) = ?",
                (next_due, attempt_id, was_due or 0.0),
            )
            return taken.rowcount == 1

    def owed_releases(self, launch_id: str) -> set[str]:
        """Closed attempts of a launch that something was made for and not released."""
        rows = self._db.execute(
            "SELECT DISTINCT attempt_id FROM needs JOIN attempts ON attempts.id = attempt_id "
            "WHERE launch_id = ? AND needs.status IN ('intent', 'made') "
            "AND attempts.status IN ('refused', 'absent', 'unsent', 'gone')",
            (launch_id,),
        )
        return {row["attempt_id"] for row in rows}

    def needs(self, attempt_id: str) -> list[NeedRow]:
        """In the order they were made."""
        return self._rows(
            NeedRow, "SELECT * FROM needs WHERE attempt_id = ? ORDER BY seq", attempt_id
        )

    def usage(self, attempt_id: str) -> list[UsageRow]:
        """Metered stretches, oldest first."""
        return self._rows(
            UsageRow, "SELECT * FROM usage WHERE attempt_id = ? ORDER BY since", attempt_id
        )

    def bill(
        self,
        attempt_id: str,
        bill: str,
        at: float,
        *,
        final: bool,
        events: Mapping[str, Mapping[str, Any]],
    ) -> bool:
        """What the provider's record said, and `events` (kind -> data) with it, unless it is final.

        The machine is gone: no lease is needed. Answer: whether it was written.
        """
        with self._transaction() as db:
            written = db.execute(
                "UPDATE attempts SET bill = ?, bill_at = ?, bill_final = ? "
                "WHERE id = ? AND bill_final = 0",
                (bill, at, int(final), attempt_id),
            )
            if written.rowcount != 1:
                return False
            sql = "SELECT launch_id FROM attempts WHERE id = ?"
            row = db.execute(sql, (attempt_id,)).fetchone()
            for kind, data in events.items():
                record(db, at, kind, row["launch_id"] if row else None, attempt_id, data)
            return True

    # Money

    def charged_since(self, since: float) -> list[AttemptRow]:
        """Attempts that were metered at any time after `since`."""
        return self._rows(
            AttemptRow,
            "SELECT * FROM attempts WHERE id IN (SELECT attempt_id FROM usage "
            "WHERE until IS NULL OR until > ?) ORDER BY created_at, id",
            since,
        )

    def usage_since(self, since: float) -> list[UsageRow]:
        """Metered stretches that end after `since` or have not ended, oldest first."""
        return self._rows(
            UsageRow,
            "SELECT * FROM usage WHERE until IS NULL OR until > ? ORDER BY since, attempt_id",
            since,
        )

    def note_balance(self, provider: str, account: str, at: float, amount: int) -> None:
        """A reading of what an account had left, in nano-dollars."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO balances (provider, account, at, amount) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (provider, account, at) DO UPDATE SET amount = excluded.amount",
                (provider, account, at, amount),
            )

    def balances(
        self, provider: str, account: str, *, since: float = 0.0, until: float | None = None
    ) -> list[BalanceRow]:
        """Readings of one account from `since` to `until`, oldest first."""
        return self._rows(
            BalanceRow,
            "SELECT * FROM balances WHERE provider = ? AND account = ? AND at >= ? AND at <= ? "
            "ORDER BY at",
            provider,
            account,
            since,
            1e18 if until is None else until,
        )

    def events(self, launch_id: str) -> list[EventRow]:
        """A machine's history."""
        return self._rows(
            EventRow, "SELECT * FROM events WHERE launch_id = ? ORDER BY id", launch_id
        )

    def add_event(self, at: float, kind: str, **data: Any) -> None:
        """A line that belongs to no machine of ours."""
        with self._transaction() as db:
            record(db, at, kind, None, None, data)

    # Accounts

    def account(self, provider: str, alias: str) -> AccountRow | None:
        """What the alias is bound to."""
        rows = self._rows(
            AccountRow,
            "SELECT * FROM accounts WHERE provider = ? AND alias = ?",
            provider,
            alias,
        )
        return rows[0] if rows else None

    def bind_account(self, provider: str, alias: str, uid: str, frozen: str, at: float) -> None:
        """Bind at first use; later only `frozen` and the time change."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO accounts (provider, alias, uid, frozen, seen_at) "
                "VALUES (?, ?, ?, ?, ?) ON CONFLICT (provider, alias) DO UPDATE SET "
                "frozen = excluded.frozen, seen_at = excluded.seen_at",
                (provider, alias, uid, frozen, at),
            )

    def rebind_account(self, provider: str, alias: str, uid: str, at: float) -> None:
        """Another key of the same account, where the uid is the key's fingerprint."""
        with self._transaction() as db:
            db.execute(
                "UPDATE accounts SET uid = ?, frozen = '', seen_at = ? "
                "WHERE provider = ? AND alias = ?",
                (uid, at, provider, alias),
            )

    # No capacity, remembered with decay

    def cool_down(self, provider: str, cause: str, until: float, reason: str) -> None:
        """Leave out what shares the cause until then."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO cooldowns (provider, cause, until, reason) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (provider, cause) DO UPDATE SET until = excluded.until, "
                "reason = excluded.reason",
                (provider, cause, until, reason),
            )

    def cooldowns(self, now: float) -> dict[tuple[str, str], str]:
        """(provider, cause) -> reason, of those still on."""
        rows = self._db.execute(
            "SELECT provider, cause, reason FROM cooldowns WHERE until > ?", (now,)
        )
        return {(row["provider"], row["cause"]): row["reason"] for row in rows}

    # Rate limits, shared by all processes

    def reserve(self, bucket: str, interval_s: float, burst: int, now: float) -> float:
        """Take one place in a bucket; the answer is how long to wait for it, in seconds."""
        with self._transaction() as db:
            arrival = max(now, _arrival(db, bucket))
            _set_arrival(db, bucket, arrival + interval_s)
        return max(0.0, arrival - (burst - 1) * interval_s - now)

    def penalise(self, bucket: str, until: float) -> None:
        """Nobody before then: the provider said so."""
        with self._transaction() as db:
            _set_arrival(db, bucket, max(until, _arrival(db, bucket)))

    def _rows(self, kind: type[Row], sql: str, *parameters: Any) -> list[Row]:
        return [kind(**dict(row)) for row in self._db.execute(sql, parameters)]


def _lease(launch_id: str, fence: int, now: float | None = None, boot_s: float = 0.0) -> Lease:
    """As this computer's clocks see it: counted from before the database was asked."""
    if now is None:
        now, boot_s = time.time(), boot_seconds()
    return Lease(
        launch_id=launch_id,
        fence=fence,
        until=now + LEASE_S,
        boot_until=boot_s + LEASE_S,
    )


def _insert(db: Database, table: str, columns: Mapping[str, Any]) -> None:
    names = ", ".join(columns)
    marks = ", ".join("?" * len(columns))
    # Table and column names are the program's own, never input.
    db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(columns.values()))  # noqa: S608


def _update(db: Database, table: str, columns: Mapping[str, Any], key: str, id: str) -> None:
    settings = ", ".join(f"{name} = ?" for name in columns)
    db.execute(f"UPDATE {table} SET {settings} WHERE {key} = ?", (*columns.values(), id))  # noqa: S608 - as above


def _arrival(db: Database, bucket: str) -> float:
    """When the bucket's next place is due; nobody else reads it before this transaction ends."""
    db.execute("INSERT INTO limits (bucket, tat) VALUES (?, 0) ON CONFLICT DO NOTHING", (bucket,))
    sql = f"SELECT tat FROM limits WHERE bucket = ? {db.locking}"  # noqa: S608 - a constant
    row = db.execute(sql, (bucket,)).fetchone()
    return float(row["tat"]) if row else 0.0


def _set_arrival(db: Database, bucket: str, tat: float) -> None:
    db.execute("UPDATE limits SET tat = ? WHERE bucket = ?", (tat, bucket))
