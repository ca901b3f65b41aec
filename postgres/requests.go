package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"tradestore/trade"
)

// RequestLog is the request store in PostgreSQL. PENDING entries are rows that are only ever inserted; the end of a request
// is its journal row, which commits together with the trade. So there is nothing to project, and a terminal state can't
// change. Its methods may be called concurrently.
type RequestStore struct {
	pool *pgxpool.Pool
	walk walk
}

// NewRequestLog makes a RequestLog on a pool of Open, which must lead to the database that the worker applies to.
func NewRequestStore(pool *pgxpool.Pool) *RequestStore { return &RequestStore{pool: pool} }

// One COPY for every size: against an INSERT of arrays it was within the noise at 1 to 100 requests (0.5 ms a call with
// the flush to disk), and cheaper at 500 (BenchmarkOpen).
const copyRequests = `COPY requests (accepted_at, accepted_on, partition, version, request_id, trade_id, correlation_id) FROM STDIN BINARY`

// Open stores a PENDING entry for each request with one statement: all of them become durable or none does. So either
// the result is nil, or every error wraps trade.ErrNotOpened (refused, or never sent), or none does: no answer came, and
// the entries may exist.
func (l *RequestStore) Open(ctx context.Context, batch []*trade.Request) []error {
	if len(batch) == 0 {
		return nil
	}
	err := l.open(ctx, batch)
	if err == nil {
		return nil
	}
	errs := make([]error, len(batch))
	for i := range errs {
		errs[i] = err
	}
	return errs
}

func (l *RequestStore) open(ctx context.Context, batch []*trade.Request) error {
	conn, err := l.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("cannot open %d requests, no connection: %w: %w", len(batch), trade.ErrNotOpened, err)
	}
	defer conn.Release()
	if err := unsent(ctx, conn.Conn()); err != nil {
		return fmt.Errorf("cannot open %d requests: %w: %w", len(batch), trade.ErrNotOpened, err)
	}
	err = copyRows(ctx, conn.Conn(), copyRequests, len(batch), func(c *copyBuffer, i int) {
		r := batch[i]
		c.row(7)
		c.time(r.AcceptedAt)
		c.date(r.AcceptedOn())
		c.int4(r.Partition)
		c.int4(r.Trade.Version)
		c.id(r.ID)
		c.text(r.Trade.TradeID)
		c.textOrNull(r.CorrelationID)
	})
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &pg) && pg.Code == uniqueViolation:
		// Ids are fresh, so this is an earlier copy of a request: its entry exists.
		return fmt.Errorf("cannot open %d requests, some are known: %w", len(batch), err)
	case refused(err):
		return fmt.Errorf("cannot open %d requests: %w: %w", len(batch), trade.ErrNotOpened, err)
	}
	return fmt.Errorf("no answer to opening %d requests: %w", len(batch), err)
}

// readRequest reads both sides of a request in one statement, hence in one snapshot: the journal row first, if there is
// one. The day leads to the partition.
const readRequest = `
	SELECT outcome, trade_id, version, reason, detail, accepted_at, decided_at
	FROM unnest($1::date[]) AS d(day) CROSS JOIN LATERAL (
		SELECT 1 AS side, outcome, trade_id, version, reason, detail, accepted_at, decided_at
		FROM journal WHERE accepted_on = d.day AND request_id = $2
		UNION ALL
		SELECT 2, NULL, trade_id, version, NULL, NULL, accepted_at, NULL
		FROM requests WHERE accepted_on = d.day AND request_id = $2
	) AS sides ORDER BY side`

