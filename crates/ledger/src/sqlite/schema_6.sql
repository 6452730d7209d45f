-- What must persist and is secret: sealed before it comes here, under a key that is not here.
CREATE TABLE sealed (
  name  TEXT PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 200),
  value BLOB NOT NULL CHECK (length(value) BETWEEN 1 AND 65536)
) STRICT, WITHOUT ROWID;
