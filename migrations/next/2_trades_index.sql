---- tern: disable-tx ----
DROP INDEX CONCURRENTLY IF EXISTS trades_by_next;
CREATE INDEX CONCURRENTLY trades_by_next ON trades (stored_at);
