-- The last write of each of a handle's places, so that a COMMIT whose answer was lost can be looked up. The number of its
-- transaction would not do: a server that crashes gives numbers out again that it had not written to its log yet. Rows are
-- made anew in place, which the free half of each page is for; those of handles long gone are swept when another opens.
CREATE TABLE last_write (
  handle uuid NOT NULL,
  place  integer NOT NULL,
  number bigint NOT NULL,
  at     timestamptz NOT NULL,               -- this server's clock
  PRIMARY KEY (handle, place)
) WITH (fillfactor = 50);
