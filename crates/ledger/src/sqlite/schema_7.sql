-- When the last record of a segment was stored: the commit's time, and in a merge the latest of what it merged. Of segments
-- from before this version, the latest it can have been.
ALTER TABLE segment ADD COLUMN stored_at INTEGER NOT NULL DEFAULT 0;
UPDATE segment SET stored_at = coalesce((SELECT last_commit_at FROM tenant WHERE tenant.tenant = segment.tenant), 0);

-- What went because it was past its retention, and since when everything is kept.
ALTER TABLE tenant ADD COLUMN expired_segments INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tenant ADD COLUMN expired_records INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tenant ADD COLUMN kept_since TEXT;
