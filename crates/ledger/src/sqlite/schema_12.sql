-- Orders to delete everything of a tenant. A tenant's rows are deleted in the transaction that writes its order; its files by
-- whoever comes to it, until the archive has confirmed that none is left. The rows stay: they tell files that were to be deleted
-- from files that this ledger has never known.
CREATE TABLE purge (
  id         BLOB PRIMARY KEY CHECK (length(id) = 16),
  ordered_at INTEGER NOT NULL,
  ordered_by TEXT NOT NULL,
  through    INTEGER NOT NULL,              -- the last epoch whose files are to go
  segments   INTEGER NOT NULL,              -- visible then
  records    INTEGER NOT NULL,
  bytes      INTEGER NOT NULL,
  files      INTEGER NOT NULL DEFAULT 0,    -- deleted until now
  file_bytes INTEGER NOT NULL DEFAULT 0,
  done_at    INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX purge_by_state ON purge (done_at, ordered_at);

-- What was done that matters as evidence. Only ever added to.
CREATE TABLE activity (
  entry   INTEGER PRIMARY KEY,
  at      INTEGER NOT NULL,
  actor   TEXT NOT NULL,
  kind    TEXT NOT NULL,
  tenant  BLOB CHECK (length(tenant) = 16), -- known here or not
  details TEXT NOT NULL                     -- a JSON object
) STRICT;
CREATE INDEX activity_by_tenant ON activity (tenant, entry);
CREATE INDEX activity_by_kind ON activity (kind, entry);
CREATE TRIGGER activity_is_not_deleted BEFORE DELETE ON activity
BEGIN SELECT raise(ABORT, 'the activity log is kept as it was written'); END;
CREATE TRIGGER activity_is_not_changed BEFORE UPDATE ON activity
BEGIN SELECT raise(ABORT, 'the activity log is kept as it was written'); END;

-- While a hold stands, nothing of the tenant is deleted.
ALTER TABLE tenant ADD COLUMN held_at INTEGER;      -- NULL while none does
ALTER TABLE tenant ADD COLUMN held_by TEXT;
ALTER TABLE tenant ADD COLUMN held_reason TEXT;
-- Whether it was a retention that took an obsolete segment away: what a merge replaced is still there.
ALTER TABLE segment ADD COLUMN expired INTEGER NOT NULL DEFAULT 0;
