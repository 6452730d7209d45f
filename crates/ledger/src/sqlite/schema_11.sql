-- A tenant that was purged and comes again is taken under epochs that were never given: a worker that is still busy with what
-- it was may write or remove files of the old ones.
ALTER TABLE revision ADD COLUMN purged_epoch INTEGER NOT NULL DEFAULT 0;  -- the greatest of any tenant that was purged
