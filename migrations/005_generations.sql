-- A closed partition belongs to a generation that another one has followed. It is applied to its end for good: a worker
-- of that time that wakes up finds no row to move.
ALTER TABLE ingest_offsets ADD COLUMN closed boolean NOT NULL DEFAULT false;

---- create above / drop below ----

ALTER TABLE ingest_offsets DROP COLUMN closed;
