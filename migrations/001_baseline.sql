-- Go and PostgreSQL both compare identifiers by byte, hence COLLATE "C". Columns of fixed width come first, so that
-- rows have no padding.

-- One row per version of a trade. The src columns name the log record of the row: an earlier record of the log never
-- replaces a later one. The fill factor leaves room for updates on the same page (HOT).
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

-- The position of each partition of the topic. The row is the fence, the duplicate filter and the writer lock, and
-- commits with the data. It is updated all the time, so its page is left nearly empty. A closed row belongs to a
-- generation that another one has followed: a worker of the old generation finds no row to move.
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

-- Records that can't be stored, with the bytes of the log. The detail is for people and never quotes the value.
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

-- Tables requests and journal are insert-only and have the same key. accepted_on is the UTC day of acceptance; old days
-- are dropped as a whole. The worker makes the partitions of coming days. Rows of a day without a partition go to the
-- default one (strays).

-- PENDING entries of the request store in PostgreSQL. The outcome of a request is its journal row; it is never written
-- here.
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

-- One row per decided request: the outcome, the duplicate filter, the audit trail and the outbox in one table. The
-- fields of the trade are NULL for an invalid record; "offset" is NULL for a request that was never delivered. replaces
-- is true if the version was stored before, by a request that may be deleted by now; it is NULL unless the outcome is
-- SUCCESS.
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

-- How far the outcomes of each partition are copied to the request store. A cursor only moves forward.
CREATE TABLE projection_cursor (
    generation       integer NOT NULL,
    partition        integer NOT NULL,
    projected_offset bigint  NOT NULL CHECK (projected_offset >= 0),
    PRIMARY KEY (generation, partition)
) WITH (fillfactor = 20);

-- Finds the history of a trade. That is rare, while every trade inserts a row, so the index must cost almost nothing:
-- it has a Bloom filter for each range of pages, made once, when the range is full. A query reads the whole index (1 %
-- of the table) and then the few ranges that may have the trade. A range without a filter is read as well. A filter
-- takes less than half a page, for about as many rows as a range has.
CREATE INDEX journal_by_trade ON journal USING brin
    (trade_id text_bloom_ops (n_distinct_per_range = 2000, false_positive_rate = 0.001))
    WITH (pages_per_range = 64, autosummarize = on);

-- The orphan reaper scans requests by age. Rows are inserted in about that order, so a summary of each range of pages
-- is enough, and an insert costs almost nothing more.
CREATE INDEX requests_by_age ON requests USING brin (accepted_at) WITH (pages_per_range = 64, autosummarize = on);

-- How far the orphan reaper has scanned: every request that was accepted before walked has an outcome. One row, or none
-- before the first scan; it only moves forward.
CREATE TABLE orphan_mark (
    one    boolean     PRIMARY KEY DEFAULT true CHECK (one),
    walked timestamptz NOT NULL
) WITH (fillfactor = 20);

-- Requests under an idempotency key. Table requests is unique within a day, but a key must be unique over all days. A
-- row is inserted together with its requests row and never changed. It is deleted with its outcome, which frees the
-- key. The nonce names the call that inserted the row.
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
