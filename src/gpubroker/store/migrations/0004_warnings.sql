-- Warnings are found among all events by their kind.
CREATE INDEX events_by_kind ON events (kind, at);

-- What costs now is found without a look at all that ever did.
CREATE INDEX usage_open ON usage (attempt_id) WHERE until IS NULL;
