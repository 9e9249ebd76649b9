-- What a fleet that is kept for ever needs beyond one launch at a time.

-- Whom it is for, and how to plan it again.
ALTER TABLE launches ADD COLUMN project TEXT NOT NULL DEFAULT '';
ALTER TABLE launches ADD COLUMN tags TEXT NOT NULL DEFAULT '{}';         -- JSON object of text
ALTER TABLE launches ADD COLUMN request BLOB;                            -- sealed LaunchRequest
ALTER TABLE launches ADD COLUMN retry_until DOUBLE PRECISION;            -- plans anew until then
ALTER TABLE launches ADD COLUMN next_plan_at DOUBLE PRECISION;
ALTER TABLE launches ADD COLUMN gang TEXT NOT NULL DEFAULT '';           -- all of one gang, or none
ALTER TABLE launches ADD COLUMN gang_until DOUBLE PRECISION;
ALTER TABLE launches ADD COLUMN on_preempt TEXT NOT NULL DEFAULT 'stay'; -- see LaunchRequest
ALTER TABLE launches ADD COLUMN preempted INTEGER NOT NULL DEFAULT 0;    -- how often, so far
ALTER TABLE launches ADD COLUMN idle_s DOUBLE PRECISION;                 -- ended after so long idle
ALTER TABLE launches ADD COLUMN idle_since DOUBLE PRECISION;
ALTER TABLE launches ADD COLUMN idle_word TEXT NOT NULL DEFAULT '';      -- busy, idle, cannot tell
ALTER TABLE launches ADD COLUMN looked_idle_at DOUBLE PRECISION;

-- The end that the machine's timer or its provider has confirmed; the earlier one is the truth.
ALTER TABLE attempts ADD COLUMN expires_at DOUBLE PRECISION;
ALTER TABLE attempts ADD COLUMN mismatch TEXT NOT NULL DEFAULT '';       -- record against request
CREATE INDEX attempts_by_account ON attempts (provider, account) WHERE status = 'made';

-- Work that one process does for all: who claimed it last, and until when nobody else does it.
CREATE TABLE claims (
    name  TEXT PRIMARY KEY,
    until DOUBLE PRECISION NOT NULL
);

CREATE TABLE budgets (
    name       TEXT PRIMARY KEY,
    amount     BIGINT NOT NULL,            -- nano-dollars in one period
    period     TEXT NOT NULL,              -- total, day, week, month
    scope      TEXT NOT NULL,              -- all, project, tag, key
    value      TEXT NOT NULL DEFAULT '',   -- the project's name, or key=value of the tag
    ladder     TEXT NOT NULL,              -- JSON: share of the amount -> warn, stop, terminate
    hard       INTEGER NOT NULL DEFAULT 1, -- a launch that could exceed it is refused
    created_at DOUBLE PRECISION NOT NULL
);

-- What people are told, once for each channel.
CREATE TABLE notices (
    event_id INTEGER NOT NULL,
    channel  TEXT NOT NULL,
    tries    INTEGER NOT NULL DEFAULT 0,
    next_at  DOUBLE PRECISION NOT NULL,
    sent_at  DOUBLE PRECISION,
    error    TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (event_id, channel)
);

-- What an account had left, read now and then: the only proof of cost where there is no bill.
CREATE TABLE balances (
    provider TEXT NOT NULL,
    account  TEXT NOT NULL,
    at       DOUBLE PRECISION NOT NULL,
    amount   BIGINT NOT NULL,
    PRIMARY KEY (provider, account, at)
);
