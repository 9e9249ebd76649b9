-- A stop or a start that was wished: when it is looked after next. 0: a stop that was had, and
-- holds. NULL: there is none.
ALTER TABLE launches ADD COLUMN power_at DOUBLE PRECISION;
