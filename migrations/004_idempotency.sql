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
