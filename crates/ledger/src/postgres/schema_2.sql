-- Which worker holds which tenant. Times are this server's clock's. The epoch stands in the tenant's row, which every write
-- of the tenant locks anyway: a worker's word that it is alive touches one row, however many tenants it holds.
CREATE TABLE worker (
  worker     uuid PRIMARY KEY,
  name       text NOT NULL,
  held       bigint NOT NULL,                -- tenants, counted as they come and go
  expires_at bigint NOT NULL                 -- alive before this
);
CREATE INDEX worker_by_expiry ON worker (expires_at);
ALTER TABLE tenant ADD COLUMN lease_worker uuid;                      -- NULL while nobody holds it
ALTER TABLE tenant ADD COLUMN lease_epoch bigint NOT NULL DEFAULT 0;  -- how often it has been taken
CREATE INDEX tenant_by_worker ON tenant (lease_worker, tenant);
