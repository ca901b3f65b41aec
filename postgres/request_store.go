package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"tradestore/trade"
)

// RequestStore is the request store in PostgreSQL. A PENDING entry is a row that is inserted and never updated. The
// outcome of a request is its journal row, which commits together with the trade. So there is nothing to project, and a
// terminal state can't change (rule S1). Its methods may be called concurrently.
type RequestStore struct {
	pool *pgxpool.Pool
	read readPool // the same pool
	days knownDays
	scan pendingScan
}

// NewRequestStore returns a RequestStore on a pool of Open, which must lead to the database that the worker applies to.
func NewRequestStore(pool *pgxpool.Pool) *RequestStore {
	return &RequestStore{pool: pool, read: readPool{pool}}
}

// copyRequests serves every batch size: an INSERT of arrays costs the same for 1 to 100 requests (0.5 ms a call with
// the flush to disk), and more for 500 (BenchmarkOpen).
const copyRequests = `
	COPY requests (accepted_at, accepted_on, partition, version, request_id, trade_id, correlation_id) FROM STDIN BINARY`

// Open stores a PENDING entry for each request with one statement: all of them become durable or none. The result is
// nil, or every error wraps trade.ErrNotOpened (the statement was refused or not sent), or no error does: there was no
// answer, and the entries may exist. The caller must not repeat it (rule C3).
func (s *RequestStore) Open(ctx context.Context, batch []*trade.Request) []error {
	if len(batch) == 0 {
		return nil
	}
	err := s.open(ctx, batch)
	if err == nil {
		return nil
	}
	return slices.Repeat([]error{err}, len(batch))
}

func (s *RequestStore) open(ctx context.Context, batch []*trade.Request) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("cannot open %d requests, no connection: %w: %w", len(batch), trade.ErrNotOpened, err)
	}
	defer conn.Release()
	if err := checkUsable(ctx, conn.Conn()); err != nil {
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
		// Ids are fresh, so this is a copy of an earlier call: the entry exists.
		return fmt.Errorf("cannot open %d requests, some are known: %w", len(batch), err)
	case refused(err):
		return fmt.Errorf("cannot open %d requests: %w: %w", len(batch), trade.ErrNotOpened, err)
	}
	return fmt.Errorf("no answer to opening %d requests: %w", len(batch), err)
}

// readRequest reads the journal row and the PENDING row of a request, the journal row first.
const readRequest dayQuery = `
	SELECT outcome, trade_id, version, reason, detail, accepted_at, decided_at FROM (
		SELECT 1 AS side, outcome, trade_id, version, reason, detail, accepted_at, decided_at
		FROM %[1]s WHERE accepted_on = $1 AND request_id = $2
		UNION ALL
		SELECT 2, NULL, trade_id, version, NULL, NULL, accepted_at, NULL
		FROM %[2]s WHERE accepted_on = $1 AND request_id = $2
	) AS sides ORDER BY side`

// Get reads a request, strongly consistent with every Open and every committed outcome before the call.
// Errors: trade.ErrNotFound; any other means that the database can't answer now.
func (s *RequestStore) Get(ctx context.Context, id trade.RequestID) (trade.RequestState, error) {
	days, err := s.daysOf(ctx, id)
	var sides []trade.RequestState
	if err == nil && len(days) > 0 {
		err = s.onDay(ctx, readRequest, days[0].date, []any{[16]byte(id)}, func(rows pgx.Rows) (err error) {
			sides, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (trade.RequestState, error) {
				return scanSide(row, id)
			})
			return err
		})
	}
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
	if state.TradeID == "" { // an invalid record: the journal does not have its fields, the PENDING row does
		state.TradeID, state.Version = entry.TradeID, entry.Version
	}
	return state, nil
}

// scanSide reads one row of readRequest: the status is empty if it is the PENDING row.
func scanSide(row pgx.CollectableRow, id trade.RequestID) (r trade.RequestState, err error) {
	var status, tradeID, reason, detail *string
	var version *int32
	var decidedAt *time.Time
	err = row.Scan(&status, &tradeID, &version, &reason, &detail, &r.AcceptedAt, &decidedAt)
	r.ID, r.Status, r.TradeID, r.Version = id, trade.Status(value(status)), value(tradeID), value(version)
	r.Reason, r.Detail = trade.Code(value(reason)), value(detail)
	r.AcceptedAt, r.DecidedAt = r.AcceptedAt.UTC(), value(decidedAt).UTC()
	return r, err
}

// pendingOfTrade selects the undecided requests of one trade among those after the marks: before the mark of its
// partition a request has an outcome, or is noted as late. An index on trade_id would make opening a request cost 6.5
// instead of 3.7 microseconds of PostgreSQL.
const pendingOfTrade = `
	SELECT ` + pendingColumns + ` FROM requests AS r
	WHERE r.trade_id = $1
	  AND r.accepted_at >= coalesce((SELECT min(walked) FROM orphan_marks), now() - INTERVAL '1 hour')
	  AND ` + withoutOutcome + `
	ORDER BY r.accepted_at, r.request_id LIMIT $2`

// PendingOf returns up to limit requests of one trade that have no outcome, the oldest first. Its cost grows with the
// requests that no orphan reaper has scanned yet: those of a minute or two, or of a backlog.
func (s *RequestStore) PendingOf(ctx context.Context, tradeID string, limit int) ([]trade.PendingRequest, error) {
	rows, err := s.read.Query(ctx, pendingOfTrade, tradeID, limit)
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

// Project does nothing: an outcome is visible as soon as its journal row is committed.
func (s *RequestStore) Project(context.Context, []trade.Decision) error { return nil }
