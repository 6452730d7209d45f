-- Invitations: of a link's secret only the digest is here, so that whoever reads this file can open none.
CREATE TABLE invitation (
  invitation   INTEGER PRIMARY KEY AUTOINCREMENT, -- a number is not given twice
  secret       BLOB NOT NULL UNIQUE CHECK (length(secret) = 32),
  label        TEXT NOT NULL,
  tenant       BLOB CHECK (length(tenant) = 16),  -- the only one it is for, known here or not
  created_at   INTEGER NOT NULL,
  expires_at   INTEGER NOT NULL,
  uses_allowed INTEGER,
  uses         INTEGER NOT NULL DEFAULT 0,
  revoked_at   INTEGER
) STRICT;
CREATE INDEX invitation_by_expiry ON invitation (expires_at);

-- People on the way to Microsoft and back. Taking one deletes it.
CREATE TABLE consent_flow (
  state      BLOB PRIMARY KEY CHECK (length(state) = 32),
  browser    BLOB NOT NULL CHECK (length(browser) = 32),
  invitation INTEGER NOT NULL REFERENCES invitation ON DELETE CASCADE,
  leg        INTEGER NOT NULL,                    -- 0 authorize, 1 admin consent, 2 sign-in
  tenant     BLOB CHECK (length(tenant) = 16),
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX consent_flow_by_expiry ON consent_flow (expires_at);
CREATE INDEX consent_flow_by_invitation ON consent_flow (invitation, expires_at);

-- Browsers that have proven their tenant.
CREATE TABLE consent_visit (
  browser     BLOB NOT NULL CHECK (length(browser) = 32),
  tenant      BLOB NOT NULL CHECK (length(tenant) = 16),
  invitation  INTEGER NOT NULL REFERENCES invitation ON DELETE CASCADE,
  account     TEXT,
  proven_at   INTEGER NOT NULL,
  accepted_at INTEGER,
  expires_at  INTEGER NOT NULL,
  PRIMARY KEY (browser, tenant)
) STRICT, WITHOUT ROWID;
CREATE INDEX consent_visit_by_expiry ON consent_visit (expires_at);
CREATE INDEX consent_visit_by_tenant ON consent_visit (tenant);
CREATE INDEX consent_visit_by_invitation ON consent_visit (invitation, expires_at);

-- Who connected which tenant, when, by which invitation; the invitation's row may be gone by now.
CREATE TABLE consent_log (
  entry      INTEGER PRIMARY KEY,
  at         INTEGER NOT NULL,
  tenant     INTEGER NOT NULL REFERENCES tenant ON DELETE CASCADE,
  invitation INTEGER NOT NULL,
  label      TEXT NOT NULL,
  account    TEXT,
  acceptance INTEGER NOT NULL                     -- 0 added, 1 came back, 2 was here
) STRICT;
CREATE INDEX consent_log_by_tenant ON consent_log (tenant);
