package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"tradestore/trade"
)

// outcomesOn reads the outcomes of some requests of one day.
const outcomesOn = `
	SELECT generation, partition, coalesce("offset", -1), request_id, outcome, trade_id, version, reason, detail,
		accepted_at, decided_at, correlation_id, traceparent
	FROM journal WHERE accepted_on = $1 AND request_id = ANY($2::uuid[])`

// Decisions returns the outcomes of those of the given requests that have one, committed before the call (rule R1).
func (s *Store) Decisions(ctx context.Context, requests []trade.PendingRequest) ([]trade.Decision, error) {
	outcomes, err := outcomesOf(ctx, s.pool, requests)
	if err != nil {
		return nil, trade.Classed(classify(err), "cannot read the outcomes of %d requests: %w", len(requests), err)
	}
	return outcomes, nil
}

func outcomesOf(ctx context.Context, db database, requests []trade.PendingRequest) ([]trade.Decision, error) {
	var outcomes []trade.Decision
	for _, day := range daysOf(requests) {
		rows, err := db.Query(ctx, outcomesOn, day.date.Time(), day.ids)
		if err == nil {
			outcomes, err = pgx.AppendRows(outcomes, rows, scanDecision)
		}
		if err != nil {
			return nil, err
		}
	}
	return outcomes, nil
}

func daysOf(requests []trade.PendingRequest) (days []dayIDs) {
	for i := range requests {
		days = addID(days, trade.DateOf(requests[i].AcceptedAt), requests[i].ID)
	}
	return days
}

// lockPosition takes the lock that Apply takes first (rules A1, R4): one of the two decides, and the other one sees it.
// The time is that of movePositions.
const lockPosition = `
	SELECT generation, next_offset, greatest(decided_at, coalesce($3::timestamptz, clock_timestamp())) FROM ingest_offsets
	WHERE topic_id = $1 AND partition = $2 AND NOT closed FOR UPDATE`

// insertUndelivered inserts the journal rows of requests without a record.
const insertUndelivered = `
	INSERT INTO journal (accepted_at, decided_at, accepted_on, generation, partition, version, request_id, outcome,
		trade_id, reason, detail, correlation_id, traceparent)
	SELECT c.accepted_at, $1, c.accepted_on, $2, $3, c.version, c.request_id, 'FAILED',
		c.trade_id, $4, $5, nullif(c.correlation_id, ''), nullif(c.traceparent, '')
	FROM unnest($6::timestamptz[], $7::date[], $8::integer[], $9::uuid[], $10::text[], $11::text[], $12::text[])
		AS c(accepted_at, accepted_on, version, request_id, trade_id, correlation_id, traceparent)`

// Close makes each request without an outcome FAILED(NOT_DELIVERED), in one transaction (rule R4). All requests belong
// to one partition, and none has a record below end. It returns the outcomes of all requests, in no order; a request
// that had an outcome keeps it. A request whose day was dropped from the journal may have had one: it is left PENDING,
// and out of the result. Errors: class Fenced if the partition is not applied up to end, so that nothing can be
// decided yet; class CommitUnknown if the commit may have happened. After any other error nothing was changed. Close
// may be repeated after every error.
func (s *Store) Close(
	ctx context.Context, topic trade.TopicID, partition int32, end int64, requests []trade.PendingRequest,
) ([]trade.Decision, error) {
	return s.closeAll(ctx, closing{topic, partition, end, requests, false})
}

// CloseUnproven is Close for an operator: it also ends requests whose day was dropped from the journal.
func (s *Store) CloseUnproven(
	ctx context.Context, topic trade.TopicID, partition int32, end int64, requests []trade.PendingRequest,
) ([]trade.Decision, error) {
	return s.closeAll(ctx, closing{topic, partition, end, requests, true})
}

func (s *Store) closeAll(ctx context.Context, c closing) ([]trade.Decision, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.TxTimeout)
	defer cancel()
	outcomes, err := s.close(ctx, c)
	if err != nil {
		return nil, trade.Classed(classOf(err), "cannot close %d requests of partition %d: %w",
			len(c.requests), c.partition, err)
	}
	return outcomes, nil
}

// closing holds the parameters of Close.
type closing struct {
	topic     trade.TopicID
	partition int32
	end       int64
	requests  []trade.PendingRequest
	unproven  bool // whether the requests reached the log is not known any more
}

func (s *Store) close(ctx context.Context, c closing) ([]trade.Decision, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release() // closes a connection that is still in a transaction, which rolls it back
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	if err != nil {
		return nil, rollback(ctx, conn.Conn(), nil, err)
	}
	outcomes, err := s.closeInTx(ctx, tx, c)
	if err != nil {
		return nil, rollback(ctx, conn.Conn(), tx, err)
	}
	return outcomes, commit(ctx, tx) // after a crash from here on the orphan reaper finds the outcomes next time
}

