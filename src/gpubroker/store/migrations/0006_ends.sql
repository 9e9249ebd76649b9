-- What ends a machine while nobody looks: its cloud, and the timer on it. `expires_at` is the earlier
-- of the two once the present wish is confirmed; NULL until then.
ALTER TABLE attempts ADD COLUMN cloud_ends_at DOUBLE PRECISION;
ALTER TABLE attempts ADD COLUMN timer_ends_at DOUBLE PRECISION;
-- The most that a launch may cost in all, asked again when it is extended.
ALTER TABLE launches ADD COLUMN max_cost BIGINT;
