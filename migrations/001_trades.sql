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
-- commits with the data. It is updated in place for ever, so its page is left nearly empty.
CREATE TABLE ingest_offsets (
    topic_id     uuid    NOT NULL,
    partition    integer NOT NULL,
    generation   integer NOT NULL CHECK (generation > 0),
    next_offset  bigint  NOT NULL CHECK (next_offset >= 0),
    leader_epoch integer NOT NULL,
    topic        text    COLLATE "C" NOT NULL,
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

---- create above / drop below ----

DROP TABLE dead_letter;
DROP TABLE ingest_offsets;
DROP TABLE trades;