func (s *Store) closeInTx(ctx context.Context, tx pgx.Tx, c closing) ([]trade.Decision, error) {
	var generation int32
	var next int64
	var now time.Time
	err := tx.QueryRow(ctx, lockPosition, c.topic, c.partition, s.testTime()).Scan(&generation, &next, &now)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, trade.Classed(trade.Broken, "the database has no position of topic %x in the newest generation", c.topic)
	case err != nil:
		return nil, err
	case next < c.end:
		return nil, trade.Classed(trade.Fenced, "it is applied up to offset %d, not %d", next, c.end)
	}
	outcomes, err := outcomesOf(ctx, tx, c.requests) // under the lock, in READ COMMITTED: sees all earlier commits
	if err != nil {
		return nil, err
	}
	kept, err := keptDays(ctx, tx, c.requests) // after the outcomes: their statement locks the days against a drop
	if err != nil {
		return nil, err
	}
	known := make(map[trade.RequestID]bool, len(c.requests))
	for i := range outcomes {
		known[outcomes[i].ID] = true
	}
	// This text is a way to check rule R5: a record of the request that arrives later has offset next or a higher one.
	detail := fmt.Sprintf("the trade never reached the log: partition %d was applied up to offset %d without it",
		c.partition, next)
	if c.unproven {
		detail = fmt.Sprintf("an operator ended the request: whether the trade reached the log is not known any more; "+
			"partition %d was applied up to offset %d without it", c.partition, next)
	}
	var closed []trade.Decision
	for i := range c.requests {
		r := &c.requests[i]
		if known[r.ID] || !c.unproven && !kept[trade.DateOf(r.AcceptedAt)] {
			continue
		}
		known[r.ID] = true
		closed = append(closed, trade.Decision{
			RequestState: trade.RequestState{
				ID: r.ID, Status: trade.Failed, TradeID: r.TradeID, Version: r.Version,
				Reason: trade.NotDelivered, Detail: detail, AcceptedAt: r.AcceptedAt, DecidedAt: now.UTC(),
			},
			Generation: generation, Partition: c.partition, Offset: trade.NoOffset,
			CorrelationID: r.CorrelationID, TraceParent: r.TraceParent,
		})
	}
	if len(closed) == 0 {
		return outcomes, nil
	}
	return append(outcomes, closed...), insertClosed(ctx, tx, closed)
}

// daysInJournal selects those of the given days that were never dropped: the journal has a partition for them, or they
// are still to come, or it has no partitions at all. A day that was dropped is never made again.
const daysInJournal = `
	SELECT day FROM unnest($1::date[]) AS d(day)
	WHERE day > current_date OR to_regclass('journal_' || to_char(day, 'YYYYMMDD')) IS NOT NULL
	   OR (SELECT count(*) FROM pg_inherits WHERE inhparent = 'journal'::regclass) = 1`

// keptDays returns the days of the requests whose outcomes the journal still has.
func keptDays(ctx context.Context, tx pgx.Tx, requests []trade.PendingRequest) (map[trade.Date]bool, error) {
	var days []time.Time
	for _, d := range daysOf(requests) {
		days = append(days, d.date.Time())
	}
	kept := make(map[trade.Date]bool, len(days))
	rows, err := tx.Query(ctx, daysInJournal, days)
	if err != nil {
		return nil, err
	}
	var day time.Time
	_, err = pgx.ForEachRow(rows, []any{&day}, func() error {
		kept[trade.DateOf(day)] = true
		return nil
	})
	return kept, err
}

// insertClosed inserts the journal rows of requests of one partition, decided together. If another transaction has
// decided one of them since, for a record in a wrong partition, the unique key makes it fail with class Repeatable.
func insertClosed(ctx context.Context, tx pgx.Tx, closed []trade.Decision) error {
	n := len(closed)
	accepted, days := make([]time.Time, n), make([]time.Time, n)
	versions, ids := make([]int32, n), make([][16]byte, n)
	tradeIDs, correlations, parents := make([]string, n), make([]string, n), make([]string, n)
	for i := range closed {
		o := &closed[i]
		accepted[i], days[i], versions[i], ids[i] = o.AcceptedAt, o.AcceptedOn().Time(), o.Version, o.ID
		tradeIDs[i], correlations[i], parents[i] = o.TradeID, o.CorrelationID, o.TraceParent
	}
	first := &closed[0]
	tag, err := tx.Exec(ctx, insertUndelivered, first.DecidedAt, first.Generation, first.Partition,
		string(first.Reason), first.Detail, accepted, days, versions, ids, tradeIDs, correlations, parents)
	return checkRows(tag, err, n)
}
