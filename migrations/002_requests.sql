-- Both tables are insert-only and have the same key. accepted_on is the UTC day of acceptance: old days are dropped
-- whole. The worker makes days ahead; rows of a day that has no partition stray into the default one.

-- PENDING entries of the PostgreSQL request log. The end of a request is read from submissions, never written here.
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
CREATE TABLE submissions (
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
    PRIMARY KEY (accepted_on, request_id)
) PARTITION BY RANGE (accepted_on);

CREATE TABLE submissions_default PARTITION OF submissions DEFAULT;
CREATE INDEX submissions_by_offset ON submissions (generation, partition, "offset");

-- How far the outcomes of each partition have been shown to the request log. A cursor only moves forward.
CREATE TABLE settle_cursor (
    generation     integer NOT NULL,
    partition      integer NOT NULL,
    settled_offset bigint  NOT NULL CHECK (settled_offset >= 0),
    PRIMARY KEY (generation, partition)
) WITH (fillfactor = 20);

---- create above / drop below ----

DROP TABLE settle_cursor;
DROP TABLE submissions;
DROP TABLE requests;
