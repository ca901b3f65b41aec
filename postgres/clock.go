package postgres

import (
	"context"
	"time"

	"tradestore/trade"
)

// Clock returns the time of the clock of the server.
func Clock(ctx context.Context, db querier) (now time.Time, err error) {
	err = db.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now)
	return now, err
}

// Clock returns the time of the clock of the database, which all workers share.
func (m *Maintainer) Clock(ctx context.Context) (time.Time, error) {
	now, err := Clock(ctx, m.pool)
	if err != nil {
		return now, trade.Classed(classify(err), "cannot read the clock of the database: %w", err)
	}
	return now, nil
}
