-- What is wrong with a visible segment's file, and since when that is known; NULL while nothing is.
ALTER TABLE segment ADD COLUMN damage TEXT;
ALTER TABLE segment ADD COLUMN damaged_at INTEGER;
CREATE INDEX segment_damaged ON segment (tenant, date, number, part) WHERE damage IS NOT NULL;
