-- 1: its end was moved by hand, and counts from no plan any more.
ALTER TABLE launches ADD COLUMN end_wished INTEGER NOT NULL DEFAULT 0;
