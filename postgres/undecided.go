package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"tradestore/trade"
)

// endOfTime lies behind every request, also those of a server whose clock is ahead.
var endOfTime = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// Undecided returns up to limit requests that have no outcome, whenever they were accepted, the oldest first. It walks as
// Pending does, but to the end at once, so it takes as long as there are requests that no orphan reaper has walked. Requests
// that are committed during the call may be missing. Errors: the database can't answer now.
func (l *RequestStore) Undecided(ctx context.Context, limit int) ([]trade.PendingRequest, error) {
	all := &RequestStore{pool: l.pool}
	w := &all.walk
	var now time.Time
	err := l.pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now)
	if err == nil {
		err = all.begin(ctx)
	}
	for projected := now.Add(-commitDelay); err == nil; {
		if err = all.walkTo(ctx, projected, limit); err == nil && (!w.walked.Before(projected) || len(w.undecided) >= limit) {
			break
		}
	}
	if err == nil { // the last seconds, which a walk that goes on leaves for later
		_, err = all.keep(ctx, limit, undecidedRows, w.walked, endOfTime)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list undecided requests: %w", err)
	}
	return slices.SortedFunc(maps.Values(w.undecided), func(a, b trade.PendingRequest) int { return a.AcceptedAt.Compare(b.AcceptedAt) }), nil
}
