-- One row: the last revision given to a tenant row. A counter of its own, because the row that had it may be purged.
CREATE TABLE revision (
  only     INTEGER PRIMARY KEY CHECK (only = 1),
  greatest INTEGER NOT NULL
) STRICT;
INSERT INTO revision (only, greatest) VALUES (1, 0);

CREATE TABLE tenant (
  tenant          INTEGER PRIMARY KEY,
  id              BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
  label           TEXT NOT NULL,
  state           INTEGER NOT NULL,           -- 0 active, 1 paused, 2 removed
  added_at        INTEGER NOT NULL,
  collect_from    INTEGER NOT NULL,
  last_commit     INTEGER NOT NULL DEFAULT 0,
  last_commit_at  INTEGER,
  revision        INTEGER NOT NULL,
  problem_kind    TEXT,
  problem_message TEXT,
  problem_since   INTEGER,
  problem_next    INTEGER
) STRICT;
CREATE UNIQUE INDEX tenant_by_revision ON tenant (revision);

CREATE TABLE content_type (
  type INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
) STRICT;

-- A content type of a tenant: its subscription, and the sums of the coverage report.
CREATE TABLE feed (
  feed               INTEGER PRIMARY KEY,
  tenant             INTEGER NOT NULL REFERENCES tenant ON DELETE CASCADE,
  type               INTEGER NOT NULL REFERENCES content_type,
  first_seen_at      INTEGER NOT NULL,
  began              INTEGER,                 -- the earliest start of any tile
  settled_through    INTEGER,                 -- before this: listed, or in `gap`
  enabled            INTEGER,
  listed_at          INTEGER,
  start_requested_at INTEGER,
  problem_kind       TEXT,
  problem_message    TEXT,
  problem_since      INTEGER,
  problem_next       INTEGER,
  archived           INTEGER NOT NULL DEFAULT 0,
  pending            INTEGER NOT NULL DEFAULT 0,
  failing            INTEGER NOT NULL DEFAULT 0,
  failures           INTEGER NOT NULL DEFAULT 0,
  lost_expired       INTEGER NOT NULL DEFAULT 0,
  lost_missing       INTEGER NOT NULL DEFAULT 0,
  lost_unreadable    INTEGER NOT NULL DEFAULT 0,
  lost_refused_url   INTEGER NOT NULL DEFAULT 0,
  records            INTEGER NOT NULL DEFAULT 0,
  duplicates         INTEGER NOT NULL DEFAULT 0,
  variants           INTEGER NOT NULL DEFAULT 0,
  quarantined        INTEGER NOT NULL DEFAULT 0,
  UNIQUE (tenant, type)
) STRICT;
CREATE INDEX feed_by_type ON feed (type);

CREATE TABLE tile (
  feed            INTEGER NOT NULL REFERENCES feed ON DELETE CASCADE,
  start           INTEGER NOT NULL,
  until           INTEGER NOT NULL,
  listed_until    INTEGER,
  listed_at       INTEGER,
  closed_listings INTEGER NOT NULL,
  next_listing_at INTEGER,
  late_contents   INTEGER NOT NULL,
  PRIMARY KEY (feed, start)
) STRICT, WITHOUT ROWID;

CREATE TABLE gap (
  feed  INTEGER NOT NULL REFERENCES feed ON DELETE CASCADE,
  start INTEGER NOT NULL,
  until INTEGER NOT NULL,
  PRIMARY KEY (feed, start)
) STRICT, WITHOUT ROWID;

CREATE TABLE content (
  content INTEGER PRIMARY KEY,
  feed    INTEGER NOT NULL REFERENCES feed ON DELETE CASCADE,
  key     BLOB NOT NULL,                      -- the first 16 bytes of BLAKE3(id)
  id      TEXT NOT NULL,
  state   INTEGER NOT NULL,                   -- 0 listed, 1 archived, 2 lost
  created INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  UNIQUE (feed, key)
) STRICT;
CREATE INDEX content_archived ON content (feed, expires) WHERE state = 1;

-- Exactly the contents in state `listed`. Tenant, created and expires are repeated for the indexes' sake.
CREATE TABLE pending (
  content         INTEGER PRIMARY KEY REFERENCES content ON DELETE CASCADE,
  tenant          INTEGER NOT NULL,
  feed            INTEGER NOT NULL,
  uri             TEXT NOT NULL,
  created         INTEGER NOT NULL,
  expires         INTEGER NOT NULL,
  seen_at         INTEGER NOT NULL,
  attempts        INTEGER NOT NULL,
  next_attempt_at INTEGER NOT NULL,
  failure         TEXT,
  failure_number  INTEGER                     -- of the feed's failures, counted up; NULL before the first
) STRICT;
CREATE INDEX pending_by_expiry ON pending (tenant, expires, content, next_attempt_at);
CREATE INDEX pending_by_attempt ON pending (tenant, next_attempt_at);
CREATE INDEX pending_by_creation ON pending (feed, created);
CREATE INDEX pending_failing ON pending (feed, failure_number) WHERE failure_number IS NOT NULL;

-- Exactly the contents in state `lost`.
CREATE TABLE loss (
  content INTEGER PRIMARY KEY REFERENCES content ON DELETE CASCADE,
  tenant  INTEGER NOT NULL,
  kind    INTEGER NOT NULL,                   -- 0 expired, 1 missing, 2 unreadable, 3 refused_url
  message TEXT NOT NULL,
  uri     TEXT NOT NULL,
  lost_at INTEGER NOT NULL
) STRICT;
CREATE INDEX loss_by_time ON loss (tenant, lost_at);

CREATE TABLE segment (
  tenant         INTEGER NOT NULL REFERENCES tenant ON DELETE CASCADE,
  date           TEXT NOT NULL,
  number         INTEGER NOT NULL,
  part           INTEGER NOT NULL,
  rows           INTEGER NOT NULL,
  bytes          INTEGER NOT NULL,
  second_min     INTEGER,
  second_max     INTEGER,
  untimed_rows   INTEGER NOT NULL,
  digest         BLOB NOT NULL CHECK (length(digest) = 32),
  obsolete_since INTEGER,                     -- NULL while visible
  PRIMARY KEY (tenant, date, number, part)
) STRICT, WITHOUT ROWID;
CREATE INDEX segment_obsolete ON segment (tenant, obsolete_since) WHERE obsolete_since IS NOT NULL;

CREATE TABLE quarantine (
  tenant INTEGER NOT NULL REFERENCES tenant ON DELETE CASCADE,
  path   TEXT NOT NULL,
  feed   INTEGER NOT NULL REFERENCES feed ON DELETE CASCADE,
  id     TEXT NOT NULL,                       -- of the content
  bytes  INTEGER NOT NULL,
  digest BLOB NOT NULL CHECK (length(digest) = 32),
  reason TEXT NOT NULL,
  PRIMARY KEY (tenant, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX quarantine_by_feed ON quarantine (feed);