// Get reads a request, strongly consistent with every Open and every committed outcome before the call.
// Errors: trade.ErrNotFound; any other means that the database can't answer now.
func (l *RequestStore) Get(ctx context.Context, id trade.RequestID) (trade.RequestState, error) {
	days, err := l.days(ctx, id)
	if err != nil {
		return trade.RequestState{}, fmt.Errorf("cannot read request %s: %w", id, err)
	}
	rows, err := l.pool.Query(ctx, readRequest, days, [16]byte(id))
	if err != nil {
		return trade.RequestState{}, fmt.Errorf("cannot read request %s: %w", id, err)
	}
	sides, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s trade.RequestState, err error) {
		var status, tradeID, reason, detail *string
		var version *int32
		var decidedAt *time.Time
		err = row.Scan(&status, &tradeID, &version, &reason, &detail, &s.AcceptedAt, &decidedAt)
		s.ID, s.Status, s.TradeID, s.Version = id, trade.Status(value(status)), value(tradeID), value(version)
		s.Reason, s.Detail = trade.Code(value(reason)), value(detail)
		s.AcceptedAt, s.DecidedAt = s.AcceptedAt.UTC(), value(decidedAt).UTC()
		return s, err
	})
	switch {
	case err != nil:
		return trade.RequestState{}, fmt.Errorf("cannot read request %s: %w", id, err)
	case len(sides) == 0:
		return trade.RequestState{}, fmt.Errorf("request %s: %w", id, trade.ErrNotFound)
	}
	state, entry := sides[0], sides[len(sides)-1]
	if state.Status == "" {
		state.Status = trade.Pending
	}
	if state.TradeID == "" { // the record could not be stored, what was accepted is known all the same
		state.TradeID, state.Version = entry.TradeID, entry.Version
	}
	return state, nil
}

// days returns where to look for a request. A version 7 id carries its day. Any other was derived from an idempotency key,
// and the entry of the key knows it; without one there is no such request, or none any more.
func (l *RequestStore) days(ctx context.Context, id trade.RequestID) ([]time.Time, error) {
	if day, ok := id.Day(); ok {
		return []time.Time{day.Time()}, nil
	}
	rows, err := l.pool.Query(ctx, `SELECT accepted_on FROM idempotency WHERE request_id = $1`, [16]byte(id))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[time.Time])
}

// pendingOfTrade reads the requests of one trade that have no outcome, among all that the orphan reaper has not walked: it moves
// its mark up to the first that has none. An index on the trade would cost the opening of a request three quarters more
// (6.5 against 3.7 microseconds of PostgreSQL each). OFFSET 0 keeps the probe of the journal from being turned into a join.
const pendingOfTrade = `
	SELECT r.request_id, r.accepted_at, r.partition, r.trade_id, r.version, r.correlation_id FROM requests AS r
	WHERE r.trade_id = $1
	  AND r.accepted_at >= coalesce((SELECT walked FROM orphan_mark WHERE one), now() - INTERVAL '1 hour')
	  AND NOT EXISTS (SELECT FROM journal AS s WHERE s.accepted_on = r.accepted_on AND s.request_id = r.request_id OFFSET 0)
	ORDER BY r.accepted_at, r.request_id LIMIT $2`

// PendingOf returns up to limit requests of one trade that have no outcome, the oldest first. It takes as long as there are
// requests that no orphan reaper has walked: those of a minute or two, or of a backlog.
func (l *RequestStore) PendingOf(ctx context.Context, tradeID string, limit int) ([]trade.PendingRequest, error) {
	rows, err := l.pool.Query(ctx, pendingOfTrade, tradeID, limit)
	var found []trade.PendingRequest
	if err == nil {
		found, err = pgx.CollectRows(rows, scanPending)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the pending requests of a trade: %w", err)
	}
	return found, nil
}

func scanPending(row pgx.CollectableRow) (p trade.PendingRequest, err error) {
	var correlationID *string
	err = row.Scan((*[16]byte)(&p.ID), &p.AcceptedAt, &p.Partition, &p.TradeID, &p.Version, &correlationID)
	p.AcceptedAt, p.CorrelationID = p.AcceptedAt.UTC(), value(correlationID)
	return p, err
}

// Project has nothing to do: an outcome is visible from the moment that its journal row is committed.
func (l *RequestStore) Project(context.Context, []trade.Decision) error { return nil }
