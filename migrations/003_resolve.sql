-- The resolver walks requests by age. Rows are inserted in about that order, so a summary of each range of pages is
-- enough, and costs an insert next to nothing.
CREATE INDEX requests_by_age ON requests USING brin (accepted_at) WITH (pages_per_range = 64, autosummarize = on);

-- How far the resolver has walked: every request that was accepted before has an outcome. One row, or none before the
-- first walk; it only moves forward.
CREATE TABLE resolve_mark (
    one    boolean     PRIMARY KEY DEFAULT true CHECK (one),
    walked timestamptz NOT NULL
) WITH (fillfactor = 20);

---- create above / drop below ----

DROP TABLE resolve_mark;
DROP INDEX requests_by_age;
