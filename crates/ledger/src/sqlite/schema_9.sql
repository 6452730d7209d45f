-- Which ledger this is: drawn once, and kept by every copy. The archive's mark names it.
CREATE TABLE identity (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  id  BLOB NOT NULL CHECK (length(id) = 16)
) STRICT;
INSERT INTO identity (one, id) VALUES (1, randomblob(16));
