-- Times are seconds since the epoch, UTC. Money is nano-dollars. JSON is text.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- An account alias, bound to the provider's own uid at first use.
CREATE TABLE accounts (
    provider TEXT NOT NULL,
    alias    TEXT NOT NULL,
    uid      TEXT NOT NULL,
    frozen   TEXT NOT NULL DEFAULT '',   -- why nothing may be closed or ended, '' while all is well
    seen_at  DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (provider, alias)
);

-- What the user asked for: one row a machine name.
CREATE TABLE launches (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    wanted      TEXT NOT NULL CHECK (wanted IN ('running', 'stopped', 'gone')),
    spec        BLOB NOT NULL,           -- sealed LaunchSpec
    image       TEXT,
    disk_gb     DOUBLE PRECISION,
    candidates  TEXT NOT NULL,           -- JSON list of offers not tried yet, best first
    tolerance   DOUBLE PRECISION NOT NULL,  -- accepted price increase, 0.1 = 10 %
    max_price   BIGINT,                  -- per hour; a dearer machine is given back
    created_at  DOUBLE PRECISION NOT NULL,
    expires_at  DOUBLE PRECISION,
    ended_at    DOUBLE PRECISION,
    error       TEXT NOT NULL DEFAULT '',
    error_code  TEXT NOT NULL DEFAULT '',
    holder      TEXT NOT NULL DEFAULT '',
    lease_until DOUBLE PRECISION NOT NULL DEFAULT 0,
    fence       BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX launches_by_name ON launches (name) WHERE ended_at IS NULL;
CREATE INDEX launches_open ON launches (expires_at) WHERE ended_at IS NULL;

-- One create call each. Kept 90 days: a machine that carries a closed attempt is owed a delete.
CREATE TABLE attempts (
    id           TEXT PRIMARY KEY,
    launch_id    TEXT NOT NULL REFERENCES launches (id),
    seq          INTEGER NOT NULL,
    provider     TEXT NOT NULL,
    account      TEXT NOT NULL,
    scope        TEXT NOT NULL DEFAULT '',
    offer        TEXT NOT NULL,          -- JSON
    price        BIGINT NOT NULL,        -- quoted per hour, running, with the wanted disk
    price_stopped BIGINT NOT NULL,
    status       TEXT NOT NULL,          -- see store/rows.py: AttemptStatus
    wanted       TEXT NOT NULL DEFAULT 'running',
    ref_id       TEXT,
    console_url  TEXT,
    expiry       TEXT NOT NULL DEFAULT 'controller_only',
    created_at   DOUBLE PRECISION NOT NULL,
    sent_at      DOUBLE PRECISION,
    absent_after DOUBLE PRECISION,       -- an unknown create counts as not done only after this
    made_at      DOUBLE PRECISION,
    ready_at     DOUBLE PRECISION,
    closed_at    DOUBLE PRECISION,
    keys_given   INTEGER NOT NULL DEFAULT 0,
    instance     TEXT,                   -- JSON, as last seen
    seen_at      DOUBLE PRECISION,
    phase        TEXT NOT NULL DEFAULT 'allocating',
    phase_since  DOUBLE PRECISION NOT NULL,
    look_failed  TEXT NOT NULL DEFAULT '',
    misses       INTEGER NOT NULL DEFAULT 0,
    missed_at    DOUBLE PRECISION,
    end_asked_at DOUBLE PRECISION,
    outcome      TEXT NOT NULL DEFAULT 'pending',
    reason       TEXT NOT NULL DEFAULT '',
    error_code   TEXT NOT NULL DEFAULT '',
    bill         TEXT,                   -- JSON
    bill_at      DOUBLE PRECISION,
    bill_final   INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX attempts_by_launch ON attempts (launch_id, seq);
CREATE INDEX attempts_unbilled ON attempts (closed_at) WHERE bill_final = 0;

-- What had to exist before a machine, step by step.
CREATE TABLE needs (
    attempt_id TEXT NOT NULL REFERENCES attempts (id),
    what       TEXT NOT NULL,
    seq        INTEGER NOT NULL,
    status     TEXT NOT NULL,            -- intent, made, released, shared
    ref        TEXT,                     -- JSON
    PRIMARY KEY (attempt_id, what)
);

-- Metered use: one row a stretch of one state at one rate; cost is rounded once for each.
CREATE TABLE usage (
    attempt_id TEXT NOT NULL REFERENCES attempts (id),
    since      DOUBLE PRECISION NOT NULL,
    until      DOUBLE PRECISION,
    rate       BIGINT NOT NULL,
    PRIMARY KEY (attempt_id, since)
);

CREATE TABLE events (
    id         INTEGER PRIMARY KEY,
    at         DOUBLE PRECISION NOT NULL,
    launch_id  TEXT,
    attempt_id TEXT,
    kind       TEXT NOT NULL,
    data       TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX events_by_launch ON events (launch_id, id);

-- Theoretical arrival times of the rate limits, shared by all processes.
CREATE TABLE limits (
    bucket TEXT PRIMARY KEY,
    tat    DOUBLE PRECISION NOT NULL
);

-- Where there was no capacity, remembered with decay.
CREATE TABLE cooldowns (
    provider TEXT NOT NULL,
    cause    TEXT NOT NULL,              -- offer, type and region, region, or all of the provider
    until    DOUBLE PRECISION NOT NULL,
    reason   TEXT NOT NULL,
    PRIMARY KEY (provider, cause)
);
