-- What stood in the way of listing, and when (`engine::hindrance`): of a feed, or of all a tenant's.
CREATE TABLE hindrance (
  hindrance INTEGER PRIMARY KEY,
  tenant    INTEGER NOT NULL REFERENCES tenant ON DELETE CASCADE,
  feed      INTEGER REFERENCES feed ON DELETE CASCADE,
  kind      INTEGER NOT NULL,                 -- 0 the tenant's state, 1 a problem, 2 nothing was kept for us
  cause     TEXT NOT NULL,
  since     INTEGER NOT NULL,
  until     INTEGER                           -- NULL while it stands
) STRICT;
CREATE INDEX hindrance_by_tenant ON hindrance (tenant, since);
CREATE INDEX hindrance_by_feed ON hindrance (feed) WHERE feed IS NOT NULL;

-- When a collector was at work on this ledger, spell by spell.
CREATE TABLE at_work (
  since INTEGER PRIMARY KEY,
  until INTEGER NOT NULL
) STRICT;

-- When the subscription was last seen enabled.
ALTER TABLE feed ADD COLUMN enabled_at INTEGER;
