-- When what did not fit the cloud's own start-up text was run over SSH; NULL: not yet, or not needed.
ALTER TABLE attempts ADD COLUMN booted_at DOUBLE PRECISION;
-- Logins to the registries of private images.
CREATE TABLE registries (
    name        TEXT PRIMARY KEY,
    server      TEXT NOT NULL,
    username    TEXT NOT NULL,
    password    BLOB NOT NULL,           -- sealed
    created_at  DOUBLE PRECISION NOT NULL
);
