-- The hours of a feed in which content was created, until they are learnt.
CREATE TABLE heard (
  feed  INTEGER NOT NULL REFERENCES feed ON DELETE CASCADE,
  hour  INTEGER NOT NULL,
  first INTEGER NOT NULL,
  last  INTEGER NOT NULL,
  PRIMARY KEY (feed, hour)
) STRICT, WITHOUT ROWID;

-- What is learnt of a feed's silences (`engine::silence`): one number of two bytes for each hour of the week.
CREATE TABLE rhythm (
  feed    INTEGER PRIMARY KEY REFERENCES feed ON DELETE CASCADE,
  longest BLOB NOT NULL CHECK (length(longest) = 336),
  hours   INTEGER NOT NULL,
  through INTEGER,
  last    INTEGER
) STRICT;

-- What it has cost to list closed windows again, and what that has found.
ALTER TABLE feed ADD COLUMN relistings INTEGER NOT NULL DEFAULT 0;
ALTER TABLE feed ADD COLUMN relisting_requests INTEGER NOT NULL DEFAULT 0;
ALTER TABLE feed ADD COLUMN relisting_found INTEGER NOT NULL DEFAULT 0;
