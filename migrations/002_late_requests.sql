-- A PENDING entry may land long after its acceptance: its insert was held in the network, its server was frozen, or the
-- server's clock is behind. The orphan reaper scans requests by age and may have passed it by then. So an entry that is
-- older than 30 s on the clock of the database when it is inserted is noted here as well, in the same transaction; the
-- orphan reaper reads all of these, and deletes those that have an outcome. The scan stays further back than 30 s
-- (postgres/pending_scan.go). A row-level trigger with a condition costs an ordinary entry the evaluation of the
-- condition and nothing else.
CREATE TABLE late_requests (
    accepted_at    timestamptz NOT NULL,
    accepted_on    date        NOT NULL,
    partition      integer     NOT NULL,
    version        integer     NOT NULL,
    request_id     uuid        NOT NULL,
    trade_id       text        COLLATE "C" NOT NULL,
    correlation_id text        COLLATE "C",
    PRIMARY KEY (accepted_on, request_id)
);

CREATE FUNCTION note_late_request() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO late_requests (accepted_at, accepted_on, partition, version, request_id, trade_id, correlation_id)
    VALUES (NEW.accepted_at, NEW.accepted_on, NEW.partition, NEW.version, NEW.request_id, NEW.trade_id,
        NEW.correlation_id)
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

CREATE TRIGGER late_request AFTER INSERT ON requests
    FOR EACH ROW WHEN (NEW.accepted_at < clock_timestamp() - INTERVAL '30 seconds')
    EXECUTE FUNCTION note_late_request();

-- What the sweeper has put back before there was a trigger.
INSERT INTO late_requests (accepted_at, accepted_on, partition, version, request_id, trade_id, correlation_id)
SELECT accepted_at, accepted_on, partition, version, request_id, trade_id, correlation_id FROM requests_default;

-- How far the requests of each partition are scanned: one that was accepted before walked has an outcome, or is noted in
-- late_requests. A row only moves forward. It replaces orphan_mark, which the previous release still uses.
CREATE TABLE orphan_marks (
    partition integer     PRIMARY KEY,
    walked    timestamptz NOT NULL
) WITH (fillfactor = 20);

-- The previous scan was sure of all that is an hour older than its mark, but for what is noted from now on.
INSERT INTO orphan_marks
SELECT DISTINCT partition, walked - INTERVAL '1 hour' FROM ingest_offsets, orphan_mark;

---- create above / drop below ----

DROP TRIGGER late_request ON requests;
DROP FUNCTION note_late_request();
DROP TABLE late_requests;
DROP TABLE orphan_marks;
