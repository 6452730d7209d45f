-- Which worker holds which tenant, where several share one ledger. Times are this machine's clock's.
CREATE TABLE worker (
  worker     BLOB PRIMARY KEY CHECK (length(worker) = 16),
  name       TEXT NOT NULL,
  held       INTEGER NOT NULL,               -- tenants, counted as they come and go
  expires_at INTEGER NOT NULL                -- alive before this
) STRICT, WITHOUT ROWID;
CREATE INDEX worker_by_expiry ON worker (expires_at);
ALTER TABLE tenant ADD COLUMN lease_worker BLOB CHECK (length(lease_worker) = 16); -- NULL while nobody holds it
ALTER TABLE tenant ADD COLUMN lease_epoch INTEGER NOT NULL DEFAULT 0;              -- how often it has been taken
CREATE INDEX tenant_by_worker ON tenant (lease_worker, tenant);
