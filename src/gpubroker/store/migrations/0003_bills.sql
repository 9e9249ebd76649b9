-- When a bill is asked for next: a record that follows by hours is not asked every minute.
ALTER TABLE attempts ADD COLUMN bill_due_at DOUBLE PRECISION;
CREATE INDEX attempts_bill_due ON attempts (bill_due_at) WHERE bill_final = 0 AND status = 'gone';
