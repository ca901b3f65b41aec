package dynamo

import (
	"context"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"
)

// batchSize is the most items or statements that DynamoDB takes in one call.
const batchSize = 25

// Backoff after a refusal for lack of capacity. A burst is over in less than a second; a table that has to split takes
// minutes.
const (
	firstPause   = 20 * time.Millisecond
	longestPause = 500 * time.Millisecond
)

// forEachBatch calls do for each batch [from, to) of n items, several at once, and waits for all of them.
func (s *RequestStore) forEachBatch(n int, do func(from, to int)) {
	var calls errgroup.Group
	calls.SetLimit(s.cfg.Calls)
	for from := 0; from < n; from += batchSize {
		calls.Go(func() error {
			do(from, min(from+batchSize, n))
			return nil
		})
	}
	_ = calls.Wait() // no batch returns an error
}

// pause waits before try number n+1. It returns false at once if ctx would end before.
func pause(ctx context.Context, n int) bool {
	d := min(firstPause<<min(n, 10), longestPause)
	d = d/2 + rand.N(d/2+1) // jitter: calls that were refused together must not be repeated together
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= d {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
