CREATE INDEX journal_by_next ON ONLY journal (decided_at);
CREATE INDEX requests_by_next ON ONLY requests (accepted_at);
