-- The history of a trade is found by its id, seldom. A row is inserted with each trade, so the index costs next to
-- nothing: a Bloom filter for each range of pages, made once, when the range is full. It is read from end to end (1 % of
-- the table), then the few ranges that may have the trade are. A range that has no filter yet is read itself. A filter
-- takes less than half a page, for about as many rows as a range has.
CREATE INDEX submissions_by_trade ON submissions USING brin
    (trade_id text_bloom_ops (n_distinct_per_range = 2000, false_positive_rate = 0.001))
    WITH (pages_per_range = 64, autosummarize = on);

-- Whether the version was stored before, by a request that may be forgotten by now. NULL for one that changed nothing, and
-- for rows that are older than this column.
ALTER TABLE submissions ADD COLUMN replaces boolean;

---- create above / drop below ----

ALTER TABLE submissions DROP COLUMN replaces;
DROP INDEX submissions_by_trade;
