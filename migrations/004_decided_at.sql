-- The time of the latest decisions of the partition. Decisions get the time of the database, and never an earlier one
-- than the decisions before them in the log. NULL before the first.
ALTER TABLE ingest_offsets ADD COLUMN decided_at timestamptz;

---- create above / drop below ----

ALTER TABLE ingest_offsets DROP COLUMN decided_at;
