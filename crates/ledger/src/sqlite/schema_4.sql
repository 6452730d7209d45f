-- The webhook of a feed. A row stays when the webhook is taken off: it says so.
CREATE TABLE webhook (
  feed        INTEGER PRIMARY KEY REFERENCES feed ON DELETE CASCADE,
  path_key    BLOB NOT NULL UNIQUE CHECK (length(path_key) = 16),
  address     TEXT NOT NULL,
  accepted    BLOB CHECK (length(accepted) = 32),   -- digests of authentication ids
  offered     BLOB CHECK (length(offered) = 32),
  state       INTEGER NOT NULL,                     -- 0 offered, 1 armed, 2 vanished, 3 disabled, 4 expired, 5 elsewhere,
  since       INTEGER NOT NULL,                     -- 6 refused, 7 leaving, 8 removed
  expires     INTEGER,
  failures    INTEGER NOT NULL,
  drifts      INTEGER NOT NULL,
  refusal     TEXT,
  notified_at INTEGER
) STRICT;
