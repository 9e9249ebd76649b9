-- What a launch needs to stand without a machine, and what decides how it goes on.
ALTER TABLE launches ADD COLUMN asked TEXT NOT NULL DEFAULT '{}';        -- Query, shown while no offer is planned
ALTER TABLE launches ADD COLUMN on_mismatch TEXT NOT NULL DEFAULT '';    -- warn, replace; '' by field
ALTER TABLE attempts ADD COLUMN state TEXT NOT NULL DEFAULT '';          -- as the provider last told
CREATE INDEX launches_by_gang ON launches (gang) WHERE gang <> '';
