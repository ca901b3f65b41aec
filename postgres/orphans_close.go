package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"tradestore/trade"
)

// outcomesOn reads the outcomes of some requests of one day.
const decisionsOn = `
	SELECT generation, partition, coalesce("offset", -1), request_id, outcome, trade_id, version, reason, detail,
		accepted_at, decided_at, correlation_id, traceparent
	FROM journal WHERE accepted_on = $1 AND request_id = ANY($2::uuid[])`

// Outcomes returns the outcomes of those of the requests given that have one, committed before the call.
func (s *Store) Decisions(ctx context.Context, requests []trade.PendingRequest) ([]trade.Decision, error) {
	outcomes, err := decisionsOf(ctx, s.pool, requests)
	if err != nil {
		return nil, trade.Classed(classify(err), "cannot read the outcomes of %d requests: %w", len(requests), err)
	}
	return outcomes, nil
}

func decisionsOf(ctx context.Context, db database, requests []trade.PendingRequest) ([]trade.Decision, error) {
	var outcomes []trade.Decision
	for _, day := range daysOf(requests) {
		rows, err := db.Query(ctx, decisionsOn, day.date.Time(), day.ids)
		if err == nil {
			outcomes, err = pgx.AppendRows(outcomes, rows, scanDecision)
		}
		if err != nil {
			return nil, err
		}
	}
	return outcomes, nil
}

func daysOf(requests []trade.PendingRequest) []dayIDs {
	var days []dayIDs
	for i := range requests {
		date := trade.DateOf(requests[i].AcceptedAt)
		at := slices.IndexFunc(days, func(d dayIDs) bool { return d.date == date })
		if at < 0 {
			at = len(days)
			days = append(days, dayIDs{date: date})
		}
		days[at].ids = append(days[at].ids, requests[i].ID)
	}
	return days
}

// lockPosition takes the lock that Apply takes first (invariant A1), so one of the two decides, and the other sees it.
const lockPosition = `SELECT generation, next_offset FROM ingest_offsets WHERE topic_id = $1 AND partition = $2 AND NOT closed FOR UPDATE`

const closeUndelivered = `
	INSERT INTO journal (accepted_at, decided_at, accepted_on, generation, partition, version, request_id, outcome,
		trade_id, reason, detail, correlation_id, traceparent)
	SELECT c.accepted_at, $1, c.accepted_on, $2, $3, c.version, c.request_id, 'FAILED',
		c.trade_id, $4, $5, nullif(c.correlation_id, ''), nullif(c.traceparent, '')
	FROM unnest($6::timestamptz[], $7::date[], $8::integer[], $9::uuid[], $10::text[], $11::text[], $12::text[])
		AS c(accepted_at, accepted_on, version, request_id, trade_id, correlation_id, traceparent)`

// Close decides requests of one partition whose record is not in the log below end: each without an outcome becomes
// FAILED(NOT_DELIVERED), in one transaction and without a record. It returns the outcomes of all of the requests, in no
// order; those that had one keep it. Errors: class Fenced when the partition is not applied up to end, so that nothing
// can be said yet; class CommitUnknown when it may have happened; after any other nothing was changed. All may be called
// again.
func (s *Store) Close(ctx context.Context, topic trade.TopicID, partition int32, end int64, requests []trade.PendingRequest) ([]trade.Decision, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.TxTimeout)
	defer cancel()
	outcomes, err := s.close(ctx, topic, partition, end, requests)
	if err != nil {
		return nil, trade.Classed(classOf(err), "cannot close %d requests of partition %d: %w", len(requests), partition, err)
	}
	return outcomes, nil
}

func (s *Store) close(ctx context.Context, topic trade.TopicID, partition int32, end int64, requests []trade.PendingRequest) ([]trade.Decision, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release() // closes a connection that is still in a transaction, which rolls it back
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	if err != nil {
		return nil, abandon(ctx, conn.Conn(), nil, err)
	}
	outcomes, err := s.closeIn(ctx, tx, topic, partition, end, requests)
	if err != nil {
		return nil, abandon(ctx, conn.Conn(), tx, err)
	}
	return outcomes, commit(ctx, tx) // a crash from here on leaves outcomes that the orphan reaper finds next time
}

func (s *Store) closeIn(ctx context.Context, tx pgx.Tx, topic trade.TopicID, partition int32, end int64, requests []trade.PendingRequest) ([]trade.Decision, error) {
	var generation int32
	var next int64
	err := tx.QueryRow(ctx, lockPosition, topic, partition).Scan(&generation, &next)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, trade.Classed(trade.Broken, "the database has no position of the topic %x in the newest generation", topic)
	case err != nil:
		return nil, err
	case next < end:
		return nil, trade.Classed(trade.Fenced, "it is applied up to offset %d, not %d", next, end)
	}
	outcomes, err := decisionsOf(ctx, tx, requests) // after the lock, in READ COMMITTED: what its last holder committed shows
	if err != nil {
		return nil, err
	}
	known := make(map[trade.RequestID]bool, len(requests))
	for i := range outcomes {
		known[outcomes[i].ID] = true
	}
	now := s.cfg.Now().UTC().Truncate(time.Microsecond)
	// Rule R5 can be checked by this text: a record of the request that lands later lies at next or behind.
	detail := fmt.Sprintf("the trade never reached the log: partition %d was applied up to offset %d without it", partition, next)
	var closed []trade.Decision
	for i := range requests {
		r := &requests[i]
		if known[r.ID] {
			continue
		}
		known[r.ID] = true
		closed = append(closed, trade.Decision{
			RequestState: trade.RequestState{
				ID: r.ID, Status: trade.Failed, TradeID: r.TradeID, Version: r.Version, Reason: trade.NotDelivered, Detail: detail,
				AcceptedAt: r.AcceptedAt, DecidedAt: now,
			},
			Generation: generation, Partition: partition, Offset: trade.NoOffset, CorrelationID: r.CorrelationID, TraceParent: r.TraceParent,
		})
	}
	if len(closed) == 0 {
		return outcomes, nil
	}
	return append(outcomes, closed...), insertClosed(ctx, tx, closed)
}

// insertClosed writes the journal rows of requests of one partition, decided together. The key of the journal makes it
// fail with class Repeatable where someone else decided one of them since: a record in a partition not its own.
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
	tag, err := tx.Exec(ctx, closeUndelivered, first.DecidedAt, first.Generation, first.Partition, string(first.Reason), first.Detail,
		accepted, days, versions, ids, tradeIDs, correlations, parents)
	return checkRows(tag, err, n)
}
