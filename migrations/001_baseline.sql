-- Identifiers are compared by byte everywhere, in Go and here, hence COLLATE "C". Columns of fixed width come first:
-- no padding.

-- One row per version of a trade. The src columns name the log record that the row stems from: a record earlier in
-- the log never replaces a later one. Replaces stay on their page (HOT) thanks to the fill factor.
CREATE TABLE trades (
    src_offset      bigint      NOT NULL,
    stored_at       timestamptz NOT NULL,
    version         integer     NOT NULL CHECK (version > 0),
    src_generation  integer     NOT NULL,
    src_partition   integer     NOT NULL,
    maturity_date   date        NOT NULL,
    created_date    date        NOT NULL,
    request_id      uuid        NOT NULL,
    trade_id        text        COLLATE "C" NOT NULL,
    counterparty_id text        COLLATE "C" NOT NULL,
    book_id         text        COLLATE "C" NOT NULL,
    PRIMARY KEY (trade_id, version)
) WITH (fillfactor = 85);

-- How far each partition of the topic is applied. The row is fence, duplicate filter and writer lock in one, and
-- commits with the data. It is updated in place for ever, so its page is left nearly empty. A closed partition belongs to a
-- generation that another one has followed: a worker of that time that wakes up finds no row to move.
CREATE TABLE ingest_offsets (
    topic_id     uuid    NOT NULL,
    partition    integer NOT NULL,
    generation   integer NOT NULL CHECK (generation > 0),
    next_offset  bigint  NOT NULL CHECK (next_offset >= 0),
    leader_epoch integer NOT NULL,
    topic        text    COLLATE "C" NOT NULL,
    closed       boolean NOT NULL DEFAULT false,
    PRIMARY KEY (topic_id, partition),
    UNIQUE (generation, partition)
) WITH (fillfactor = 20);

-- Records that can't be stored, as they lie in the log. The text is for people and never quotes the value.
CREATE TABLE dead_letter (
    "offset"   bigint      NOT NULL,
    dead_at    timestamptz NOT NULL,
    partition  integer     NOT NULL,
    topic_id   uuid        NOT NULL,
    request_id uuid,
    reason     text        COLLATE "C" NOT NULL,
    detail     text        COLLATE "C" NOT NULL,
    value      bytea,
    PRIMARY KEY (topic_id, partition, "offset")
);
CREATE INDEX dead_letter_by_age ON dead_letter (dead_at);

-- Tables requests and journal are insert-only and have the same key. accepted_on is the UTC day of acceptance: old days are dropped
-- whole. The worker makes days ahead; rows of a day that has no partition stray into the default one.

-- PENDING entries of the PostgreSQL request store. The end of a request is read from the journal, never written here.
CREATE TABLE requests (
    accepted_at    timestamptz NOT NULL,
    accepted_on    date        NOT NULL,
    partition      integer     NOT NULL,
    version        integer     NOT NULL,
    request_id     uuid        NOT NULL,
    trade_id       text        COLLATE "C" NOT NULL,
    correlation_id text        COLLATE "C",
    PRIMARY KEY (accepted_on, request_id)
) PARTITION BY RANGE (accepted_on);

CREATE TABLE requests_default PARTITION OF requests DEFAULT;

-- The journal: one row per decided request. It is the outcome, the duplicate filter, the audit trail and the outbox.
-- The submitted fields are NULL for a record that could not be stored, "offset" for a request closed without one.
-- replaces: the version was stored before, by a request that may be forgotten by now; NULL for one that changed nothing.
CREATE TABLE journal (
    "offset"        bigint,
    accepted_at     timestamptz NOT NULL,
    decided_at      timestamptz NOT NULL,
    accepted_on     date        NOT NULL,
    generation      integer     NOT NULL,
    partition       integer     NOT NULL,
    version         integer,
    maturity_date   date,
    created_date    date,
    request_id      uuid        NOT NULL,
    replay_of       uuid,
    outcome         text        COLLATE "C" NOT NULL CHECK (outcome IN ('SUCCESS', 'FAILED')),
    trade_id        text        COLLATE "C",
    counterparty_id text        COLLATE "C",
    book_id         text        COLLATE "C",
    reason          text        COLLATE "C",
    detail          text        COLLATE "C",
    correlation_id  text        COLLATE "C",
    traceparent     text        COLLATE "C",
    replaces        boolean,
    PRIMARY KEY (accepted_on, request_id)
) PARTITION BY RANGE (accepted_on);

CREATE TABLE journal_default PARTITION OF journal DEFAULT;
CREATE INDEX journal_by_offset ON journal (generation, partition, "offset");

-- How far the outcomes of each partition have been copied to the request store. A cursor only moves forward.
CREATE TABLE projection_cursor (
    generation       integer NOT NULL,
    partition        integer NOT NULL,
    projected_offset bigint  NOT NULL CHECK (projected_offset >= 0),
    PRIMARY KEY (generation, partition)
) WITH (fillfactor = 20);

-- The history of a trade is found by its id, seldom. A row is inserted with each trade, so the index costs next to
-- nothing: a Bloom filter for each range of pages, made once, when the range is full. It is read from end to end (1 % of
-- the table), then the few ranges that may have the trade are. A range that has no filter yet is read itself. A filter
-- takes less than half a page, for about as many rows as a range has.
CREATE INDEX journal_by_trade ON journal USING brin
    (trade_id text_bloom_ops (n_distinct_per_range = 2000, false_positive_rate = 0.001))
    WITH (pages_per_range = 64, autosummarize = on);

-- The orphan reaper walks requests by age. Rows are inserted in about that order, so a summary of each range of pages is
-- enough, and costs an insert next to nothing.
CREATE INDEX requests_by_age ON requests USING brin (accepted_at) WITH (pages_per_range = 64, autosummarize = on);

-- How far the orphan reaper has walked: every request that was accepted before has an outcome. One row, or none before the
-- first walk; it only moves forward.
CREATE TABLE orphan_mark (
    one    boolean     PRIMARY KEY DEFAULT true CHECK (one),
    walked timestamptz NOT NULL
) WITH (fillfactor = 20);

-- Requests under an idempotency key. requests is unique within a day, a key has to be unique across days, hence a table of
-- its own. A row is inserted together with its requests row, never changed, and deleted when its outcome is forgotten,
-- which frees the key. The nonce names the call that inserted it.
CREATE TABLE idempotency (
    accepted_on  date  NOT NULL,
    request_id   uuid  NOT NULL,
    nonce        uuid  NOT NULL,
    payload_hash bytea NOT NULL CHECK (length(payload_hash) = 32),
    PRIMARY KEY (request_id)
);
CREATE INDEX idempotency_by_day ON idempotency (accepted_on);

---- create above / drop below ----

DROP TABLE idempotency;
DROP TABLE orphan_mark;
DROP TABLE projection_cursor;
DROP TABLE journal;
DROP TABLE requests;
DROP TABLE dead_letter;
DROP TABLE ingest_offsets;
DROP TABLE trades;
